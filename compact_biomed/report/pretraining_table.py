"""Records of trainings in a reproduction -> the table of what was made, from how many tokens."""

from collections.abc import Iterable
from typing import Any

from compact_biomed.console import duration
from compact_biomed.errors import UserError
from compact_biomed.report.records import Line
from compact_biomed.report.render import markdown_rows

_HEAD = ("model", "recipe", "parameters", "tokens", "held-out MLM loss: start", "end", "accuracy", "KL to the teacher")
_HEAD += ("time", "on")


def markdown(lines: Iterable[Line]) -> str:
    """One row a model, its last record, in the order of the records.

    Raises:
        UserError: no record of a training.
    """
    last = {model: line.record for model, line in last_trainings(lines).items()}
    text = markdown_rows(_HEAD, [_row(record) for record in last.values()])
    return "\n".join([text, *(f"- {note}" for note in _notes(last))]) + "\n"


def last_trainings(lines: Iterable[Line]) -> dict[str, Line]:
    """Model -> its last record, in the order of the records.

    Raises:
        UserError: no record of a training.
    """
    last = {line.record["model"]: line for line in lines if line.record.get("record") == "pretraining"}
    if not last:
        raise UserError("no record of a training", where="--records", remedy="python recipes/reproduce.py")
    return last


def _row(record: dict[str, Any]) -> list[str]:
    before, after = record["heldout"]["before"], record["heldout"]["after"]
    kl = f"{after['kl_to_teacher']:.3f}" if "kl_to_teacher" in after else "n/a"
    return [
        record["model"],
        record["science"]["recipe"],
        f"{record['parameters']:,}",
        f"{record['tokens']:,}",
        f"{before['loss']:.3f}",
        f"{after['loss']:.3f}",
        f"{100 * after['accuracy']:.1f} %",
        kl,
        duration(record["seconds"]),
        record["speed"]["device"],
    ]


def _notes(last: dict[str, dict[str, Any]]) -> list[str]:
    """Whether all were made from one text, and from as many tokens."""
    notes = []
    any_record = next(iter(last.values()))
    notes.append(f"Word frequencies alone: {any_record['heldout']['unigram']['loss']:.3f} nats a masked token.")
    trained = {name: record for name, record in last.items() if record["tokens"]}
    if len({record["tokens"] for record in trained.values()}) > 1:
        notes.append("Attention: the trained models did not see the same number of tokens.")
    if len({record["corpus"]["fingerprint"] for record in last.values()}) > 1:
        notes.append("Attention: the models were not made from the same text.")
    against = any_record["corpus"].get("decontamination")
    clear = ", ".join(against["benchmarks"]) if against else "no test set"
    return [*notes, f"The text was kept clear of: {clear}."]
