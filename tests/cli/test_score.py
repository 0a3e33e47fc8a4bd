"""Kept and exported models on their test set: the scores of the harness, records that pair with its own."""

import json
import shutil
from pathlib import Path

import pytest
from small_runs import make_checkpoint, make_ner_set

from compact_biomed import cli
from compact_biomed.compression.manifest import read_manifest
from compact_biomed.errors import UserError
from compact_biomed.evaluation.analysis.thresholds import thresholds_in
from compact_biomed.files import sha256_json, write_json
from compact_biomed.inference.model import load
from compact_biomed.inference.scoring import score
from compact_biomed.records.store import Records


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
    errors = tmp_path / "errors.jsonl"
    found = score(folder, tmp_path / "r.jsonl", ner_dir=data, precision="fp32", errors=errors, threshold="dev")
    assert found["analysis"] == was["analysis"] and found["thresholds"] == was["thresholds"]
    assert errors.read_text() == (folder / "errors.jsonl").read_text()
    assert found["metrics"] == was["metrics"] and found["counts"] == was["counts"] and was["score"] > 20
    assert found["model"]["name"] == "tiny fp32" and found["of"] == was["run"] != found["run"]


def test_a_kept_model_has_its_errors_and_thresholds(kept) -> None:
    folder, _ = kept
    record = json.loads((folder / "record.json").read_text())
    (row,) = record["analysis"]["by_label"].values()
    lines = [json.loads(line) for line in (folder / "errors.jsonl").read_text().splitlines()]
    errors = [error for line in lines for error in line["errors"]]
    assert sum("gold" in error for error in errors) == row["fn"]
    assert sum("predicted" in error for error in errors) == row["fp"]
    assert row["f1"] == pytest.approx(record["score"], abs=1e-3)
    assert record["thresholds"]["values"].keys() == {"Entity"} and record["thresholds"]["examples"] == 20
    assert f"| Entity | {row['precision']:.2f} |" in (folder / "README.md").read_text()


def test_an_export_is_scored_and_compared_with_the_model(kept, tmp_path, capsys) -> None:
    folder, _ = kept
    assert cli.main(["export", "--model", str(folder), "--output", str(tmp_path / "int8"), "--int8"]) == 0
    records = str(tmp_path / "r.jsonl")
    for place, precision in ((folder, "fp32"), (tmp_path / "int8", "auto")):
        asked = ["score", "--model", str(place), "--records", records]  # the record says where the data are
        assert cli.main([*asked, "--precision", precision]) == 0
    names = [json.loads(line)["model"]["name"] for line in Path(records).read_text().splitlines()]
    assert names == ["tiny fp32", "tiny ONNX int8"]
    printed = capsys.readouterr().err
    assert "(this model, ONNX int8)" in printed and "(at the end of its fine-tuning, fp32)" in printed
    assert "type    precision" in printed
    assert cli.main(["tables", "compare", "--records", records, "--teacher", "tiny fp32"]) == 0
    shown = capsys.readouterr().out
    assert "tiny ONNX int8, tiny fp32: the fine-tuned weights of tiny, scored again without training" in shown
    chosen = json.loads((folder / "record.json").read_text())["thresholds"]
    assert read_manifest(tmp_path / "int8")["thresholds"] == chosen
    assert load(tmp_path / "int8", threshold="dev").thresholds == thresholds_in({"thresholds": chosen})
    edit_manifest(tmp_path / "int8", thresholds={"values": {"Entity": 2}, "default": 0.0, "otherwise": None})
    with pytest.raises(UserError, match=r"manifest.json: thresholds.values.Entity: must be a number from 0 to 1"):
        load(tmp_path / "int8")


