"""When a run is saved besides every `save_steps`."""

from types import SimpleNamespace

import pytest
from transformers import TrainerControl

from compact_biomed.interruption import StopRequest
from compact_biomed.training import trainer
from compact_biomed.training.trainer import SaveOften


def after_step(saving: SaveOften, processes: int = 1) -> tuple[bool, bool]:
    control = saving.on_step_end(SimpleNamespace(world_size=processes), None, TrainerControl())
    return control.should_save, control.should_training_stop


def test_it_is_saved_when_that_is_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(trainer.time, "monotonic", lambda: clock.now)
    saving = SaveOften(StopRequest())
    saving.on_train_begin(None, None, None)
    clock.now += trainer._SAVE_EVERY
    assert after_step(saving) == (False, False)
    clock.now += 1
    assert after_step(saving) == (True, False)
    assert after_step(saving, processes=2) == (False, False)
    saving.on_save(None, None, None)
    assert after_step(saving) == (False, False)


def test_it_is_saved_and_stops_when_that_is_asked_for() -> None:
    request = StopRequest()
    saving = SaveOften(request)
    saving.on_train_begin(None, None, None)
    assert after_step(saving) == (False, False)
    request.signal = 15
    assert after_step(saving) == after_step(saving, processes=2) == (True, True)
