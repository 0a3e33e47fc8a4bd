"""The whole way: fine-tune on invented files, write records, make tables and comparisons of them."""

import csv
import json
import re
from pathlib import Path

import pytest
from small_runs import make_checkpoint, make_ner_set

from compact_biomed import cli

FAST = ("--precision", "fp32", "--replicas", "1", "--learning-rate", "1e-2")
MODELS, SEEDS = ("large", "small"), (1, 2, 3)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models on an entity set (three seeds, searched on dev) and on two folds of a relation set (one seed)."""
    folder = tmp_path_factory.mktemp("whole")
    for seed, model in enumerate(MODELS):
        make_checkpoint(folder / model, seed=seed)
    make_ner_set(folder / "fevers", n=12)
    for fold in (1, 2):
        make_relation_fold(folder / "data" / "RE" / "GAD" / str(fold))
    models = "\n".join(f'{model} = "{folder / model}"' for model in MODELS)
    entities, relations = folder / "entities.toml", folder / "relations.toml"
    entities.write_text(f'ner_dirs = ["{folder / "fevers"}"]\nseeds = {list(SEEDS)}\n[models]\n{models}\n')
    relations.write_text(f'tasks = ["GAD"]\nseeds = [1]\nfolds = [1, 2]\n[models]\n{models}\n')
    file = folder / "out" / "records.jsonl"
    assert cli.main(["evaluate", "--suite", str(entities), "--records", str(file), *FAST]) == 0
    more = ["--data", str(folder / "data"), "--epochs", "2"]
    assert cli.main(["evaluate", "--suite", str(relations), "--records", str(file), *more, *FAST]) == 0
    return file


def make_relation_fold(folder: Path) -> None:
    """Sentences in which a gene that binds is related to the disease."""
    folder.mkdir(parents=True)
    rows = [(f"the @GENE$ {'binds' if n % 2 else 'of'} {n} @DISEASE$", n % 2) for n in range(24)]
    (folder / "train.tsv").write_text("".join(f"{text}\t{label}\n" for text, label in rows))
    test = "".join(f"{n}\told {text}\t{label}\n" for n, (text, label) in enumerate(rows[:8]))
    (folder / "test.tsv").write_text(f"index\tsentence\tlabel\n{test}")


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_records_become_the_table(records: Path, tmp_path: Path) -> None:
    kept = [json.loads(line) for line in records.read_text().splitlines()]
    assert [r["record"] for r in kept].count("search") == 2 and len(kept) == 2 + 2 * 3 + 2 * 2
    assert cli.main(["tables", "--records", str(records), "--format", "csv", "--output", str(tmp_path)]) == 0
    cells = {(row["model"], row["task"], row["metric"]): row for row in rows_of(tmp_path, "scores")}
    columns = [("GAD", "f1"), ("fevers", "f1"), ("fevers", "piece_f1")]
    assert list(cells) == [(model, *column) for model in MODELS for column in columns]
    for (model, task, metric), row in cells.items():
        runs = [r for r in kept if r["record"] == "scores" and (r["model"]["name"], r["task"]["name"]) == (model, task)]
        scores = [r["metrics"][metric] for r in runs]
        assert float(row["mean"]) == pytest.approx(sum(scores) / len(scores))
        assert row["seeds"] == ("3" if task == "fevers" else "1")
        assert float(row["low"]) <= float(row["mean"]) + 1e-9 and float(row["mean"]) <= float(row["high"]) + 1e-9
        if task == "GAD":
            assert row["notes"].startswith("macro-F1 ") and "; always the same answer: " in row["notes"]
            assert row["notes"].endswith("; folds 1, 2 of 10 alone; fewer than 3 seeds")
        else:
            assert row["notes"] == ""
        changed = "epochs 2, learning rate 0.01" if task == "GAD" else "learning rate 0.01"
        assert row["how"].endswith(f"labels standard; in place of the protocol's: {changed}")


def test_the_table_is_shown_with_its_footnotes(records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tables", "--records", str(records)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("| model | GAD, f1 | fevers, f1 | fevers, f1 on word-pieces |\n")
    assert re.search(r"\n\| small \| \d+\.\d\d \(1\)\\\* \| \d+\.\d\d ± \d+\.\d\d \(3\) \| ", shown)
    assert "- GAD: version 1, protocol standard, labels standard; in place of the protocol's: epochs 2" in shown


def test_records_become_the_comparison(records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["compare", "--records", str(records), "--teacher", "large", "--models", "small"]
    for form in ("csv", "md", "tex"):
        assert cli.main(["tables", *flags, "--format", form, "--output", str(tmp_path)]) == 0
    rows = {(row["task"], row["metric"]): row for row in rows_of(tmp_path, "compare")}
    assert list(rows) == [("GAD", "f1"), ("fevers", "f1"), ("fevers", "piece_f1")]
    for (task, _), row in rows.items():
        if task != "GAD":
            assert float(row["retained"]) == pytest.approx(float(row["mean"]) / float(row["teacher_mean"]))
            assert 0 < float(row["p_examples"]) <= float(row["p_examples_holm"]) <= 1
    assert "can't go below p = 0.25" in rows["fevers", "f1"]["notes"]
    # Two models of seconds: neither is above one answer for all, so the set says nothing of their difference.
    assert rows["GAD", "f1"]["retained"] == rows["GAD", "f1"]["p_t"] == ""
    assert "not compared: no model is above " in rows["GAD", "f1"]["notes"]


def test_protocols_share_a_table_that_names_them_and_can_be_chosen(records: Path, tmp_path: Path, capsys) -> None:
    """A run by the published protocol beside the others."""
    mixed = tmp_path / "mixed" / "records.jsonl"
    flags = ["--model", str(records.parents[1] / "small"), "--ner-dir", str(records.parents[1] / "fevers")]
    flags += ["--protocol", "published", "--epochs", "1", "--seeds", "1", "--records", str(mixed)]
    assert cli.main(["evaluate", *flags, *FAST[:4]]) == 0
    both = ["tables", "--records", str(records), str(mixed)]
    assert cli.main(both) == 0
    table = capsys.readouterr().out
    assert "| model | protocol |" in table and "| published, epochs 1 |" in table
    assert cli.main([*both, "--protocol", "published"]) == 0
    assert "labels published; in place of the protocol's: epochs 1" in capsys.readouterr().out
