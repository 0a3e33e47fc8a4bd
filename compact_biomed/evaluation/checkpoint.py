"""The checkpoint of a fine-tuning in progress: a killed run continues from it, to the same bits.

    <records>.checkpoints/<run>/
        weights.safetensors     trained weights, their mean over the epoch if there is one, all word embeddings
        optimizer.safetensors   AdamW's moments
        training.json           the rest of the optimizer, and the schedule
        position.json           where the training was, its scores on dev, and what must not have changed since

It is kept beside the records and belongs to one run: the folder has the run's name, a hash of everything that decides
its result, and no other process has locked the run (`records.locks.RunLocks`). It is removed when the run is recorded.
"""

import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors.torch import save_file

from compact_biomed.console import say
from compact_biomed.engine.plan import ComputePlan
from compact_biomed.errors import UserError
from compact_biomed.evaluation.descent import Descent
from compact_biomed.files import atomic_folder, restore, write_json
from compact_biomed.records.provenance import versions
from compact_biomed.settings import read_json
from compact_biomed.training.checkpoint import (
    OPTIMIZER_FILE,
    disk_errors,
    load_optimizer,
    load_tensors,
    save_optimizer,
)

WEIGHTS_FILE, POSITION_FILE = "weights.safetensors", "position.json"


@dataclass
class Position:
    """How far a fine-tuning has come.

    Args:
        epoch: epochs before the present one.
        batches: of the present epoch, done.
        step: optimizer steps, of the present phase.
        tokens, seconds: of the present phase, likewise.
        losses: of the present epoch's batches.
        scores: primary metric on dev after each epoch that was scored.
        before: steps, tokens, seconds and last loss of the phase before, once it has ended.
    """

    epoch: int = 0
    batches: int = 0
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    before: list[float] | None = None

    def add(self, loss: float, *, tokens: int, seconds: float) -> None:
        """Count a step."""
        self.losses.append(loss)
        self.batches, self.step = self.batches + 1, self.step + 1
        self.tokens, self.seconds = self.tokens + tokens, self.seconds + seconds

    def next_epoch(self) -> None:
        """Move to the beginning of the next epoch."""
        self.epoch, self.batches, self.losses = self.epoch + 1, 0, []


class _Position(TypedDict):
    epoch: int
    batches: int
    step: int
    tokens: int
    seconds: float
    losses: list[float]
    scores: list[float]
    before: list[float] | None


class _File(TypedDict):
    position: _Position
    descent: dict[str, float]
    conditions: dict[str, Any]


class RunCheckpoint:
    """The checkpoint of one run.

    Args:
        records: the file in which the run will be recorded.
        run: its name there.

    Attributes:
        folder: that holds the checkpoint, if there is one.
    """

    def __init__(self, records: Path, run: str):
        self.folder = records.with_name(f"{records.name}.checkpoints") / run
        self._run, self._conditions = run, {}
        self._descent: dict[str, float] = {}
        self._may_save = True

    def load(self, machine: ComputePlan) -> Position | None:
        """Return where the run was; None if there is no checkpoint that can be used.

        Args:
            machine: the performance settings, which decide the bits.
        """
        settings = {name: value for name, value in vars(machine).items() if name not in ("ceiling", "dtype")}
        settings |= {"precision": str(machine.dtype), "threads": torch.get_num_threads()}
        self._conditions = {"run": self._run, "versions": versions(), **settings}
        restore(self.folder)
        if not self.folder.is_dir():
            return None
        try:
            content = read_json(self.folder / POSITION_FILE, _File, remedy="")
            for name in (WEIGHTS_FILE, OPTIMIZER_FILE):
                load_tensors(self.folder / name)
        except (UserError, OSError) as error:
            say(f"  {self.folder}: this checkpoint is damaged ({error}); the run begins again")
            return None
        if content["conditions"] != self._conditions:
            changed = [name for name, now in self._conditions.items() if content["conditions"].get(name) != now]
            say(f"  {self.folder}: this checkpoint was made with other {' and '.join(changed)}; the run begins again")
            return None
        self._descent = content["descent"]
        return Position(**content["position"])

    def restore(self, descent: Descent) -> None:
        """Load the state of the training, within `Descent.epoch`.

        Raises:
            UserError: it does not fit the model.
        """
        try:
            descent.load_state(load_tensors(self.folder / WEIGHTS_FILE), self._descent)
            load_optimizer(self.folder, descent.optimizer, descent.schedule)
        except (UserError, KeyError, RuntimeError) as error:
            what = f"this checkpoint does not fit the run ({type(error).__name__}: {error})"
            raise UserError(what, where=self.folder, remedy="remove the folder; the run then begins again") from error

    def save(self, position: Position, descent: Descent) -> bool:
        """Write the state of a training between two steps; return whether it is on disk.

        A disk without room does not end the training: it goes on without a checkpoint. Nor does somebody who removes
        the folder: the next checkpoint makes it again.
        """
        if not self._may_save:
            return False
        tensors, numbers = descent.state()
        try:
            with disk_errors(self.folder), atomic_folder(self.folder) as folder:
                save_file(tensors, folder / WEIGHTS_FILE)
                save_optimizer(folder, descent.optimizer, descent.schedule, {"tokens_seen": position.tokens})
                content = {"position": asdict(position), "descent": numbers, "conditions": self._conditions}
                write_json(folder / POSITION_FILE, content)
        except UserError as error:
            say(f"  no checkpoint this time: {error}")
            return False
        except OSError as error:
            say(f"  no checkpoint from now on: {self.folder}: {error.strerror or error}")
            self._may_save = False
        return self._may_save

    def remove(self) -> None:
        """Remove the checkpoint, and the folder of all checkpoints once it is empty."""
        if self.folder.parent.is_dir():
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):
                self.folder.parent.rmdir()
