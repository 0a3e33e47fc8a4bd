"""The folder of a run: whose it is, what is measured there only once, and the results at the end."""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypedDict

from compact_biomed import files
from compact_biomed.console import say
from compact_biomed.corpus.cache import read_cached_json
from compact_biomed.errors import UserError
from compact_biomed.files import FileLock
from compact_biomed.records.lines import RECORD_FILE, require_parts
from compact_biomed.settings import check, read_json
from compact_biomed.training import checkpoint
from compact_biomed.training.summary import loss_picture, model_card

_ELSEWHERE = "choose another --output-dir, or --fresh to start over"
_LOCK = ".lock"


class _Corpus(TypedDict):
    fingerprint: str


class _Measurement(TypedDict):
    settings: dict[str, Any]
    scores: dict[str, Any]


class _Heldout(TypedDict):
    before: dict[str, Any]
    after: dict[str, Any]


class _TrainingRecord(TypedDict):
    hyperparameters: dict[str, Any]
    corpus: dict[str, Any]
    heldout: _Heldout
    tokens: int
    weights_sha256: str


@contextmanager
def sole_training(folder: Path) -> Iterator[None]:
    """Let no other process train in the folder for the length of the block; leave no new folder that is empty.

    Where files cannot be locked, as on some shared disks, nothing is refused, with a warning.

    Raises:
        UserError: another process trains there.
    """
    lock, is_new = FileLock(folder / _LOCK, remove=True), not folder.exists()
    try:
        is_free = lock.acquire(wait=False)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
            raise
        is_free = True
        say(f"{lock.path} cannot be locked ({error.strerror}): another process may train in this folder, too")
    if not is_free:
        raise UserError(
            "another process is training in this folder",
            where=folder,
            remedy="wait until it ends, or choose another --output-dir",
        )
    try:
        yield
    finally:
        lock.release()
        if is_new:
            with suppress(OSError):
                folder.rmdir()  # if it is empty, for the run could not begin


def read_record(path: Path) -> dict[str, Any]:
    """Read the record of a finished run.

    Raises:
        UserError: it is damaged, or of an earlier version.
    """
    remedy = "remove it; the same command then writes it again"
    record = read_json(path, dict[str, Any], remedy=remedy)
    require_parts(record, ["hyperparameters"], path, "in records of earlier versions, rename `science` so")
    check(record, _TrainingRecord, where=path, remedy=remedy)
    return record


def set_aside(folder: Path) -> None:
    """Keep an earlier run under another name, so that its folder is free to start over.

    Raises:
        UserError: another process trains there.
    """
    if _is_empty(folder):
        return
    aside = next(p for n in range(1, 10_000) if not (p := folder.with_name(f"{folder.name}.old-{n}")).exists())
    with sole_training(folder):
        folder.rename(aside)
        (aside / _LOCK).unlink(missing_ok=True)
    say(f"The earlier run in {folder} is kept as {aside}.")


def open_folder(folder: Path, hyperparameters: Mapping[str, Any]) -> bool:
    """Make the run's folder, or check that it holds a run with these hyperparameters.

    Args:
        hyperparameters: of `Run.record`.

    Returns:
        Whether the run is new.

    Raises:
        UserError: it holds a run with other hyperparameters, or something that is no run.
    """
    path, is_new = folder / "hyperparameters.json", False
    if path.is_file():
        there = read_json(path, dict[str, Any], remedy=_ELSEWHERE)
        for key in {**there, **hyperparameters}:
            if there.get(key) != hyperparameters.get(key):
                raise UserError(
                    f"this folder holds a run with {key} {there.get(key)}, not {hyperparameters.get(key)}",
                    where=folder,
                    remedy=_ELSEWHERE,
                )
    elif not _is_empty(folder):
        raise UserError(
            "this folder holds something else than a run", where=folder, remedy="choose another --output-dir"
        )
    else:
        files.write_json(path, hyperparameters)
        is_new = True
    files.sweep(folder)
    return is_new


def abandon(folder: Path) -> None:
    """Leave the folder of a run free that could not begin: other flags may then use it."""
    for name in ("hyperparameters.json", "corpus.json"):
        (folder / name).unlink(missing_ok=True)


def _is_empty(folder: Path) -> bool:
    """Return whether nothing is in a folder but what a process left that was killed before it wrote its first file."""
    items = folder.iterdir() if folder.exists() else ()
    return all(item.name == _LOCK or files.is_leftover(item) for item in items)


def require_same_text(folder: Path, fingerprint: str) -> None:
    """Raise a `UserError` unless the text is that which the run began with, whatever its files are named."""
    path = folder / "corpus.json"
    if not path.is_file():
        files.write_json(path, {"fingerprint": fingerprint})
    elif read_json(path, _Corpus, remedy=_ELSEWHERE)["fingerprint"] != fingerprint:
        raise UserError(
            "the text of this run's sources has changed since it began",
            where=folder,
            remedy=_ELSEWHERE,
        )


@contextmanager
def logs_in(folder: Path) -> Iterator[None]:
    """Let a trainer that is made in the block log there, unless the user's environment names another folder."""
    if "TENSORBOARD_LOGGING_DIR" in os.environ:
        yield
        return
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder)
    try:
        yield
    finally:
        del os.environ["TENSORBOARD_LOGGING_DIR"]


def measured_once(path: Path, measure: Callable[[], dict[str, Any]], *, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a measurement of the run; read it from a file if it was already taken.

    Args:
        path: the file that stores it.
        settings: of the measurement; if they have changed, it is repeated.
    """
    if path.is_file():
        stored = read_json(path, _Measurement, remedy="remove it; it is then measured again")
        if stored["settings"] == settings:
            return stored["scores"]
    scores = measure()
    files.write_json(path, {"settings": settings, "scores": scores})
    return scores


def training_of(checkpoint: Path, weights: str) -> dict[str, Any] | None:
    """Return the pretraining seed of a checkpoint that a run made, and a hash of the run's other settings.

    Trainings of one configuration with several seeds are replicates. The teacher's weights are no part of it: they are
    those of the same replicate.

    Args:
        checkpoint: folder; the record is beside it, as in a run's folder, or in it, as in a release.
        weights: sha256 of the checkpoint's weights; a record of other weights does not count.
    """
    for path in (checkpoint.parent / RECORD_FILE, checkpoint / RECORD_FILE):
        record = read_cached_json(path, dict[str, Any]) or {}  # whatever else lies there is no record of a run
        if record.get("weights_sha256") == weights and "hyperparameters" in record:
            settings = dict(record["hyperparameters"])
            seed = settings.pop("seed", None)
            for name in ("teacher", "teacher_sha256"):
                settings.pop(name, None)
            return {"seed": seed, "configuration": files.sha256_json(settings)[:16]}
    return None


def finish(folder: Path, trainer, record: dict[str, Any]) -> None:
    """Write model, card, loss curve, and last the record, because it says that the run is whole."""
    with checkpoint.disk_errors(folder / "model"), files.atomic_folder(folder / "model") as temporary:
        trainer.export(str(temporary))
        (temporary / "README.md").write_text(model_card(record), encoding="utf-8")
    with files.atomic_file(folder / "loss.png") as temporary:
        loss_picture(record, temporary)
    record["weights_sha256"] = files.sha256_file(folder / "model" / "model.safetensors")
    files.write_json(folder / RECORD_FILE, record)
