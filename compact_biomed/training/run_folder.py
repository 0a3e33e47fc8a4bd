"""The folder of a run: whose it is, what is measured there only once, and the results at the end."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compact_biomed import files
from compact_biomed.console import say
from compact_biomed.errors import UserError
from compact_biomed.training import checkpoint
from compact_biomed.training.summary import loss_picture, model_card


def open_folder(folder: Path, hyperparameters: Mapping[str, Any], *, fresh: bool) -> None:
    """Make the run's folder, or check that it holds a run with these hyperparameters.

    Args:
        hyperparameters: of `Run.record`.
        fresh: start over; an earlier run is kept under another name.

    Raises:
        UserError: it holds a run with other hyperparameters, or something that is no run.
    """
    path = folder / "hyperparameters.json"
    if fresh and folder.exists():
        aside = next(p for n in range(1, 10_000) if not (p := folder.with_name(f"{folder.name}.old-{n}")).exists())
        folder.rename(aside)
        say(f"The earlier run in {folder} is kept as {aside}.")
    if path.is_file():
        there = json.loads(path.read_text(encoding="utf-8"))
        for key in {**there, **hyperparameters}:
            if there.get(key) != hyperparameters.get(key):
                raise UserError(
                    f"this folder holds a run with {key} {there.get(key)}, not {hyperparameters.get(key)}",
                    where=folder,
                    remedy="choose another --output_dir, or --fresh to start over",
                )
        checkpoint.sweep(folder)
    elif folder.exists() and any(folder.iterdir()):
        raise UserError(
            "this folder holds something else than a run", where=folder, remedy="choose another --output_dir"
        )
    else:
        files.write_json(path, hyperparameters)


def require_same_text(folder: Path, fingerprint: str) -> None:
    """Raise a `UserError` unless the text is that which the run began with, whatever its files are named."""
    path = folder / "corpus.json"
    if not path.is_file():
        files.write_json(path, {"fingerprint": fingerprint})
    elif json.loads(path.read_text(encoding="utf-8"))["fingerprint"] != fingerprint:
        raise UserError(
            "the text of this run's sources has changed since it began",
            where=folder,
            remedy="choose another --output_dir, or --fresh to start over",
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
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if stored.get("settings") == settings:
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
    for path in (checkpoint.parent / "record.json", checkpoint / "record.json"):
        record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
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
        trainer.save_model(str(temporary))
        (temporary / "README.md").write_text(model_card(record), encoding="utf-8")
    with files.atomic_file(folder / "loss.png") as temporary:
        loss_picture(record, temporary)
    record["weights_sha256"] = files.sha256_file(folder / "model" / "model.safetensors")
    files.write_json(folder / "record.json", record)
