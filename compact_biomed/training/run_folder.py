"""The folder of a run: what may be written there, and what is kept there once."""

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


def open_folder(folder: Path, science: Mapping[str, Any], *, fresh: bool) -> None:
    """Make the run's folder, or check that it holds this very science.

    Args:
        science: as `settings.science_record` gives it.
        fresh: start over; what stands there is kept under another name.

    Raises:
        UserError: another science, or something that is no run, is in it.
    """
    path = folder / "science.json"
    if fresh and folder.exists():
        aside = next(p for n in range(1, 10_000) if not (p := folder.with_name(f"{folder.name}.old-{n}")).exists())
        folder.rename(aside)
        say(f"What stood in {folder} is kept as {aside}.")
    if path.is_file():
        there = json.loads(path.read_text(encoding="utf-8"))
        for key in {**there, **science}:
            if there.get(key) != science.get(key):
                raise UserError(
                    f"this folder holds a run with {key} {there.get(key)}, not {science.get(key)}",
                    where=folder,
                    remedy="choose another --output_dir, or --fresh to start over",
                )
        checkpoint.sweep(folder)
    elif folder.exists() and any(folder.iterdir()):
        raise UserError("this folder holds no run of ours", where=folder, remedy="choose another --output_dir")
    else:
        files.write_json(path, science)


def same_text(folder: Path, fingerprint: str) -> None:
    """A run goes on with the text that it began with, also if other files stand under the same names now."""
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
    """A trainer that is made in the block logs there, unless the user's environment names another place."""
    if "TENSORBOARD_LOGGING_DIR" in os.environ:
        yield
        return
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder)
    try:
        yield
    finally:
        del os.environ["TENSORBOARD_LOGGING_DIR"]


def once(path: Path, measure: Callable[[], dict[str, Any]], *, asked: dict[str, Any]) -> dict[str, Any]:
    """A measurement that is made once a run and kept.

    Args:
        asked: settings of the measurement; it is made again where they have changed since.
    """
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if kept.get("asked") == asked:
        return kept["found"]
    found = measure()
    files.write_json(path, {"asked": asked, "found": found})
    return found


def finish(folder: Path, trainer, record: dict[str, Any]) -> None:
    """Write the results; the record last, because it says that the run is whole."""
    with checkpoint.disk_errors(folder / "model"), files.atomic_folder(folder / "model") as temporary:
        trainer.save_model(str(temporary))
        (temporary / "README.md").write_text(model_card(record), encoding="utf-8")
    with files.atomic_file(folder / "loss.png") as temporary:
        loss_picture(record, temporary)
    record["weights_sha256"] = files.sha256_file(folder / "model" / "model.safetensors")
    files.write_json(folder / "record.json", record)
