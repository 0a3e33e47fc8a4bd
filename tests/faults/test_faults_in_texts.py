"""Faulty texts: what `predict` reads, and the sources of a corpus."""

import json
from pathlib import Path

import pytest
from corpus_inputs import citation, medline
from faults import Commands, check_all, nothing_half_written, refused
from mutations import BROKEN_VALUES, DEEP, DIGITS, of_json, of_values
from tiny_checkpoints import make_checkpoint

REQUEST = {"id": "q", "text": "the fever of frogs", "question": "of what?"}
NO_FAULT = ("id", "pair")  # any value will do, or none


@pytest.fixture(scope="module")
def span(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("span"), "span")


def test_a_request(command: Commands, span: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    sound = json.dumps(REQUEST)
    faults: dict[str, str | bytes] = dict(of_values(REQUEST, keys=("text", "question")))
    faults |= {name: content for name, content in of_json(sound.encode()).items() if content.strip()}
    faults |= {f"id {name}": sound.replace('"q"', text) for name, text in BROKEN_VALUES.items() if name != "NaN"}

    def check(_: str, content: str | bytes) -> None:
        line = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(sound.encode() + b"\n" + line + b"\n")
        ended = command("predict", "--model", span, path)
        refused(ended, "a.jsonl")
        if line.isascii():
            json.loads(ended.out.splitlines()[0])  # what came before is answered

    check_all(faults, check)


DOCUMENT = {"pmid": 1, "version": 1, "year": 2001, "title": "A title.", "abstract": "An abstract of some words."}


def test_a_line_of_a_corpus(command: Commands, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    sound = json.dumps(DOCUMENT)
    faults = {name: content.encode() for name, content in of_values(DOCUMENT).items() if "missing" not in name}
    plausible = [f"{field} {value}" for field in ("title", "abstract") for value in ("null", "half a pair")]
    plausible += ["year null", "version null", "pmid null"]
    faults = {name: content for name, content in faults.items() if name not in plausible}
    faults |= {name: content for name, content in of_json(sound.encode()).items() if content.strip()}

    def check(_: str, content: bytes) -> None:
        path.write_bytes(sound.encode() + b"\n" + content + b"\n")
        refused(command("corpus", "build", path, "--workers", "1"), "a.jsonl")

    check_all(faults, check)
    nothing_half_written(tmp_path)


def test_a_citation(command: Commands, tmp_path: Path) -> None:
    path = tmp_path / "pubmed25n0001.xml"
    sound = medline(citation(7, "A title", "An abstract of some words."))
    faults = {
        "empty": b"",
        "cut": sound[: len(sound) // 2],
        "no XML": b"hello",
        "HTML": b"<html><body>404</body></html>",
        "digits of a PMID": sound.replace(b">7<", f">{DIGITS}<".encode()),
        "text for a PMID": sound.replace(b">7<", b">seven<"),
        "negative PMID": sound.replace(b">7<", b">-7<"),
        "digits of a version": sound.replace(b'Version="1"', f'Version="{DIGITS}"'.encode()),
        "deep": sound.replace(b"A title", b"<i>" * DEEP + b"</i>" * DEEP),
        "bytes": sound.replace(b"A title", b"\xff\xfe\x00"),
    }

    def check(_: str, content: bytes) -> None:
        assert content != sound
        path.write_bytes(content)
        refused(command("corpus", "build", path, "--workers", "1"), path.name)

    check_all(faults, check)
    nothing_half_written(tmp_path)