def edit_manifest(folder: Path, **changes) -> None:
    """Change a manifest, and seal it again."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text()) | changes
    del manifest["manifest_sha256"]
    write_json(path, manifest | {"manifest_sha256": sha256_json(manifest)})


def test_thresholds_drop_what_is_not_certain_in_every_format(kept, tmp_path, capsys) -> None:
    folder, data = kept
    (tmp_path / "a.txt").write_text("the mild fever of old frogs , fever the mild fever\n" * 5)

    def predicted(*flags: str) -> str:
        assert (
            cli.main(["predict", "--model", str(folder), "--precision", "fp32", *flags, str(tmp_path / "a.txt")]) == 0
        )
        return capsys.readouterr().out

    every = [json.loads(line) for line in predicted().splitlines()]
    lowest = sorted(each["score"] for each in every)[len(every) // 2]
    fewer = [json.loads(line) for line in predicted("--threshold", str(lowest)).splitlines()]
    assert 0 < len(fewer) < len(every) and fewer == [each for each in every if each["score"] >= lowest]
    conll = predicted("--threshold", str(lowest), "--format", "conll").splitlines()
    assert sum(line.endswith("\tB") for line in conll) == len(fewer)
    dev = load(folder, precision="fp32", threshold="dev")
    assert (
        dev.thresholds.of("Entity")
        == json.loads((folder / "record.json").read_text())["thresholds"]["values"]["Entity"]
    )
    asked = ["score", "--model", str(folder), "--ner-dir", str(data), "--records", str(tmp_path / "r.jsonl")]
    assert cli.main([*asked, "--threshold", "0.99999"]) == 0
    printed = capsys.readouterr().err
    assert "With thresholds" in printed and "-> 0.00" in printed and "1.000" in printed
    with pytest.raises(SystemExit, match="2"):
        cli.main([*asked, "--threshold", "1.1"])
    assert "dev, or a number from 0 to 1, not '1.1'" in capsys.readouterr().err
    record = json.loads((folder / "record.json").read_text())
    without = shutil.copytree(folder, tmp_path / "without")
    write_json(without / "record.json", {name: part for name, part in record.items() if name != "thresholds"})
    assert cli.main(["predict", "--model", str(without), "--threshold", "dev", str(tmp_path / "a.txt")]) == 1
    assert "this model has no thresholds chosen on dev" in capsys.readouterr().err


def test_other_data_get_a_column_of_their_own(kept, tmp_path, capsys) -> None:
    folder, _ = kept
    spans = [{"text": f"Mild fever of {i} frogs.", "label": [[0, 10, "Sign"]]} for i in range(20)]
    (tmp_path / "clinic.jsonl").write_text("".join(json.dumps(row) + "\n" for row in spans))
    store = tmp_path / "r.jsonl"
    asked = ["score", "--model", str(folder), "--precision", "fp32", "--records", str(store)]
    for flags in ((), ("--test", str(tmp_path / "clinic.jsonl"))):
        assert cli.main([*asked, *flags]) == 0
    printed = capsys.readouterr().err
    assert "clinic: ner: Sign in 20 documents (doccano) (a test set alone)" in printed
    assert "types of entities are left out, because the model knows none: Sign" in printed
    assert "small" not in printed and "Scored on data it was not fine-tuned on." in printed
    assert "(at the end of its fine-tuning, fp32, on the test set of fevers)" in printed
    own, other = (json.loads(line) for line in store.read_text().splitlines())
    assert "trained_on" not in own and other["trained_on"] == {"name": "fevers", "fold": None}
    assert other["task"]["files"]["test"].endswith("clinic.jsonl") and "train" not in other["task"]["files"]
    assert score(folder, store, test=tmp_path / "clinic.jsonl", precision="fp32") == other  # recorded already
    named = score(folder, store, test=tmp_path / "clinic.jsonl", precision="fp32", task_name="ward")
    assert named["task"]["name"] == "ward" and named["score"] == other["score"]
    assert cli.main(["tables", "--records", str(store)]) == 0
    shown = capsys.readouterr().out
    assert "| model | clinic, f1 |" in shown and "- clinic, ward: version 1" in shown
    assert "fine-tuned on fevers, not on this task" in shown


def test_what_is_recorded_is_not_computed_again(kept, tmp_path, monkeypatch) -> None:
    folder, data = kept
    store = tmp_path / "r.jsonl"
    first = score(folder, store, ner_dir=data, precision="fp32")
    monkeypatch.setattr("compact_biomed.inference.scoring._predictions", None)
    assert score(folder, store, ner_dir=data, precision="fp32")["run"] == first["run"]
    assert len(Records(store).lines) == 1


def test_what_cannot_be_scored_is_told(kept, tmp_path) -> None:
    folder, _ = kept
    store = tmp_path / "r.jsonl"
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
    assert not store.exists()
