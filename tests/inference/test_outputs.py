"""Predictions as files: read back they are what `entities` finds; a failure leaves nothing; memory does not grow."""
# ruff: noqa: RUF001

import io
import json
from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoints import LABELS, build_tokenizer, make_checkpoint

from compact_biomed import cli
from compact_biomed.benchmarks.standoff.documents import AnnotatedDocument, Mention, Passage
from compact_biomed.benchmarks.standoff.formats import read_documents, write_documents
from compact_biomed.cli import predict
from compact_biomed.errors import UserError
from compact_biomed.inference import documents, outputs
from compact_biomed.inference.documents import Request, all_requests, files_of
from compact_biomed.inference.model import Predictor, load
from compact_biomed.inference.outputs import check_output, write_predictions

TEXTS = {"a": "the kinase of Müller–frogs\nand fevers in 🐸 µg.", "b": "", "c": "kin of the fever, the kin of TNF-α"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = load(make_checkpoint(tmp_path_factory.mktemp("ner"), "token"), precision="fp32")
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    for name, text in TEXTS.items():
        (tmp_path / "texts" / f"{name}.txt").write_bytes(text.encode())
    return tmp_path / "texts"


def spans(document: AnnotatedDocument) -> list[tuple[int, int, str]]:
    return [(*mention.span, mention.type) for mention in document.mentions]


@pytest.mark.parametrize(
    ("form", "long"), [("brat", 0), ("brat", 1 << 20), ("bioc", 0), ("bioc-json", 0), ("pubtator", 0)]
)
def test_what_is_written_is_read_back(model, folder: Path, tmp_path: Path, monkeypatch, form: str, long: int) -> None:
    monkeypatch.setattr(documents, "_LONG", long)
    write_predictions(model, all_requests(files_of([str(folder)])), form, tmp_path / "out")
    found = read_documents(tmp_path / "out", form)
    assert [document.id for document in found] == list(TEXTS)
    for document, text in zip(found, TEXTS.values(), strict=True):
        assert spans(document) == [(each.start, each.end, each.label) for each in model.entities(text)]
        assert document.text == text
    assert sum(len(document.mentions) for document in found) > 1
    if form.startswith("bioc"):
        assert float(found[0].mentions[0].infons["score"]) == round(model.entities(TEXTS["a"])[0].score, 4)


@pytest.mark.parametrize("form", ["bioc", "bioc-json", "pubtator"])
def test_documents_keep_their_ids_passages_and_offsets(model, tmp_path: Path, form: str) -> None:
    title, abstract = "the kinase of frogs.", "fevers of the kin and the kinase in frogs"
    passages = (Passage(0, 20, {"type": "title"}), Passage(21, 62, {"type": "abstract"}))
    given = AnnotatedDocument("77", f"{title}\n{abstract}", (Mention("T1", "Old", ((0, 3),)),), passages)
    path = tmp_path / ("a.json" if form == "bioc-json" else "a.xml" if form == "bioc" else "a.pubtator")
    write_documents([given], path, form)
    write_predictions(model, all_requests([str(path)]), form, tmp_path / "out")
    (document,) = read_documents(tmp_path / "out", form)
    assert (document.id, document.text) == ("77", given.text)
    assert [(each.start, each.end, each.infons["type"]) for each in document.passages] == [
        (0, 20, "title"),
        (21, 62, "abstract"),
    ]
    expected = [(e.start, e.end, e.label) for e in model.entities(title)]
    expected += [(e.start + 21, e.end + 21, e.label) for e in model.entities(abstract)]
    assert spans(document) == expected != []
    assert [(e.start, e.end, e.label) for e in model.entities(path)["77"]] == expected


def test_lines_of_several_files(model, folder: Path, capsys, monkeypatch) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "a.txt").write_text("the kin")
    files = files_of([str(folder), str(folder / "more" / "a.txt")])
    printed = {}
    for long in (0, 1 << 20):
        monkeypatch.setattr(documents, "_LONG", long)
        for form in ("jsonl", "conll"):
            write_predictions(model, all_requests(files), form, None, divided=True)
            printed[form, long] = capsys.readouterr().out
    assert printed["jsonl", 0] == printed["jsonl", 1 << 20] and printed["conll", 0] == printed["conll", 1 << 20]
    names = list(dict.fromkeys(json.loads(line)["document"] for line in printed["jsonl", 0].splitlines()))
    assert names == [str(folder / "a.txt"), "c.txt", str(folder / "more" / "a.txt")]
    begins = [line for line in printed["conll", 0].splitlines() if line.startswith("-DOCSTART-")]
    assert len(begins) == 4 and begins[1] == "-DOCSTART- (b.txt)\tO"
    lines = folder / "a.jsonl"
    lines.write_text('{"id": "x", "text": "the kin of frogs"}\n')
    write_predictions(model, all_requests([str(lines), str(lines)]), "jsonl", None)
    assert {json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()} == {str(lines)}


