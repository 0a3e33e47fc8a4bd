"""Kept and exported models on their test set: the scores of the harness, records that pair with its own."""

import json
import shutil
from pathlib import Path

import pytest
from small_runs import make_checkpoint, make_ner_set

from compact_biomed import cli
from compact_biomed.errors import UserError
from compact_biomed.inference.scoring import score
from compact_biomed.records import Records


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> tuple[Path, Path]:
    """A model that `evaluate --save` kept, and its set."""
    root = tmp_path_factory.mktemp("kept")
    data = make_ner_set(root / "fevers", n=60)
    start = make_checkpoint(root / "start")
    flags = ["--learning-rate", "3e-2", "--epochs", "4", "--precision", "fp32", "--name", "tiny", "--replicas", "1"]
    asked = ["evaluate", "--model", str(start), "--ner-dir", str(data), "--seeds", "3", *flags]
    assert cli.main([*asked, "--records", str(root / "r.jsonl"), "--save", str(root / "kept")]) == 0
    (folder,) = (root / "kept").iterdir()
    return folder, data


def test_in_the_same_precision_it_is_the_score_of_the_harness(kept, tmp_path) -> None:
    folder, data = kept
    was = json.loads((folder / "record.json").read_text())
    found = score(folder, Records(tmp_path / "r.jsonl"), ner_dir=data, precision="fp32")
    assert found["metrics"] == was["metrics"] and found["counts"] == was["counts"] and was["score"] > 20
    assert found["model"]["name"] == "tiny fp32" and found["of"] == was["run"] != found["run"]


def test_an_export_is_scored_and_compared_with_the_model(kept, tmp_path, capsys) -> None:
    folder, _ = kept
    assert cli.main(["export", "--model", str(folder), "--output", str(tmp_path / "int8"), "--int8"]) == 0
    records = str(tmp_path / "r.jsonl")
    for place, precision in ((folder, "fp32"), (tmp_path / "int8", "auto")):
        asked = ["score", "--model", str(place), "--records", records]  # the record says where the data are
        assert cli.main([*asked, "--precision", precision]) == 0
    names = [json.loads(line)["model"]["name"] for line in Path(records).read_text().splitlines()]
    assert names == ["tiny fp32", "tiny ONNX int8"]
    assert "when it was fine-tuned" in capsys.readouterr().err + capsys.readouterr().out
    assert cli.main(["tables", "compare", "--records", records, "--teacher", "tiny fp32"]) == 0
    assert "tiny ONNX int8" in capsys.readouterr().out


def test_what_is_recorded_is_not_computed_again(kept, tmp_path, monkeypatch) -> None:
    folder, data = kept
    store = Records(tmp_path / "r.jsonl")
    first = score(folder, store, ner_dir=data, precision="fp32")
    monkeypatch.setattr("compact_biomed.inference.scoring._predictions", None)
    assert score(folder, store, ner_dir=data, precision="fp32")["run"] == first["run"]
    assert len(store.lines) == 1


def test_what_cannot_be_scored_is_told(kept, tmp_path) -> None:
    folder, _ = kept
    store = Records(tmp_path / "r.jsonl")
    lost = shutil.copytree(folder, tmp_path / "lost")
    record = json.loads((folder / "record.json").read_text())
    for files, message in (({"train": str(tmp_path / "gone")}, "no longer at .*gone .*--train PATH"), ({}, "--train")):
        record["task"]["files"] = files
        (lost / "record.json").write_text(json.dumps(record))
        with pytest.raises(UserError, match=message):
            score(lost, store)
    with pytest.raises(UserError, match="no record of a fine-tuning"):
        score(tmp_path, store)
    other = make_ner_set(tmp_path / "fevers", n=12)
    with pytest.raises(UserError, match="not those of its record"):
        score(folder, store, ner_dir=other)
    more = shutil.copytree(kept[1], tmp_path / "more" / "fevers")
    train = next(more.glob("train*"))
    train.write_text(train.read_text() + "\nfrog\tB\n")
    with pytest.raises(UserError, match="train examples of fevers are not those"):
        score(folder, store, ner_dir=more)
    with pytest.raises(UserError, match="no such folder"):
        score(tmp_path / "nowhere", store)
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    (damaged / "record.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match="no record of a fine-tuning"):
        score(damaged, store, ner_dir=kept[1])
    assert store.lines == []
