"""Losses and scores reach a tracker, by the events of transformers' callbacks."""

from pathlib import Path
from typing import ClassVar

import pytest
from small_runs import make_checkpoint, make_ner_set
from small_tasks import small_task_model

from compact_biomed.benchmarks.tasks import ner_task_from_folder
from compact_biomed.errors import UsageError, UserError
from compact_biomed.evaluation import tracking
from compact_biomed.evaluation.protocols import FinetuneHyperparameters, Overrides
from compact_biomed.evaluation.runs import Runner
from compact_biomed.evaluation.suite import Suite
from compact_biomed.evaluation.suite_runs import run
from compact_biomed.evaluation.workspace import Workspace
from compact_biomed.machine import PerformanceSettings
from compact_biomed.training.arguments import check_trackers

SETTINGS = FinetuneHyperparameters(1e-2, epochs=1)


class Written:
    """A tracker that remembers what it was told."""

    runs: ClassVar[list[dict]] = []

    def on_train_begin(self, args, state, control, model, **kwargs) -> None:
        self.run = {"name": args.run_name, "folder": args.output_dir, "type": model.config.model_type, "logs": []}
        self.run["settings"] = (args.learning_rate, args.per_device_train_batch_size, args.num_train_epochs, args.seed)
        self.runs.append(self.run)

    def on_log(self, args, state, control, logs, **kwargs) -> None:
        self.run["logs"].append((state.global_step, logs))

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self.run["closed"] = True


def test_each_training_is_a_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(tracking.INTEGRATION_TO_CALLBACK, "written", Written)
    monkeypatch.setattr(tracking, "_LOG_EVERY", 0.0)
    models = {"m": str(make_checkpoint(tmp_path / "m"))}
    task = ner_task_from_folder(make_ner_set(tmp_path / "fevers", n=8))
    jobs = Suite(models, [task], [1], overrides=Overrides(learning_rate=1e-2, max_epochs=2, batch_size=4)).jobs()
    speed = PerformanceSettings(precision="fp32", replicas=1)
    workspace = Workspace(tmp_path / "r.jsonl", speed=speed, trackers=["written"])
    (record,) = run(jobs, Runner(workspace)).records
    trial, final = Written.runs
    assert (trial["name"], final["name"]) == ("m-fevers-seed0-trial1", "m-fevers-seed1")
    assert final["folder"] == str(tmp_path / "r.jsonl.logs" / "m-fevers-seed1") and final["type"] == "bert"
    assert trial["settings"] == (1e-2, 4, 2, 0) and final["settings"][3] == 1
    assert trial["closed"] and final["closed"]
    scores = [logs["eval_f1"] for _, logs in trial["logs"] if "eval_f1" in logs and "epoch" in logs]
    assert scores == record["search"]["tried"][0]["dev"]
    losses = [(step, logs["loss"]) for step, logs in final["logs"] if "loss" in logs]
    assert [step for step, _ in losses] == list(range(1, record["how"]["steps"] + 1))
    assert final["logs"][-1][1] == {f"test_{name}": value for name, value in record["metrics"].items()}


class Broken(Written):
    """A tracker whose server goes away after the first loss."""

    def on_log(self, args, state, control, logs, **kwargs) -> None:
        super().on_log(args, state, control, logs)
        raise ConnectionError("no route")


class Absent:
    """A tracker without a server."""

    def on_train_begin(self, *arguments, **named) -> None:
        raise ConnectionError("no server")


def test_a_tracker_that_fails_does_not_end_the_training(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(tracking.INTEGRATION_TO_CALLBACK, "broken", Broken)
    monkeypatch.setitem(tracking.INTEGRATION_TO_CALLBACK, "absent", Absent)
    tracker, model = tracking.Tracker(["broken"], "a/b", tmp_path), small_task_model("bert", "token")
    tracker.begin(model, SETTINGS, 1)
    for step in (1, 2):
        tracker.log(step, {"loss": 1.0})
    tracker.close()
    assert Written.runs[-1]["logs"] == [(1, {"loss": 1.0})]
    assert capsys.readouterr().err.count("broken gets no more reports: ConnectionError: no route") == 1
    with pytest.raises(UserError, match="absent does not begin: ConnectionError: no server"):
        tracking.Tracker(["absent"], "b", tmp_path).begin(model, SETTINGS, 1)


def test_a_tracker_that_is_not_there_is_named_with_its_package() -> None:
    with pytest.raises(UsageError, match="no tracker 'wanb'"):
        check_trackers(["wanb"])
    with pytest.raises(UserError, match=r"comet_ml is not installed \(pip install comet-ml; installed: "):
        check_trackers(["comet_ml"])
