"""`compact-biomed evaluate`: flags, the record, the summary."""

import json
from pathlib import Path

import pytest
from small_runs import make_checkpoint, make_ner_set

from compact_biomed import cli
from compact_biomed.evaluation.saved import model_name

FAST = ("--precision", "fp32", "--replicas", "1")


def test_a_set_of_ones_own_by_the_standard_protocol(tmp_path: Path, capsys) -> None:
    model, data = make_checkpoint(tmp_path / "small-bert" / "model"), make_ner_set(tmp_path / "fevers", n=12)
    records, saved = tmp_path / "records.jsonl", tmp_path / "saved"
    flags = ["--model", str(model), "--ner-dir", str(data), "--records", str(records), "--save", str(saved), *FAST]
    assert cli.main(["evaluate", *flags, "--learning-rate", "0.01"]) == 0
    search, scores = (json.loads(line) for line in records.read_text().splitlines())
    assert (search["record"], scores["record"]) == ("search", "scores")
    assert len(search["dev"]) == 40  # the epochs of a set this small
    assert scores["model"]["name"] == "small-bert" and scores["model"]["weights_sha256"]
    assert scores["task"]["name"] == "fevers" and scores["task"]["examples"] == {"train": 12, "dev": 4, "test": 6}
    assert scores["settings"]["stop_after"] == search["dev"].index(max(search["dev"])) + 1
    assert scores["search"]["tried"] == [{"learning_rate": 0.01, "dev": search["dev"]}]
    assert scores["score"] == scores["metrics"]["f1"]
    assert {"precision", "recall", "f1", "piece_f1"} <= scores["metrics"].keys()
    assert scores["how"]["tokens_per_second"] > 0 and scores["from"]["versions"]["torch"]
    assert_saved(saved / "small-bert-fevers-seed1", scores)
    summary = capsys.readouterr().err.partition("\nScores on test")[2].splitlines()
    names, row = summary[1:3]
    assert names.split() == ["model", "task", "(metric)", "mean", "sd", "seeds", "test", "set"]
    assert row.split() == ["small-bert", "fevers", "(f1)", f"{scores['score']:.2f}", "-", "1", "6", "examples"]
    assert row.index("6 examples") == names.index("test set")
    assert f"Next: compact-biomed tables --records {records}" in summary


def assert_saved(folder: Path, record: dict) -> None:
    """Check that transformers opens the folder, with the labels, and that it names its run."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    model, info = AutoModelForTokenClassification.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and model.config.id2label == {0: "B", 1: "I", 2: "O"}
    assert AutoTokenizer.from_pretrained(folder).is_fast
    assert json.loads((folder / "record.json").read_text())["run"] == record["run"]
    card = (folder / "README.md").read_text()
    assert "fevers" in card and f"| f1 | {record['score']:.2f} |" in card and "Labels: B, I, O." in card


def test_published_is_one_run_of_the_papers_seed_on_the_papers_labels(tmp_path: Path) -> None:
    model, data = make_checkpoint(tmp_path / "m"), make_ner_set(tmp_path / "fevers", n=12)
    records = tmp_path / "records.jsonl"
    flags = ["--model", str(model), "--ner-dir", str(data), "--records", str(records), "--protocol", "published"]
    assert cli.main(["evaluate", *flags, *FAST]) == 0
    (record,) = map(json.loads, records.read_text().splitlines())
    assert (record["seed"], record["protocol"]["level"], record["search"]) == (42, "published", None)
    assert record["settings"]["learning_rate"] == 5e-5 and record["settings"]["max_length"] == 64  # the model's limit


@pytest.mark.parametrize(
    ("flags", "message", "status"),
    [
        ((), "--model", 2),
        (("--model", "a", "--suite", "b"), "--model", 2),
        (("--suite", "b", "--seeds", "1"), "--seeds", 2),
        (("--model", "a", "--task", "nothing"), "no task 'nothing'", 2),
        (("--model", "a", "--epoch", "3"), "did you mean --epochs?", 2),
        (("--model", "/no/such/folder", "--task", "HoC"), "no such folder", 1),
    ],
)
def test_what_cannot_be_done_is_one_line(
    flags: tuple, message: str, status: int, capsys, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", *flags]) == status
    assert message in capsys.readouterr().err


def test_wrong_numbers_are_wrong_usage(capsys) -> None:
    for flags in (("--seeds", "a"), ("--epochs", "0"), ("--learning-rate", "-1"), ("--minutes", "nan")):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["evaluate", "--model", "a", *flags])


def test_names_of_models() -> None:
    assert model_name("runs/biotinybert_cl-mini/model") == "biotinybert_cl-mini"
    assert model_name("./here/") == "here"
    assert model_name("owner/name") == "name"
    assert model_name("registry:all-minilm-l6-v2") == "all-minilm-l6-v2"
