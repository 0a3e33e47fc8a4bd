"""Data of one's own, from the file to scores and a student: Python and the command line give the same numbers."""

import json
from pathlib import Path

import datasets
import pandas
import pytest
from small_runs import make_checkpoint

from compact_biomed import cli
from compact_biomed.compression.distillation.compress import compress_for_task
from compact_biomed.evaluation.api import finetune

FAST = {"precision": "fp32", "replicas": 1, "learning_rate": 1e-2, "epochs": 1}
FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in FAST.items()]
WORDS = ("the", "mild", "fever", "of", "old", "frogs")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A checkpoint, and topics.csv, on which it was fine-tuned from the command line."""
    root = tmp_path_factory.mktemp("own")
    make_checkpoint(root / "small")
    texts = [f"{WORDS[i % 6]} {WORDS[i // 6]} {WORDS[i * 5 % 6]}" for i in range(36)]
    frame = pandas.DataFrame({"abstract": texts, "topic": [text.split()[0] for text in texts]})
    frame.to_csv(root / "topics.csv", index=False)
    flags = ["--model", str(root / "small"), "--train", str(root / "topics.csv"), "--label-column", "topic", *FLAGS]
    assert cli.main(["evaluate", *flags, "--records", str(root / "r.jsonl"), "--save", str(root / "kept")]) == 0
    return root


def test_python_and_the_command_line_give_the_same_numbers(place: Path, tmp_path: Path) -> None:
    frame = pandas.read_csv(place / "topics.csv")
    (line,) = (json.loads(line) for line in (place / "r.jsonl").read_text().splitlines())
    options = {"label_column": "topic", "task_name": "topics", **FAST}
    (record,) = finetune(place / "small", train=frame, records=tmp_path / "r.jsonl", **options).records
    for part in ("run", "score", "metrics", "counts", "seed"):
        assert record[part] == line[part], part  # the run's key is a hash of the examples, among others
    assert record["how"]["training_loss"] == line["how"]["training_loss"]
    # Other objects are the same run: it is found, not trained again.
    options["label_column"] = None
    pairs = list(zip(frame.abstract, frame.topic, strict=True))
    for data in (pairs, datasets.Dataset.from_pandas(frame), frame.to_dict("list"), frame.to_dict("records")):
        again = finetune(place / "small", train=data, records=tmp_path / "r.jsonl", **options)
        assert [each["run"] for each in again.records] == [line["run"]]
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 1


def test_the_saved_model_finds_its_data_again(place: Path, tmp_path: Path, capsys) -> None:
    kept, records = place / "kept" / "small-topics-seed1", ["--records", str(tmp_path / "r.jsonl")]
    result = compress_for_task(kept, 1, records=tmp_path / "r.jsonl", save=tmp_path, **FAST)
    assert result.records[0]["task"]["name"] == "topics" and not result.failed
    assert result.records[0]["task"]["files"]["train"] == str((place / "topics.csv").resolve())
    small = str(result.saved[0])
    assert cli.main(["score", "--model", str(kept), "--precision", "fp32", *records]) == 0
    assert cli.main(["tables", *records]) == 0
    assert "topics, accuracy" in capsys.readouterr().out
    # Moved data: one line, and one flag mends it.
    moved = (place / "topics.csv").rename(tmp_path / "moved.csv")
    try:
        assert cli.main(["score", "--model", small, *records]) == 1
        assert "topics.csv (say where they are by --train PATH)" in capsys.readouterr().err
        assert cli.main(["score", "--model", small, "--train", str(moved), "--precision", "fp32", *records]) == 0
    finally:
        moved.rename(place / "topics.csv")
