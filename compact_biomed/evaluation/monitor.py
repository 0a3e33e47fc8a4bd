"""What watches a fine-tuning: it shows progress, keeps a checkpoint, and reports to trackers.

A bar shows epoch, loss and time left on a terminal; elsewhere a line does now and then. The checkpoint
(`evaluation.checkpoint`) is written at most once a minute, and takes at most a hundredth of the time.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from tqdm import tqdm

from compact_biomed.console import duration, progress, say, shortened
from compact_biomed.engine.plan import ComputePlan
from compact_biomed.evaluation.checkpoint import Position, RunCheckpoint
from compact_biomed.evaluation.descent import Descent
from compact_biomed.evaluation.protocols import FinetuneHyperparameters
from compact_biomed.evaluation.tracking import Tracker
from compact_biomed.interruption import StopRequest, take_effect

_SAVE_EVERY = 60.0  # seconds of training between two checkpoints
_SAVE_AT_EPOCH = 10.0  # the same at the end of an epoch, where predictions follow that may take long
_SHARE_OF_SAVING = 0.01  # of the time, at most
_LINE_EVERY = 30.0  # seconds between two lines within an epoch, where there is no terminal
_LINE_OF_EPOCH = 2.0  # the same between the lines of two epochs on a terminal


class _Stopped(Exception):
    """A signal was given, and the checkpoint is written."""


class Monitor:
    """Watches one fine-tuning; a second phase of training (`intermediate_epochs`) belongs to the same one.

    Args:
        label: which training this is, "learning rate 5e-05 (1 of 3)" for instance.
        checkpoint: where the training is kept until it is recorded; None = nowhere.
        tracker: is given losses and scores; None = nobody is.
        split: that the finished model is scored on, as trackers name it: "test", or "eval" for dev.
        silent: print nothing.

    Attributes:
        position: where the training is.
    """

    def __init__(
        self,
        label: str = "fine-tuning",
        *,
        checkpoint: RunCheckpoint | None = None,
        tracker: Tracker | None = None,
        split: str = "test",
        silent: bool = False,
    ):
        self.label, self.position = shortened(label), Position()
        self._checkpoint, self._tracker, self._split, self._silent = checkpoint, tracker, split, silent
        self._resumed = False
        self._score = ""
        self._stop = StopRequest()

    def resume(self, machine: ComputePlan) -> None:
        """Read the checkpoint, if there is one of this run; call it before the first phase.

        Args:
            machine: the performance settings. A checkpoint made with others is not used, because a record
                names one set of settings.
        """
        if self._checkpoint is not None and (position := self._checkpoint.load(machine)) is not None:
            self.position, self._resumed = position, True
            self._say(f"  {self.label}: continues in epoch {position.epoch + 1}, after step {position.step:,}")

    def open(self, model: Any, hyperparameters: FinetuneHyperparameters, *, seed: int) -> None:
        """Open the run at the trackers.

        Args:
            model: of transformers.
            hyperparameters, seed: of the fine-tuning.

        Raises:
            UserError: a tracker does not begin.
        """
        if self._tracker is not None:
            self._tracker.begin(model, hyperparameters, seed)

    # ---- within a phase

    def begin(self, descent: Descent, *, epochs: int, examples: int, batch_size: int) -> Position:
        """Begin a phase, or take up the one that was interrupted; return where it is."""
        self._descent, self._epochs, self._examples, self._batch_size = descent, epochs, examples, batch_size
        done = min(self.position.epoch * examples + self.position.batches * batch_size, epochs * examples)
        options = {"total": epochs * examples, "initial": done, "unit": " examples", "leave": False}
        options["desc"] = self._where()
        self._bar = progress(**options, disable=True if self._silent else None)
        self._done, self._done_before, self._began = done, done, time.monotonic()
        self._line, self._saved, self._saving = self._began, self._began, 0.0
        return self.position

    def restore(self) -> None:
        """Load the state of the interrupted phase, within `Descent.epoch`; nothing where none was interrupted."""
        if self._resumed:
            self._checkpoint.restore(self._descent)
            self._resumed = False

    @contextmanager
    def epoch(self) -> Iterator[None]:
        """Let Ctrl-C and SIGTERM end the current step within the block first, and save; a second one ends it at once.

        Without a checkpoint, signals do what they always do.
        """
        self._bar.set_description(self._where(), refresh=False)
        if self._checkpoint is None:
            yield
            return
        self._stop = StopRequest(self._say)
        try:
            with self._stop.heeded(), suppress(_Stopped):
                yield
                if self._stop.signal is not None:  # given after the last step
                    self._checkpoint.save(self.position, self._descent)
        finally:  # what diverged just then is not followed by another training either
            if self._stop.signal is not None:
                take_effect(self._stop.signal)

    def after_step(self, loss: float, rows: int) -> float:
        """Note a step.

        Args:
            loss: of the step.
            rows: examples in it.

        Returns:
            Seconds spent on saving.
        """
        position, now = self.position, time.monotonic()
        self._done += rows
        self._bar.update(rows)
        self._bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
        ends = position.batches * self._batch_size >= self._examples
        if self._tracker is not None:
            share = position.epoch + min(position.batches * self._batch_size / self._examples, 1.0)
            self._tracker.after_step(position.step, loss=loss, epoch=share, learning_rate=self._descent.learning_rate)
        if self._bar.disable and not ends and now - self._line > _LINE_EVERY:
            self._line = now
            self._say(f"  {self._where()}: {self._state()}, {self._left(now)}")
        if self._checkpoint is None:
            return 0.0
        pause = max(_SAVE_AT_EPOCH if ends else _SAVE_EVERY, self._saving / _SHARE_OF_SAVING)
        if self._stop.signal is None and now - self._saved < pause:
            return 0.0
        self._checkpoint.save(position, self._descent)
        self._saved = time.monotonic()
        self._saving = self._saved - now
        if self._stop.signal is not None:
            raise _Stopped
        return self._saving

    # ---- between epochs

    def scored(self, metric: str, score: float) -> None:
        """Note the score on dev after an epoch."""
        self.position.scores.append(score)
        self._score = f", {metric} {score:.2f} on dev"
        if self._tracker is not None:
            self._tracker.log(self.position.step, {f"eval_{metric}": score, "epoch": self.position.epoch + 1.0})

    def end_epoch(self) -> None:
        """Report an epoch, after its model was scored; begin the next one."""
        now = time.monotonic()
        # On a terminal, the bar is enough for epochs that pass quickly.
        if self._bar.disable or now - self._line > _LINE_OF_EPOCH:
            self._line = now
            self._say(f"  {self._where()}: {self._state()}{self._score}")
        self._score = ""

    def end(self) -> None:
        """End a phase, however it ends."""
        self._bar.close()

    def next_phase(self, before: Sequence[float]) -> None:
        """Begin the next phase.

        Args:
            before: steps, tokens, seconds and last loss of the one that has ended.
        """
        self.position = Position(before=list(before))

    # ---- the end

    def finished(self, metrics: Mapping[str, float]) -> None:
        """Report the scores of the finished model to the trackers."""
        if self._tracker is not None:
            self._tracker.log(self.position.step, {f"{self._split}_{name}": value for name, value in metrics.items()})

    def close(self) -> None:
        """Close the run at the trackers, however it has ended."""
        if self._tracker is not None:
            self._tracker.close()

    # ---- words

    def _where(self) -> str:
        return f"{self.label}, epoch {self.position.epoch + 1} of {self._epochs}"

    def _state(self) -> str:
        position = self.position
        rate = position.tokens / max(position.seconds, 1e-9)
        return f"loss {np.mean(position.losses):.3f}, {rate:,.0f} tokens/s"

    def _left(self, now: float) -> str:
        left = (self._epochs * self._examples - self._done) * (now - self._began)
        return f"about {duration(left / max(self._done - self._done_before, 1))} left"

    def _say(self, text: str) -> None:
        if not self._silent:
            with tqdm.external_write_mode(file=sys.stderr):  # above the bar, if there is one
                say(text)
