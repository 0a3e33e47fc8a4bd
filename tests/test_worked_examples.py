"""The worked examples of docs/design.md: each really adds something to the package in a few lines."""

import json
import re
from pathlib import Path

import pytest
from small_runs import make_checkpoint, make_ner_set

from compact_biomed import cli
from compact_biomed.benchmarks.tasks import TASKS, Task

DESIGN = Path(__file__).parents[1] / "docs" / "design.md"


def lines_of(text: str) -> str:
    """Return a text without indentation and empty lines."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def test_the_page_quotes_this_file() -> None:
    quoted = re.findall(r"```python\n(.*?)```", DESIGN.read_text(encoding="utf-8"), re.DOTALL)
    here = lines_of(Path(__file__).read_text(encoding="utf-8"))
    assert quoted and [block for block in quoted if lines_of(block) not in here] == []


def test_a_new_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fevers = Task(
        name="Fevers",
        kind="ner",  # how examples are encoded and scored: a key of evaluation.kinds.KINDS
        version=1,
        place="NER/fevers",  # its folder in the data folder
        metric="f1",
        max_length=512,
        reader="ner",  # train, devel and test, one word and its tag per line
        sources=("where its files can be downloaded",),
    )
    monkeypatch.setitem(TASKS, fevers.name, fevers)
    make_ner_set(tmp_path / "data" / fevers.place, n=12)
    model, records = make_checkpoint(tmp_path / "small-bert"), tmp_path / "records.jsonl"
    flags = ["--task", "fevers", "--data", str(tmp_path / "data"), "--learning-rate", "0.01", "--epochs", "2"]
    assert cli.main(["evaluate", "--model", str(model), "--records", str(records), *flags]) == 0
    (scores,) = (record for record in map(json.loads, records.open()) if record["record"] == "scores")
    assert scores["task"]["name"] == "Fevers" and scores["task"]["examples"]["test"] == 6
    assert 0 <= scores["metrics"]["f1"] <= 100
