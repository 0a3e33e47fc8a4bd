"""The folder of a fine-tuned model: its name, what is in it, and the record that says how it was made."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from compact_biomed.checksums import write_sums
from compact_biomed.errors import UserError
from compact_biomed.evaluation.analysis.errors import ERRORS, write_errors
from compact_biomed.evaluation.cards import model_card
from compact_biomed.evaluation.finetune import Outcome
from compact_biomed.files import atomic_folder, write_json
from compact_biomed.models.cards import CARD
from compact_biomed.records.lines import RECORD_FILE
from compact_biomed.records.shapes import check_record
from compact_biomed.settings import read_json


def saved_model_name(model: str, task: str, fold: int | None, seed: int) -> str:
    """Return the name of the folder in which a fine-tuned model is saved."""
    parts = [model, task, f"fold{fold}" if fold is not None else "", f"seed{seed}"]
    return "-".join(part.replace("/", "_") for part in parts if part)


def model_name(start: str) -> str:
    """Return the default name of a checkpoint: that of its folder; for runs/NAME/model, NAME.

    Raises:
        UserError: the path has no name.
    """
    parts = [part for part in Path(start).parts if part not in (".", "..", "/")]
    if len(parts) > 1 and parts[-1] == "model":
        parts.pop()
    if not parts:
        raise UserError("this checkpoint has no name", where=start, remedy="give one with --name")
    return parts[-1].removeprefix("registry:")


def save_model(
    folder: Path,
    outcome: Outcome,
    record: Mapping[str, Any],
    errors: Iterable[Mapping[str, Any]] | None = None,
    *,
    license: str | None = None,
) -> None:
    """Write a fine-tuned model: safetensors, configuration with the labels, tokenizer, card, record, errors, checksums.

    Args:
        folder: is replaced as a whole if it exists.
        record: of the run; it is written beside the weights as `RECORD_FILE`.
        errors: the lines of `ERRORS`; None = no such file.
        license: for the card, see `model_card`.
    """
    with atomic_folder(folder) as temporary:
        outcome.model.save_pretrained(temporary)
        outcome.tokenizer.save_pretrained(temporary)
        write_json(temporary / RECORD_FILE, dict(record))
        if errors is not None:
            write_errors(temporary / ERRORS, errors)
        (temporary / CARD).write_text(model_card(record, outcome.model.config, license), encoding="utf-8")
        write_sums(temporary)


def saved_record(folder: Path) -> dict[str, Any]:
    """Return the record beside the weights of a saved model; empty if there is none.

    Raises:
        UserError: it is damaged.
    """
    path = folder / RECORD_FILE
    if not path.is_file():
        return {}
    record = read_json(path, dict[str, Any], remedy="remove the file")
    check_record(record, where=str(path), remedy="remove the file")
    return record


def require_free(folder: Path, run: str) -> None:
    """Raise a `UserError` if the folder holds anything but an older copy of this run's model."""
    if folder.exists() and saved_record(folder).get("run") != run:
        content = "another run's model" if (folder / RECORD_FILE).is_file() else "something else"
        raise UserError(f"this folder holds {content}", where=folder, remedy="choose another --save folder")
