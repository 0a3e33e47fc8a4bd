"""When a run is saved besides every `save_steps`."""

from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from compact_biomed.interruption import StopRequest
from compact_biomed.training import trainer
from compact_biomed.training.trainer import SaveAndStop


def after_step(saving: SaveAndStop, step: int = 20) -> tuple[bool, bool]:
    state = TrainerState(global_step=step, logging_steps=10)
    control = saving.on_step_end(SimpleNamespace(world_size=1), state, TrainerControl())
    return control.should_save, control.should_training_stop


def test_it_is_saved_when_that_is_long_ago_and_the_log_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(trainer.time, "monotonic", lambda: clock.now)
    saving = SaveAndStop(StopRequest())
    saving.on_train_begin(None, None, None)
    clock.now += trainer._SAVE_EVERY
    assert after_step(saving) == (False, False)
    clock.now += 1
    assert after_step(saving, step=21) == (False, False) and after_step(saving, step=30) == (True, False)
    saving.on_save(None, None, None)
    assert after_step(saving) == (False, False)


def test_it_is_saved_and_stops_when_that_is_asked_for() -> None:
    request = StopRequest()
    saving = SaveAndStop(request)
    saving.on_train_begin(None, None, None)
    assert after_step(saving) == (False, False) and not saving.stopping
    request.signal = 15
    assert after_step(saving, step=21) == (True, True) and saving.stopping
