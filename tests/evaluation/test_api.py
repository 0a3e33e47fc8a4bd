"""Evaluation from Python is evaluation from the command line: the same names, defaults and scores."""

import argparse
import inspect
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from small_runs import make_checkpoint, make_ner_set

from compact_biomed import cli
from compact_biomed.benchmarks.own import OwnData
from compact_biomed.benchmarks.tasks import ner_task_from_folder
from compact_biomed.cli import evaluate
from compact_biomed.errors import UsageError, UserError
from compact_biomed.evaluation.api import finetune

FAST = {"precision": "fp32", "replicas": 1, "learning_rate": 1e-2, "epochs": 2}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    make_checkpoint(folder / "first"), make_checkpoint(folder / "second", seed=1)
    make_ner_set(folder / "fevers", n=12), make_ner_set(folder / "frogs", n=9)
    return folder


def test_python_and_the_command_line_give_the_same_scores(inputs: Path, tmp_path: Path) -> None:
    model, data = inputs / "first", inputs / "fevers"
    save = tmp_path / "saved"
    result = finetune(model, ner_dirs=[data], seeds=[1, 2], records=tmp_path / "python.jsonl", save=save, **FAST)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in FAST.items()]
    flags += ["--model", str(model), "--ner-dir", str(data), "--seeds", "1,2", "--records", str(tmp_path / "cli.jsonl")]
    assert cli.main(["evaluate", *flags]) == 0
    lines = [json.loads(line) for line in (tmp_path / "cli.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    for ours, theirs in zip(result.records, lines, strict=True):
        assert ours["run"] == theirs["run"]  # and so every hyperparameter
        assert ours["metrics"] == theirs["metrics"]
        assert ours["how"]["training_loss"] == theirs["how"]["training_loss"]
    assert result.scores == {"fevers": pytest.approx(sum(line["score"] for line in lines) / 2)}
    assert result.records_path == tmp_path / "python.jsonl" and result.records_path.is_file()
    assert result.saved == [save / f"first-fevers-seed{seed}" for seed in (1, 2)]
    assert not result.failed and not result.remaining


def test_several_models_and_tasks(inputs: Path, tmp_path: Path) -> None:
    models = {"a": str(inputs / "first"), "b": str(inputs / "second")}
    tasks = [ner_task_from_folder(inputs / name) for name in ("fevers", "frogs")]
    result = finetune(models, tasks, records=tmp_path / "r.jsonl", **FAST)
    assert [(model, *scores) for model, scores in result.scores_by_model.items()] == [
        ("a", "fevers", "frogs"),
        ("b", "fevers", "frogs"),
    ]
    with pytest.raises(ValueError, match="scores_by_model"):
        _ = result.scores
    again = finetune(models["a"], tasks[0], name="a", records=tmp_path / "r.jsonl", **FAST)
    assert again.scores == {"fevers": result.scores_by_model["a"]["fevers"]}
    assert len(result.records_path.read_text().splitlines()) == 4 and again.saved == []


def test_a_run_that_fails_is_listed(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = finetune(tmp_path / "empty", ner_dirs=inputs / "fevers", records=tmp_path / "r.jsonl", **FAST)
    assert result.scores == {} and [*result.failed] == ["empty on fevers, seed 1"]


def test_defaults_are_those_of_the_command_line() -> None:
    subparsers = argparse.ArgumentParser().add_subparsers()
    evaluate.add_parser(subparsers)
    flags = vars(subparsers.choices["evaluate"].parse_args([]))
    flags = {{"task": "tasks", "ner_dir": "ner_dirs"}.get(name, name): value for name, value in flags.items()}
    parameters = inspect.signature(finetune).parameters
    parameters = {name: parameter for name, parameter in parameters.items() if name != "own"}
    assert flags.keys() - {"suite", "run"} == parameters.keys() | OwnData.__annotations__.keys()
    assert all(flags[name] is None for name in OwnData.__annotations__)
    # Flags that a suite's file replaces have no default of their own.
    flags |= {"protocol": "standard", "ner_dirs": (), "records": str(flags["records"])}
    for name, parameter in parameters.items():
        assert name == "model" or flags[name] == parameter.default, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "other"}, "no protocol 'other'"),
        ({"seeds": []}, "not a list of seeds"),
        ({"epochs": 0}, "epochs 0"),
        ({"layer_decay": 1.5}, "layer_decay 1.5"),
        ({"average_last": -1.0}, "average_last -1.0"),
        ({"learning_rate": float("nan")}, "learning_rate nan"),
        ({"folds": [1]}, "none of the tasks has folds"),
        ({"tasks": "nothing"}, "no task 'nothing'"),
        ({"tasks": []}, "no name of a task"),
        ({"precision": "fp16"}, "no precision 'fp16'"),
        ({"kernels": "slow"}, "no kernels 'slow'"),
        ({"model": {"a": "b"}, "name": "c"}, "names of their own"),
        ({"model": {}}, "no models"),
        ({"jobs": 0}, "0 jobs"),
    ],
)
def test_arguments_that_cannot_be_used(tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        finetune(**{"model": "m", "records": tmp_path / "r.jsonl", **arguments})
    assert not (tmp_path / "r.jsonl").exists()


def test_a_folder_that_is_no_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        finetune("m", ner_dirs=[tmp_path / "nowhere"])


def test_other_editions_of_bioasq_are_learned_first_and_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "QA" / "BioASQ"
    folder.mkdir(parents=True)

    def write(name: str, *, keys: Iterable[str], answered: bool = True) -> None:
        answers = {"answers": [{"text": "frogs", "answer_start": 4}]} if answered else {}
        asked = [{"context": "old frogs", "qas": [{"id": f"{key}_1", "question": key, **answers}]} for key in keys]
        (folder / name).write_text(json.dumps({"data": [{"paragraphs": asked}]}))

    write("BioASQ-train-factoid-7b.json", keys=[f"seven{number}" for number in range(30)])
    write("BioASQ-test-factoid-7b.json", keys=["tested"], answered=False)
    golden = {"id": "tested", "type": "factoid", "exact_answer": [["frogs"]]}
    (folder / "7B_golden.json").write_text(json.dumps({"questions": [golden]}))
    write("BioASQ-train-factoid-5b.json", keys=["tested", "five1", "five2"])
    start = str(make_checkpoint(tmp_path / "checkpoint"))
    options = {"data": tmp_path, "records": tmp_path / "r.jsonl", "learning_rate": 1e-3, "epochs": 1}
    (record,) = finetune(start, "BioASQ-7b", intermediate_epochs=2, **options).records
    assert record["task"]["intermediate"]["examples"] == 2
    assert record["settings"]["intermediate_epochs"] == record["protocol"]["overrides"]["intermediate_epochs"] == 2
    (alone,) = finetune(start, "BioASQ-7b", **options).records
    assert "intermediate" not in alone["task"] and "intermediate_epochs" not in alone["settings"]
    # Other questions of other editions are another run.
    write("BioASQ-train-factoid-5b.json", keys=["five1"])
    (other,) = finetune(start, "BioASQ-7b", intermediate_epochs=2, **options).records
    assert len({record["run"], alone["run"], other["run"]}) == 3
