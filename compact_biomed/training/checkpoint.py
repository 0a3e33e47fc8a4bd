"""Checkpoints without pickle, whole or absent.

A checkpoint folder holds the model as transformers saves it, `optimizer.safetensors` (the
tensors of the optimizer's state), `training.json` (its other values and the scheduler) and
the trainer's own `trainer_state.json`. It is written under another name and renamed when
all of it is on disk: a folder with the right name is a whole checkpoint.
"""

import errno
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Required, TypedDict

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import TrainerState

from compact_biomed.errors import UserError
from compact_biomed.files import write_json
from compact_biomed.models.checkpoints import read_tensors
from compact_biomed.models.weights import check_finite
from compact_biomed.settings import read_json

OPTIMIZER_FILE = "optimizer.safetensors"
TRAINING_FILE = "training.json"
TRAINING_ONLY_FILE = "projections.safetensors"
_NAME = re.compile(r"checkpoint-(\d{1,15})")


class _Extra(TypedDict):
    tokens_seen: int


class _Training(TypedDict, total=False):
    values: Required[dict[str, Any]]
    groups: Required[list[dict[str, Any]]]
    scheduler: Required[dict[str, Any]]
    extra: Required[_Extra]
    tensors: dict[str, int]  # name -> how many; older checkpoints do not say it
    untrained: list[int]  # likewise


class _CallbackState(TypedDict):
    args: dict[str, Any]
    attributes: dict[str, Any]


class _Progress(TypedDict, total=False):
    """Fields of transformers' TrainerState."""

    global_step: Required[int]
    max_steps: Required[int]
    log_history: Required[list[dict[str, float]]]
    epoch: Required[float]
    total_flos: float
    num_train_epochs: int
    num_input_tokens_seen: int
    logging_steps: float
    eval_steps: float
    save_steps: float
    train_batch_size: int | None
    best_metric: float | None
    best_global_step: int | None
    best_model_checkpoint: str | None
    trial_name: str | None
    is_local_process_zero: bool
    is_world_process_zero: bool
    is_hyper_param_search: bool
    stateful_callbacks: dict[str, _CallbackState]


def checkpoints(run: Path) -> list[Path]:
    """Return the whole checkpoints of a run, oldest first."""
    whole = [p for p in run.glob("checkpoint-*") if _NAME.fullmatch(p.name) and p.is_dir()]
    return sorted(whole, key=lambda p: int(_NAME.fullmatch(p.name)[1]))


def keep_newest(run: Path, n: int) -> None:
    """Delete all but the newest `n` checkpoints. Each first gets a name that nothing reads."""
    for old in checkpoints(run)[:-n] if n > 0 else []:
        doomed = old.with_name(f".{old.name}.old")
        shutil.rmtree(doomed, ignore_errors=True)
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
    rest["tensors"] = _numbers_of(tensors)
    # Parameters that no gradient has reached, as those behind the last relations of a student.
    indices = range(sum(len(group["params"]) for group in state["param_groups"]))
    rest["untrained"] = [index for index in indices if index not in state["state"]]
    write_json(folder / TRAINING_FILE, rest)


def load_optimizer(folder: Path, optimizer: torch.optim.Optimizer, scheduler: Any) -> dict[str, Any]:
    """Restore what `save_optimizer` wrote; return its `extra`."""
    path = folder / OPTIMIZER_FILE
    tensors = load_tensors(path)
    rest = read_json(folder / TRAINING_FILE, _Training, remedy=_again(folder))
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *rest["values"].items()]:
        index, name = _split_key(path, key)
        state.setdefault(index, {})[name] = value
    there = _numbers_of(tensors)
    if (recorded := rest.get("tensors", there)) != there:
        raise _damaged(path, f"its tensors are {there}, not {recorded}")
    _check_optimizer(path, optimizer, state, rest.get("untrained", ()))
    groups = [dict(group) for group in optimizer.state_dict()["param_groups"]]
    if [group["params"] for group in groups] != [group.get("params") for group in rest["groups"]]:
        raise _damaged(folder / TRAINING_FILE, "its groups have other parameters")
    own, saved = [*groups, scheduler.state_dict()], [*rest["groups"], rest["scheduler"]]
    for name in {name for pair in zip(own, saved, strict=True) for name in _unlike(*pair)}:
        raise _damaged(folder / TRAINING_FILE, f"{name} is missing, unknown, or of another type")
    try:
        optimizer.load_state_dict({"state": state, "param_groups": rest["groups"]})
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    scheduler.load_state_dict(rest["scheduler"])
    return rest["extra"]


