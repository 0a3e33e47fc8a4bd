"""Faulty settings files, flags and names of files."""

import json
import os
from pathlib import Path

import pytest
from faults import Commands, check_all, nothing_half_written, refused
from mutations import DEEP, DIGITS, of_bytes, of_json, of_values

SUITE = 'tasks = ["GAD"]\nseeds = [1]\nprotocol = "standard"\n\n[models]\nm = "some/where"\n'
LONG, NOT_UTF8 = "n" * 300, os.fsdecode(b"caf\xe9")
# Value of a key -> what is put in its place.
TOML = {
    '["GAD"]': ["7", '"GAD"', "[7]", "[]", '["none such"]', "{a = 1}", "[" * DEEP + "]" * DEEP],
    "[1]": ["1", "[]", "[-1]", "[1.5]", "[nan]", f"[{DIGITS}]", '["1"]', "[[1]]", "[4294967296]"],
    '"standard"': ["7", '"none"', "true", '""', "[]"],
    '"some/where"': ["7", '""', "[1]", '"/no/such/folder"', '"registry:none"', f'"/{LONG}"', '"/a\\u0000b"'],
    "[models]": ["[modles]", "[[models]]", "models = 7", ""],
    "m =": ['"" =', '"two\\nlines" =', "= ", f"{LONG} ="],
}


def test_a_suite(command: Commands, tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    faults = {f"{old} {new[:20]}": SUITE.replace(old, new).encode() for old, all_new in TOML.items() for new in all_new}
    faults |= {name: content for name, content in of_bytes(SUITE.encode()).items()}

    def check(_: str, content: bytes) -> None:
        path.write_bytes(content)
        ended = command("evaluate", "--suite", path, "--records", tmp_path / "r.jsonl", "--data", tmp_path)
        refused(ended)
        assert not (tmp_path / "r.jsonl").exists()
        nothing_half_written(tmp_path)

    check_all(faults, check)


MATCH = {"layer_S": 0, "layer_T": 0, "feature": "hidden", "loss": "hidden_mse", "weight": 1.0}


def test_terms_of_a_distillation(command: Commands, tmp_path: Path) -> None:
    path = tmp_path / "terms.json"
    faults = {name: f"[{text}]".encode() for name, text in of_values(MATCH).items()}
    faults |= of_json(json.dumps([MATCH]).encode())
    del faults["whole list"]  # no matches is no fault

    def check(_: str, content: bytes) -> None:
        path.write_bytes(content)
        flags = ("--teacher", tmp_path / "none", "--preset", "quick", "--sources", "none.jsonl", "--dry-run")
        refused(command("train", "distill", *flags, "--textbrewer-config", path, "--max-length", "8"))

    check_all(faults, check)


NAMES = {
    "evaluate --model": ["evaluate", "--model", "X"],
    "evaluate --suite": ["evaluate", "--suite", "X"],
    "evaluate --records": ["evaluate", "--model", "m", "--task", "GAD", "--data", ".", "--records", "X"],
    "evaluate --save": ["evaluate", "--model", "m", "--task", "GAD", "--data", ".", "--save", "X"],
    "evaluate --ner-dir": ["evaluate", "--model", "m", "--ner-dir", "X"],
    "predict": ["predict", "--model", "m", "X"],
    "predict --model": ["predict", "--model", "X", "a.txt"],
    "export": ["export", "--model", "m", "--output", "X"],
    "export --model": ["export", "--model", "X", "--output", "o"],
    "score": ["score", "--model", "X"],
    "tables": ["tables", "--records", "X"],
    "tables --output": ["tables", "--records", "r.jsonl", "--output", "X"],
    "corpus build": ["corpus", "build", "X"],
    "corpus build --out": ["corpus", "build", "a.txt", "--out", "X"],
    "train mlm": ["train", "mlm", "--start", "X", "--sources", "a.txt"],
    "train mlm --output-dir": ["train", "mlm", "--start", "m", "--sources", "a.txt", "--output-dir", "X"],
    "train distill": ["train", "distill", "--teacher", "X", "--sources", "a.txt"],
    "distill": ["distill", "--task", "GAD", "--teacher", "X", "--student", "m"],
    "bench step": ["bench", "step", "--records", "X", "--recipe", "none"],
}
OF_OUTPUT = {"long": LONG, "not UTF-8": NOT_UTF8, "in a file": "a.txt/x"}
HARD = OF_OUTPUT | {"empty": "", "loop": "loop", "none": "none/such"}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_files(command: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("Some words of a text.\n")
    Path("r.jsonl").write_text("")
    Path("loop").symlink_to("loop")

    def check(_: str, value: str) -> None:
        refused(command(*[value if argument == "X" else argument for argument in NAMES[name]]))
        assert sorted(path.name for path in tmp_path.rglob("*") if not path.is_dir()) == ["a.txt", "loop", "r.jsonl"]

    is_output = name.endswith(("--output", "--out", "--output-dir", "--records", "--save")) or name == "export"
    check_all(OF_OUTPUT if is_output else HARD, check)


# Commands whose work would be lost if their records could not be appended to this file in the end.
APPENDING = {
    "evaluate": ["evaluate", "--model", "m", "--task", "NCBI-disease", "--records", "X"],
    "score": ["score", "--model", "m", "--records", "X"],
    "bench step": ["bench", "step", "--records", "X"],
    "bench inference": ["bench", "inference", "--models", "m", "--records", "X"],
    "bench finetune": ["bench", "finetune", "--records", "X"],
}


@pytest.mark.parametrize("name", APPENDING)
@pytest.mark.parametrize("content", ["hello", '{"record": "scores"}\nhello', "[1]"])
def test_no_file_of_records(
    command: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str
) -> None:
    """A file without a last line end that is none of records is refused before the work, and left as it is."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "r.jsonl"
    path.write_text(content)
    refused(command(*[path if argument == "X" else argument for argument in APPENDING[name]]), "r.jsonl")
    assert path.read_text() == content and [item.name for item in tmp_path.iterdir()] == ["r.jsonl"]


FLAGS = {
    "evaluate": ["--seeds x", "--seeds", "--seeds -1", f"--seeds {DIGITS}", "--epochs 0", "--learning-rate nan"],
    "tables": ["--format docx", "--records", "nothing", "--trace x"],
    "predict": ["--window 0", "--threads 0", "--threads -3", "--precision fp8", "--format x"],
    "export": ["--int4", "--output"],
    "corpus build": ["--workers x", "--max-length x", "--heldout x", f"--max-length {DIGITS}"],
    "train mlm": ["--preset x", "--batch-size x", "--learning-rate x", "--max-steps x", f"--max-steps {DIGITS}"],
    "train distill": ["--temperature x", "--layer-map x", "--loss x", "--fidelity x", "--student-layers x"],
    "bench": ["nothing", "step --rounds x", "inference --threads x"],
    "demo": ["--port x", "--port 99999", "--threads 0"],
    "distill": ["--teacher t --student 0", "--teacher t --student -1"],
    "reproduce": ["--only nope --dry-run", "--seeds 1-5", "--seeds 99 --dry-run"],
}


def test_flags(command: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def check(name: str, arguments: list[str]) -> None:
        ended = command(*arguments)
        refused(ended)
        assert ended.status == 2 and not list(tmp_path.iterdir())

    check_all(
        {f"{verb} {flags[:30]}": [*verb.split(), *flags.split()] for verb, all_of in FLAGS.items() for flags in all_of},
        check,
    )
