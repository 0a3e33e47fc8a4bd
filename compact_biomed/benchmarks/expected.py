"""What a fine-tuned model expects of new data: their kind, their columns, one text or pairs, as its record says."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from compact_biomed.benchmarks.standoff.formats import PAGE
from compact_biomed.benchmarks.tasks import TASKS
from compact_biomed.errors import UserError

_ROLES = ("text", "pair", "label", "id", "document")  # that a user may name
_RECORDED_AS = {"pairs": "classification"}


@dataclass(frozen=True)
class Expected:
    """What data have to be to score a model on them, or to distill it with them.

    Args:
        task: name of the task that the model was fine-tuned on.
        kind: of that task, see `tasks.Task`.
        pairs: whether the model reads two texts.
        columns: role -> column there; empty for a benchmark.
    """

    task: str
    kind: str
    pairs: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def own_kind(self) -> str:
        """The kind as `--kind` names it."""
        return "pairs" if self.pairs and self.kind == "classification" else self.kind

    @property
    def numbered_label(self) -> dict[str, str]:
        """The role "label" with the column of tags in files of words, if it was named by its number."""
        label = self.columns.get("label", "")
        return {"label": label} if self.kind == "ner" and label else {}

    def columns_in(self, names: Collection[str]) -> dict[str, str]:
        """Return role -> column, of those that new data have too.

        Args:
            names: their columns. Several columns of 0 and 1 are taken if they are all there.
        """
        roles = {role: self.columns[role] for role in _ROLES if role in self.columns}
        return {role: name for role, name in roles.items() if name in names or {*name.split(",")} <= {*names}}

    def require_kind(self, kind: str | None, where: object) -> None:
        """Raise a `UserError` if these data are of another kind.

        Args:
            kind: as `--kind` names it; None: not known yet.
        """
        if kind is not None and _RECORDED_AS.get(kind, kind) != self.kind:
            raise self._other(f"data for {kind}", f"of {self.own_kind}", where)

    def require_texts(self, pairs: bool, where: object) -> None:
        """Raise a `UserError` if these data have pairs of texts where the model reads one, or the reverse."""
        if pairs and not self.pairs:
            raise self._other("pairs of texts", "of single texts", where, "name one column by --text-column NAME")
        if self.pairs and not pairs:
            remedy = "name the columns by --text-column NAME --pair-column NAME"
            raise self._other("one text per example", "of pairs of texts", where, remedy)

    def _other(self, seen: str, needed: str, where: object, remedy: str = "name data of its kind") -> UserError:
        what = f"{seen}, but the model was fine-tuned on {self.task}, a task {needed}"
        return UserError(what, where=where, remedy=f"{remedy}; see {PAGE}")


def has_pairs(recorded: Mapping[str, Any]) -> bool | None:
    """Return whether the examples of a task are pairs of texts; None if neither its record nor its name says so.

    Args:
        recorded: the part "task" of a record of scores; may be empty.
    """
    if files := recorded.get("files"):
        return "pair" in files.get("columns", {})
    task = TASKS.get(recorded.get("name", ""))
    return None if task is None else task.pairs


def expected_of(recorded: Mapping[str, Any]) -> Expected:
    """Return what a model expects of new data.

    Args:
        recorded: the part "task" of the record of its fine-tuning.
    """
    columns = recorded.get("files", {}).get("columns", {})
    return Expected(recorded["name"], recorded["kind"], bool(has_pairs(recorded)), columns)
