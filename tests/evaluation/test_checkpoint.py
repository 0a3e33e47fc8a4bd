"""A fine-tuning that was killed continues from its checkpoint, to the bits of one that was not."""

import dataclasses
import errno
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from small_tasks import VOCABULARY, small_task_model

from compact_biomed import files
from compact_biomed.engine import compiled
from compact_biomed.engine.plan import ComputePlan
from compact_biomed.evaluation import checkpoint as checkpoints
from compact_biomed.evaluation import monitor as monitors
from compact_biomed.evaluation.checkpoint import POSITION_FILE, WEIGHTS_FILE, RunCheckpoint
from compact_biomed.evaluation.learner import Learner
from compact_biomed.evaluation.monitor import Monitor
from compact_biomed.evaluation.protocols import FinetuneHyperparameters

SETTINGS = FinetuneHyperparameters(3e-3, epochs=2, batch_size=4, schedule="cosine", warmup=0.2)  # 4 steps per epoch
AVERAGED = dataclasses.replace(SETTINGS, average_last=0.5, layer_decay=0.8)
IN_FP32 = ComputePlan(torch.float32, True, 1, 64, 0.0, "test")


class Killed(BaseException):
    """The process ends here."""


def features(n: int = 14) -> list[dict]:
    generator = np.random.default_rng(5)
    ids = [[2, *generator.integers(5, VOCABULARY - 20, generator.integers(3, 40)).tolist(), 3] for _ in range(n)]
    return [{"input_ids": each, "example": i, "labels": [i % 3] * len(each)} for i, each in enumerate(ids)]


def train(folder: Path, settings: FinetuneHyperparameters, machine: ComputePlan, *, at: int = 0, how=None):
    """Train, with a checkpoint after every step; at step `at`, or after the epoch before it, call `how`.

    Returns:
        What `Learner.fit` returns but the time, the score of each epoch, and the weights.
    """
    model = small_task_model("bert", "token", torch.float32)
    model.unused = torch.nn.Parameter(torch.ones(3))  # without a gradient it must not decay, resumed or not
    monitor = Monitor(checkpoint=RunCheckpoint(folder / "records.jsonl", "run"), silent=True)
    monitor.resume(machine)
    learner = Learner(model, "token", machine)

    def after_step() -> None:
        if how and monitor.position.step + 1 == at:
            how()

    def after_epoch(number: int) -> None:
        if how and monitor.position.step == at:
            how()
        monitor.scored("f1", float(learner.logits(features(1))[0].sum()))

    learner.after_step = after_step
    try:
        stats = learner.fit(features(), settings, seed=3, after_epoch=after_epoch, monitor=monitor)
    finally:
        learner.close()
    return stats._replace(seconds=0.0), monitor.position.scores, dict(model.state_dict())


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power is cut here, and a slow disk would take most of the time."""
    monkeypatch.setattr(files, "_fsync", lambda path: None)


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_SAVE_EVERY", "_SAVE_AT_EPOCH"):
        monkeypatch.setattr(monitors, name, 0.0)
    monkeypatch.setattr(monitors, "_SHARE_OF_SAVING", float("inf"))


def kill() -> None:
    raise Killed


def assert_same(got: tuple, wanted: tuple) -> None:
    assert got[:2] == wanted[:2]
    assert got[2].keys() == wanted[2].keys()
    assert all(torch.equal(got[2][name], wanted[2][name]) for name in wanted[2])


@pytest.mark.parametrize(
    ("settings", "changes", "kills"),
    [
        (SETTINGS, {}, (3, 4, 8)),  # within an epoch, while its model is scored, and when everything is trained
        (AVERAGED, {}, (4, 7)),
        (AVERAGED, {"fast": False}, (3,)),
        (SETTINGS, {"dtype": torch.bfloat16}, (6,)),
    ],
    ids=["plain", "averaged", "transformers", "bf16"],
)
def test_a_killed_training_ends_with_the_bits_of_another(
    settings, changes: dict, kills: tuple, tmp_path: Path, every_step, monkeypatch
) -> None:
    monkeypatch.setenv(compiled.OFF, "1")  # compiling takes longer than all the rest
    machine = dataclasses.replace(IN_FP32, **changes)
    whole = train(tmp_path / "whole", settings, machine)
    assert settings is AVERAGED or torch.equal(whole[2]["unused"], torch.ones(3))
    for step in kills:
        with pytest.raises(Killed):
            train(tmp_path / str(step), settings, machine, at=step, how=kill)
        assert_same(train(tmp_path / str(step), settings, machine), whole)


def test_ctrl_c_saves_and_the_next_command_continues(tmp_path: Path, capsys) -> None:
    folder, whole = tmp_path / "stopped", train(tmp_path / "whole", SETTINGS, IN_FP32)
    with pytest.raises(KeyboardInterrupt):
        train(folder, SETTINGS, IN_FP32, at=3, how=lambda: signal.raise_signal(signal.SIGINT))
    assert (folder / "records.jsonl.checkpoints" / "run" / POSITION_FILE).is_file()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    steps = []
    assert_same(train(folder, SETTINGS, IN_FP32, at=4, how=lambda: steps.append(4)), whole)
    assert steps  # no step before it was repeated

    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):  # at once, without saving
        train(tmp_path / "twice", SETTINGS, IN_FP32, at=3, how=twice)
    assert not (tmp_path / "twice").exists()


def truncate(folder: Path) -> None:
    (folder / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes()[:-9])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (truncate, "damaged"),
        (lambda folder: (folder / POSITION_FILE).unlink(), "damaged"),
        (lambda folder: (folder / POSITION_FILE).write_text('{"position": {"epoch": -1}}'), "damaged"),
        (lambda folder: folder.rename(folder.with_name("another")), "made with other run"),
        (lambda folder: None, "made with other replicas"),
    ],
)
def test_what_is_not_this_runs_checkpoint_is_not_used(change, message: str, tmp_path: Path, every_step, capsys) -> None:
    with pytest.raises(Killed):
        train(tmp_path, SETTINGS, IN_FP32, at=3, how=kill)
    change(tmp_path / "records.jsonl.checkpoints" / "run")
    name = "another" if "run" in message else "run"
    machine = dataclasses.replace(IN_FP32, replicas=2 if "replicas" in message else 1)
    assert RunCheckpoint(tmp_path / "records.jsonl", name).load(machine) is None
    assert message in capsys.readouterr().err


def test_a_full_disk_costs_the_checkpoint_only(tmp_path: Path, every_step, monkeypatch, capsys) -> None:
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_optimizer", full)
    assert train(tmp_path, SETTINGS, IN_FP32)[0].steps == 8
    assert capsys.readouterr().err.count("no checkpoint from now on") == 1
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_checkpoint_that_somebody_removes_while_it_is_written_costs_nothing_else(
    tmp_path: Path, every_step, monkeypatch, capsys
) -> None:
    save, saved = checkpoints.save_optimizer, []

    def removed(folder: Path, *arguments) -> None:
        saved.append(folder)
        if len(saved) == 2:
            shutil.rmtree(folder.parent)
        save(folder, *arguments)

    whole = train(tmp_path / "whole", SETTINGS, IN_FP32)
    monkeypatch.setattr(checkpoints, "save_optimizer", removed)
    assert_same(train(tmp_path / "other", SETTINGS, IN_FP32), whole)
    assert capsys.readouterr().err.count("no checkpoint this time") == 1 and len(saved) > 3
