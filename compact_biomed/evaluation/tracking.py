"""Report a fine-tuning to experiment trackers, by the callbacks that transformers has for them.

TensorBoard's files lie beside the records, in `<records>.logs/<run>`; the other trackers have their own places, and
their own environment variables (WANDB_PROJECT, MLFLOW_TRACKING_URI, ...).
"""

import os
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from compact_biomed.console import say
from compact_biomed.errors import UserError, flag_of
from compact_biomed.evaluation.protocols import FinetuneHyperparameters
from compact_biomed.training.run_folder import logs_in

_LOG_EVERY = 0.5  # seconds between two reports of the loss
_PROJECT = "compact-biomed"
_PROJECT_VARIABLES = ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME")  # where callbacks read the project's name


class Tracker:
    """Reports one fine-tuning.

    Args:
        names: of trackers, as transformers' `report_to` takes them (see `training.arguments.check_trackers`).
        run: name of the run.
        folder: for the logs of all runs.
    """

    def __init__(self, names: Sequence[str], run: str, folder: Path):
        self._names, self._run, self._folder = names, run, folder / run.replace("/", "_")
        self._callbacks: dict[str, TrainerCallback] = {}
        self._last = 0.0

    def begin(self, model: Any, hyperparameters: FinetuneHyperparameters, seed: int) -> None:
        """Open the run at each tracker.

        Args:
            model: of transformers; its configuration is part of what they show.
            hyperparameters, seed: likewise.

        Raises:
            UserError: one of them does not begin.
        """
        for name in _PROJECT_VARIABLES:
            os.environ.setdefault(name, _PROJECT)
        options = {"project": _PROJECT} if "project" in TrainingArguments.__dataclass_fields__ else {}
        self._arguments = TrainingArguments(
            str(self._folder),
            run_name=self._run,
            report_to=[],
            learning_rate=hyperparameters.learning_rate,
            lr_scheduler_type=hyperparameters.schedule,
            num_train_epochs=hyperparameters.stop_after or hyperparameters.epochs,
            per_device_train_batch_size=hyperparameters.batch_size,
            weight_decay=hyperparameters.weight_decay,
            max_grad_norm=hyperparameters.max_grad_norm,
            seed=seed,
            **options,
        )
        self._state, self._control, self._model = TrainerState(), TrainerControl(), model
        with logs_in(self._folder):
            self._callbacks = {name: INTEGRATION_TO_CALLBACK[name]() for name in self._names}
        for name in self._names:
            try:
                self._call(name, "on_train_begin")
            except Exception as error:  # each tracker has its own
                what = f"{name} does not begin: {type(error).__name__}: {error}"
                raise UserError(
                    what, where=flag_of("report_to"), remedy="correct its settings, or leave it out"
                ) from error

    def after_step(self, step: int, **values: float) -> None:
        """Report the values of a step, unless others were reported just now."""
        if (now := time.monotonic()) - self._last >= _LOG_EVERY:
            self._last = now
            self.log(step, values)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Report values at a step."""
        self._state.global_step, self._state.epoch = step, values.get("epoch", self._state.epoch)
        self._call_all("on_log", logs=dict(values))

    def close(self) -> None:
        """Close the run at each tracker."""
        self._call_all("on_train_end")
        if "wandb" in self._callbacks:  # whose callback leaves the run open for what a script may still log
            import_module("wandb").finish()
        self._callbacks = {}

    def _call_all(self, event: str, **values: Any) -> None:
        """Tell all trackers of an event; one that fails is left out from then on, and the training goes on."""
        for name in list(self._callbacks):
            try:
                self._call(name, event, **values)
            except Exception as error:
                say(f"  {name} gets no more reports: {type(error).__name__}: {error}")
                del self._callbacks[name]

    def _call(self, name: str, event: str, **values: Any) -> None:
        call = getattr(self._callbacks[name], event)
        call(self._arguments, self._state, self._control, model=self._model, **values)
