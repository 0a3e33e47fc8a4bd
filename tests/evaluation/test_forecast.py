"""What runs cost is told before they begin, and a dry run writes nothing."""

import dataclasses
from pathlib import Path

import pytest
from small_runs import make_checkpoint, make_ner_set

from compact_biomed import cli
from compact_biomed.benchmarks.examples import Splits, TextExample
from compact_biomed.benchmarks.tasks import TASKS, ner_task_from_folder
from compact_biomed.engine.plan import device_name
from compact_biomed.evaluation import cost, forecast, protocols
from compact_biomed.evaluation.cost import READING, recorded_rates, work_of
from compact_biomed.evaluation.protocols import Overrides
from compact_biomed.evaluation.runs import Runner
from compact_biomed.evaluation.suite import Suite
from compact_biomed.evaluation.suite_runs import survey
from compact_biomed.evaluation.workspace import Workspace
from compact_biomed.machine import PerformanceSettings

FP32 = PerformanceSettings(precision="fp32", replicas=1)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("forecast")
    make_checkpoint(folder / "first"), make_checkpoint(folder / "second", seed=1, hidden_size=32)
    make_ner_set(folder / "fevers")
    return folder


def texts(n: int, words: int) -> list[TextExample]:
    return [TextExample(f"{n}/{i}", "word " * words, None, "a") for i in range(n)]


@pytest.mark.parametrize(
    ("protocol", "overrides", "epochs", "scored"),
    [
        ("standard", {"max_epochs": 3}, 3, 3),
        ("standard", {"epochs": 3}, 3, 1),  # the last one is taken
        ("standard", {"epochs": 2, "max_train_examples": 5}, 1, 1),  # half of the examples
        ("thorough", {"max_epochs": 10}, 4, 4),  # patience ends it
    ],
)
def test_the_work_of_a_task(protocol: str, overrides: dict, epochs: int, scored: int) -> None:
    splits = Splits(texts(10, 10), texts(4, 10), texts(6, 1000))  # 14 pieces each; of the long ones, 256 are read
    applied = protocols.protocol(protocol, TASKS["PubMedQA"], 10, Overrides(**overrides))
    limit = applied.hyperparameters.max_length
    work = work_of(splits, applied, Overrides(**overrides))
    assert work.per_seed == pytest.approx(epochs * 140 + READING * 6 * limit)
    assert work.per_trial == pytest.approx(epochs * 140 + READING * scored * 4 * 14)
    more = work_of(splits, applied, Overrides(**overrides), further=texts(10, 10))
    assert more.once == work.once + 140 and more.examples["train"] == work.examples["train"] + 10


def test_trials_are_counted_once_and_time_comes_from_records_of_this_machine(place: Path, tmp_path: Path) -> None:
    models = {"first": str(place / "first"), "second": str(place / "second")}
    suite = Suite(models, [ner_task_from_folder(place / "fevers")], [1, 2])
    runner = Runner(Workspace(tmp_path / "records.jsonl", speed=FP32))
    expected = survey(suite.jobs(), runner).forecast
    (first, other), (again, _) = suite.jobs()[:2], suite.jobs()[2:]
    work = runner.work(first)[1]
    assert expected.tokens(first) == work.per_seed + 3 * work.per_trial and expected.tokens(again) == work.per_seed
    assert 1 < expected.flops(other) / expected.flops(first) < 4  # twice the width
    assert expected.seconds(first) == 0 and "less than a minute" in "".join(expected.lines(suite.jobs()))
    found = {"record": "search", "run": runner.search_key(first, protocols.Candidate(1e-4)), "dev": [1.0]}
    runner.store.add(found | {"model": {"name": "first"}})
    performance = {"device": device_name(), "tokens_per_second": 50.0}
    runner.store.add({"record": "scores", "run": "another", "model": {"name": "first"}, "how": performance})
    assert expected.seconds(first) == (work.per_seed + 2 * work.per_trial) / 50
    lines = "\n".join(expected.lines(suite.jobs()))
    assert "5 of 6" in lines and "learning rate (5e-05, 0.0001 or 0.0003) and the number of epochs" in lines