def _unlike(own: Mapping[str, Any], saved: Mapping[str, Any]) -> list[str]:
    """Return the settings that one of the two lacks, or that have values of different types."""

    def kind(value: Any) -> str:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return "number"
        return "list" if isinstance(value, list | tuple) else type(value).__name__

    common = own.keys() & saved.keys()
    return sorted(own.keys() ^ saved.keys() | {name for name in common if kind(own[name]) != kind(saved[name])})


def check_progress(folder: Path) -> None:
    """Check the Trainer's own file in a checkpoint before the Trainer reads it.

    Raises:
        UserError: it is damaged, or the folder was renamed.
    """
    path = folder / "trainer_state.json"
    progress = read_json(path, _Progress, remedy=_again(folder))
    if unknown := sorted(progress.keys() - {field.name for field in fields(TrainerState)}):
        raise _damaged(path, f"{unknown[0]} is no field of a TrainerState")
    if any("loss" in entry and "tokens" not in entry for entry in progress["log_history"]):
        raise _damaged(path, "an entry of log_history has a loss without tokens")
    step = progress["global_step"]
    if (named := int(_NAME.fullmatch(folder.name)[1])) != step:
        raise UserError(
            f"this checkpoint is of step {step:,}, not {named:,}",
            where=path,
            remedy=f"rename the folder to checkpoint-{step}, or delete it",
        )


def _numbers_of(tensors: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(key.partition(".")[2] for key in tensors).items()))


def _split_key(path: Path, key: str) -> tuple[int, str]:
    index, _, name = key.partition(".")
    if not (index.isdecimal() and len(index) < 10 and name):
        raise _damaged(path, f"{key} is no part of an optimizer's state")
    return int(index), name


def _check_optimizer(
    path: Path, optimizer: torch.optim.Optimizer, state: Mapping[int, Mapping[str, Any]], untrained: Collection[int]
) -> None:
    """Raise a `UserError` unless each parameter has the state that this optimizer keeps, of its own shape.

    Args:
        untrained: parameters that had none when the state was saved.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if extra := sorted(state.keys() - set(range(len(parameters)))):
        raise _damaged(path, f"it has state for parameter {extra[0]}, of {len(parameters)}")
    if not state:  # an optimizer that keeps none, or a checkpoint of step 0
        return
    names = set().union(*state.values())
    for index, parameter in enumerate(parameters):
        if index in untrained and index not in state:
            continue
        if missing := sorted(names - state.get(index, {}).keys()):
            raise _damaged(path, f"{missing[0]} of parameter {index} is missing")
        for name, value in state[index].items():
            if isinstance(value, torch.Tensor) and value.dim() and value.shape != parameter.shape:
                raise _damaged(
                    path, f"{name} of parameter {index} has shape {[*value.shape]}, not {[*parameter.shape]}"
                )


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
        raise _damaged(folder / TRAINING_ONLY_FILE, "its projections have other widths")
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
    check_finite(tensors.items(), where=path, remedy=_again(path.parent))
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


def _damaged(path: Path, why: object) -> UserError:
    return UserError(f"this checkpoint is damaged: {why}", where=path, remedy=_again(path.parent))


def _again(folder: Path) -> str:
    return f"delete {folder}; the run then resumes from the checkpoint before it"