@pytest.mark.parametrize("form", ["jsonl", "conll", "brat", "bioc", "pubtator"])
def test_a_failure_leaves_nothing_and_what_was_there_stays(model, tmp_path: Path, form: str) -> None:
    broken, out = tmp_path / "a.jsonl", tmp_path / "out"
    broken.write_text('{"id": "x", "text": "the kin"}\n{"id": "x", "text": "b"}\n{"no": 1}\n')
    if form != "brat":
        out.write_text("before")
    with pytest.raises(UserError, match="a second document named 'x'" if form == "brat" else r"a\.jsonl:3: no"):
        write_predictions(model, all_requests([str(broken)]), form, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", *(["out"] if form != "brat" else [])]
    assert form == "brat" or out.read_text() == "before"


def test_where_output_cannot_go(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("")
    with pytest.raises(UserError, match="not an empty folder"):
        check_output(tmp_path / "full", "brat")
    with pytest.raises(UserError, match="a folder, not a file"):
        check_output(tmp_path / "full", "bioc")
    check_output(tmp_path / "new", "brat")


class Constant:
    """An engine in which each piece begins a disease."""

    family, labels, problem_type, limit, thresholds = "token", LABELS["token"], None, 64, None

    def __init__(self):
        self.tokenizer = build_tokenizer()

    def __call__(self, ids, types=None):
        return np.eye(5, dtype=np.float32)[[0] * len(ids)]


@pytest.mark.parametrize("form", ["jsonl", "conll", "brat"])
def test_a_long_text_is_written_while_it_is_read(tmp_path: Path, monkeypatch, form: str) -> None:
    for name in ("blocks", "tokens"):
        monkeypatch.setattr(f"compact_biomed.inference.words.{name}.__defaults__", (1 << 10,))
    read_so_far, ahead = [0], []

    def read(size: int = -1) -> str:
        part = text.read(size)
        read_so_far[0] += len(part)
        return part

    def write_lines(stream, lines) -> None:
        per_line = len(sentence) / (8 if form == "brat" else 4)  # four words, each an entity
        for number, line in enumerate(lines):
            ahead.append(read_so_far[0] - number * per_line)
            stream.write(f"{line}\n")

    sentence = "fever of the frogs "
    text = io.StringIO(sentence * 1000)
    monkeypatch.setattr(outputs, "_write_lines", write_lines)
    with Predictor(Constant(), name="constant", threads=1) as model:
        write_predictions(model, [Request("a.txt", read, is_long=True)], form, tmp_path / "out")
    assert len(ahead) == (8000 if form == "brat" else 4001 if form == "conll" else 4000) and max(ahead) < 4 << 10


def test_the_command_line(model, folder: Path, tmp_path: Path, capsys) -> None:
    assert predict._FORMATS == outputs.FORMATS and predict._KINDS == documents.KINDS
    asked = ["predict", "--model", model.name, "--precision", "fp32"]
    assert cli.main([*asked, str(folder), "--format", "brat", "--output", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{name}.{ending}" for name in TEXTS for ending in ("ann", "txt")
    ]
    assert capsys.readouterr().err.endswith("out: 3 documents\n")
    assert cli.main([*asked, str(folder), "--format", "brat"]) == 2
    assert "one document (--output DIR" in capsys.readouterr().err
    assert cli.main([*asked, "--embed", str(folder / "a.txt"), str(folder / "c.txt")]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    vectors = np.array([line["vector"] for line in lines], np.float32)
    assert [line["document"] for line in lines] == ["a.txt", "c.txt"]
    assert (vectors == model.embed([TEXTS["a"], TEXTS["c"]])).all()
    encoder = str(make_checkpoint(tmp_path / "mlm", "mlm"))
    assert cli.main(["predict", "--model", encoder, str(folder)]) == 1
    assert "no task to predict" in capsys.readouterr().err