@pytest.mark.parametrize(
    "changes",
    [{"device": "another"}, {"tokens_per_second": 0.0}, {"tokens_per_second": None}, {"tokens_per_second": "fast"}],
)
def test_only_rates_of_this_model_here_count(changes: dict) -> None:
    how = {"device": "here", "tokens_per_second": 9.0}
    record = {"record": "scores", "model": {"name": "m"}, "how": how}
    others = [{**record, "how": how | changes}, {**record, "model": {"name": "n"}}, {**record, "record": "search"}]
    assert recorded_rates([record, *others, {"record": "scores"}], "m", "here") == [9.0]


def test_a_few_steps_are_timed_where_no_record_tells(place: Path, tmp_path: Path, monkeypatch) -> None:
    probed = []
    monkeypatch.setattr(forecast, "_SHORT", 0.0)
    monkeypatch.setattr(cost, "probe", lambda checkpoint, head, speed, **_: probed.append((checkpoint, head)) or 10.0)
    models = {"second": str(place / "second"), "first": str(place / "first")}
    suite = Suite(models, [ner_task_from_folder(place / "fevers")], [1])
    jobs = suite.jobs()
    expected = survey(jobs, Runner(Workspace(tmp_path / "r.jsonl", speed=FP32))).forecast
    assert probed == [(str(place / "first"), "token")]  # the smallest; the others' rates follow from their FLOPs
    assert expected.seconds(jobs[1]) == pytest.approx(expected.tokens(jobs[1]) / 10)
    ratio = expected.flops(jobs[0]) / expected.flops(jobs[1])
    assert expected.seconds(jobs[0]) == pytest.approx(ratio * expected.seconds(jobs[1]))


@pytest.mark.parametrize("head", ["token", "multilabel", "span"])
def test_a_probe_has_a_rate(place: Path, head: str) -> None:
    assert cost.probe(str(place / "first"), head, FP32, length=99.5) > 0  # longer than what the model reads


def test_a_dry_run_writes_nothing(place: Path, tmp_path: Path, capsys) -> None:
    flags = ["--model", str(place / "first"), "--train", str(place / "fevers"), "--records", str(tmp_path / "a" / "r")]
    grid = ["--learning-rates", "1e-3,1e-2", "--batch-sizes", "4,8", "--max-epochs", "2", "--save", str(tmp_path / "b")]
    assert cli.main(["evaluate", *flags, *grid, "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "4 of 4" in said and "the batch size (4 or 8)" in said and "nothing was written" in said
    assert not list(tmp_path.iterdir())
    assert cli.main(["evaluate", *flags, *grid, "--epochs", "3", "--dry-run"]) == 2
    assert "--epochs and --max-epochs at the same time" in capsys.readouterr().err


def test_a_grid_of_ones_own_is_searched_and_recorded(place: Path, tmp_path: Path) -> None:
    task = ner_task_from_folder(place / "fevers")
    overrides = Overrides(learning_rates=[1e-3, 1e-2], batch_sizes=[4, 8], max_epochs=2)
    suite = Suite({"first": str(place / "first")}, [task], [1], overrides=overrides).check("here")
    runner = Runner(Workspace(tmp_path / "r.jsonl", speed=FP32))
    record = runner.run(suite.jobs()[0])
    tried, settings = record["search"]["tried"], record["settings"]
    pairs = [(each["learning_rate"], each["batch_size"]) for each in tried]
    assert pairs == [(1e-3, 4), (1e-2, 4), (1e-3, 8), (1e-2, 8)]
    best = max(max(each["dev"]) for each in tried)
    chosen = tried[pairs.index((settings["learning_rate"], settings["batch_size"]))]
    assert chosen["dev"].index(best) + 1 == settings["stop_after"] and settings["epochs"] == 2
    (line,) = [line for line in runner.store.lines if line.record["record"] == "scores"]
    line.check()
    assert Overrides(**line.record["protocol"]["overrides"]) == overrides  # as pruning reads it back
    assert not dataclasses.replace(overrides, learning_rates=None).contradiction()
    assert not (tmp_path / "r.jsonl.checkpoints").exists()
