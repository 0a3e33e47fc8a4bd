"""Checkpoints without pickle, whole or absent.

A checkpoint folder holds the model as transformers saves it, `optimizer.safetensors` (the
tensors of the optimizer's state), `training.json` (its other values and the scheduler) and
the trainer's own `trainer_state.json`. It is written under another name and renamed when
all of it is on disk: a folder with the right name is a whole checkpoint.
"""

import errno
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from compact_biomed.errors import UserError
from compact_biomed.files import write_json
from compact_biomed.models.checkpoints import read_tensors
from compact_biomed.models.weights import check_finite

OPTIMIZER_FILE = "optimizer.safetensors"
TRAINING_FILE = "training.json"
TRAINING_ONLY_FILE = "projections.safetensors"
_NAME = re.compile(r"checkpoint-(\d+)")


def checkpoints(run: Path) -> list[Path]:
    """Return the whole checkpoints of a run, oldest first."""
    whole = [p for p in run.glob("checkpoint-*") if _NAME.fullmatch(p.name) and p.is_dir()]
    return sorted(whole, key=lambda p: int(_NAME.fullmatch(p.name)[1]))


def sweep(run: Path) -> None:
    """Remove what an interrupted save left behind; such names are never read."""
    for leftover in [*run.glob(".*.tmp"), *run.glob(".*.old")]:
        shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def keep_newest(run: Path, n: int) -> None:
    """Delete all but the newest `n` checkpoints. Each first gets a name that nothing reads."""
    for old in checkpoints(run)[:-n] if n > 0 else []:
        doomed = old.with_name(f".{old.name}.old")
        old.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def save_optimizer(folder: Path, optimizer: torch.optim.Optimizer, scheduler: Any, extra: dict[str, Any]) -> None:
    """Write an optimizer's and a scheduler's state, tensors as safetensors and the rest as JSON."""
    state = optimizer.state_dict()
    tensors, values = {}, {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{name}"] = value.contiguous()
            else:
                values[f"{index}.{name}"] = value
    save_file(tensors, folder / OPTIMIZER_FILE)
    rest = {"values": values, "groups": state["param_groups"], "scheduler": scheduler.state_dict(), "extra": extra}
    write_json(folder / TRAINING_FILE, rest)


def load_optimizer(folder: Path, optimizer: torch.optim.Optimizer, scheduler: Any) -> dict[str, Any]:
    """Restore what `save_optimizer` wrote; return its `extra`."""
    tensors = load_tensors(folder / OPTIMIZER_FILE)
    try:
        rest = json.loads((folder / TRAINING_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(folder / TRAINING_FILE, error) from error
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *rest["values"].items()]:
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": rest["groups"]})
    scheduler.load_state_dict(rest["scheduler"])
    return rest["extra"]


def save_training_only(folder: Path, objective: Any) -> None:
    """Write what is trained beside the model but never exported: the projections of distillation."""
    tensors = _training_only(objective)
    if tensors:
        save_file(tensors, folder / TRAINING_ONLY_FILE)


def load_training_only(folder: Path, objective: Any) -> None:
    """Restore what `save_training_only` wrote."""
    tensors = _training_only(objective)
    if not tensors:
        return
    saved = load_tensors(folder / TRAINING_ONLY_FILE)
    if {n: t.shape for n, t in saved.items()} != {n: t.shape for n, t in tensors.items()}:
        raise _damaged(folder / TRAINING_ONLY_FILE, ValueError("its projections have other widths"))
    for name, tensor in tensors.items():
        tensor.copy_(saved[name])


def _training_only(objective: Any) -> dict[str, torch.Tensor]:
    projections = getattr(objective, "projections", None)
    return {} if projections is None else {n: p.detach() for n, p in projections.named_parameters()}


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file of a checkpoint; refuse one with numbers that are not finite."""
    try:
        tensors = read_tensors(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    check_finite(tensors.items(), where=path, remedy=_delete(path))
    return tensors


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn the safetensors library's error on a full disk into the `OSError` that it was."""
    try:
        yield
    except SafetensorError as error:
        if "No space left" in str(error):
            raise OSError(errno.ENOSPC, "No space left on device", str(folder)) from error
        raise


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"this checkpoint is damaged: {error}",
        where=path,
        remedy=_delete(path),
    )


def _delete(path: Path) -> str:
    return f"delete {path.parent}; the run then resumes from the checkpoint before it"
