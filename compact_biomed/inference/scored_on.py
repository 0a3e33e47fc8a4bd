"""What a model is scored on without training: the test set of its task, or data that it was not fine-tuned on."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compact_biomed.benchmarks import examples, tasks
from compact_biomed.benchmarks.examples import Example, TextExample, WordsExample, content
from compact_biomed.benchmarks.own import OwnData
from compact_biomed.benchmarks.readers import read
from compact_biomed.benchmarks.recorded import files_fields, other_task, task_of_record
from compact_biomed.benchmarks.tasks import NEGATIVE, Task
from compact_biomed.console import listed
from compact_biomed.errors import UserError

_ELSE = "to score it on other data, name these by --test alone"
_SHOWN = 5  # names of labels in a line
SEEN = "test examples whose text the model was fine-tuned on"


@dataclass(frozen=True)
class ScoredOn:
    """The examples that a model is scored on.

    Args:
        examples: with the labels by which they are scored.
        task: the part "task" of the record.
        key: what enters the key of the record beside the model: nothing for the test set of its task.
        notes: what was left out, and which labels are not those of the model, one line each.
        other: whether these are no test examples of the task that it was fine-tuned on.
    """

    examples: list[Example]
    task: dict[str, Any]
    key: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    other: bool = False


def scored_on(
    recorded: Mapping[str, Any],
    labels: Sequence[str],
    *,
    data: Path | None,
    ner_dir: Path | None,
    own: OwnData,
    where: object,
) -> ScoredOn:
    """Read the examples to score a model on.

    `test` without `train` names other data, of which nothing but the test examples is read. If they are the recorded
    ones all the same, in another place, they keep the name of the task.

    Args:
        recorded: the part "task" of the record of the fine-tuning.
        labels: of the model.
        data: folder of the benchmarks' files.
        ner_dir: the folder of the entity set that it was fine-tuned on, if it moved.
        own: where data of one's own are.
        where: the model, for errors.

    Raises:
        UserError: data that cannot be found or read; examples that are neither those of the record nor named as test
            data; other data without any label of the model.
    """
    if own.get("test") is not None and own.get("train") is None:
        task = other_task(recorded, own, split="test")
        splits = read(task, None)
        if examples.sha256(splits.test) != recorded["data_sha256"].get("test"):
            return _other(recorded, labels, task, splits, own, data)
    else:
        task, splits = _of_record(recorded, data, ner_dir, own, where)
        _require_recorded(examples.examples_sha256(splits), recorded, task, where)
    name = own.get("task_name") or recorded["name"]
    return ScoredOn(splits.test, {**recorded, "name": name}, {} if name == recorded["name"] else {"task": name})


def _of_record(
    recorded: Mapping[str, Any], data: Path | None, ner_dir: Path | None, own: OwnData, where: object
) -> tuple[Task, examples.Splits]:
    moved = {name: value for name, value in own.items() if name != "task_name"}
    try:
        task = tasks.ner_task_from_folder(ner_dir) if ner_dir else task_of_record(recorded, moved, where=where)
        return task, read(task, tasks.find(task, data), recorded["fold"])
    except UserError as error:
        if own.get("train") is None:
            raise
        # Perhaps they did not move, but are others.
        hint = f"--train says where the data are that it was fine-tuned on, {_ELSE}"
        remedy = "; ".join(part for part in (error.remedy, hint) if part)
        raise type(error)(error.what, where=error.where, remedy=remedy) from error


def _require_recorded(sums: Mapping[str, str], recorded: Mapping[str, Any], task: Task, where: object) -> None:
    for part in ("test", "train", "dev"):
        if sums[part] != recorded["data_sha256"].get(part):
            what = f"the {part} examples of {task.name} are not those of its record"
            raise UserError(what, where=where, remedy=f"name the files that it was fine-tuned on; {_ELSE}")


def _other(
    recorded: Mapping[str, Any],
    labels: Sequence[str],
    task: Task,
    splits: examples.Splits,
    own: OwnData,
    data: Path | None,
) -> ScoredOn:
    name, scored = task.name, list(splits.test)
    notes = [f"{what}: {number:,}" for what, number in splits.repairs.items()]
    if name == recorded["name"] and not own.get("task_name"):  # a table refuses two sets of one name
        name = f"{Path(task.place).parent.name or 'other'}/{name}"
        notes.append(f"it was fine-tuned on another {task.name}; --task-name gives this one another name")
    if task.kind == "ner":
        scored, noted = _with_types_of(labels, scored, task.place)
        notes += noted
    if task.kind == "relation":
        scored, noted = _with_negative_of(labels, scored)
        notes += noted
    repairs = dict(splits.repairs)
    if task.kind not in ("regression", "qa"):
        counted, noted = _compared(labels, scored, task.place)
        repairs |= counted
        notes += noted
    if seen := _seen(recorded, scored, data):
        repairs[SEEN] = seen
        notes.append(f"{SEEN}: {seen:,} of {len(scored):,}")
    test_sha256 = examples.sha256(splits.test)
    fields = {
        "name": name,
        "kind": task.kind,
        "version": task.version,
        "fold": None,
        "folds": 0,
        "metric": recorded["metric"],
        # train and dev are those of the fine-tuning: they tell apart what was fine-tuned on other examples
        "examples": {**recorded["examples"], "test": len(scored)},
        "repairs": repairs,
        "data_sha256": {**recorded["data_sha256"], "test": test_sha256},
        **files_fields(task),
    }
    return ScoredOn(scored, fields, {"task": name, "test": test_sha256}, tuple(notes), other=True)


def _with_types_of(labels: Sequence[str], test: list[Example], where: object) -> tuple[list[Example], list[str]]:
    """Return entities with or without types, as the model has them, and what was changed."""
    of_model, of_test = ({tag[2:] for tag in tags if tag != "O"} for tags in (labels, _tags(test)))
    if (of_model == {""}) == (of_test == {""}):
        return test, []
    if of_model == {""}:
        kept = [replace(each, tags=tuple(tag[:1] for tag in each.tags)) for each in test]
        return kept, [f"types of entities are left out, because the model knows none: {_first(of_test)}"]
    if len(of_model) > 1:
        what = f"entities without types, but the model has several ({_first(of_model)})"
        raise UserError(what, where=where, remedy="write B-TYPE and I-TYPE")
    (only,) = of_model
    named = [replace(e, tags=tuple(tag if tag == "O" else f"{tag}-{only}" for tag in e.tags)) for e in test]
    return named, [f"entities without types are of the only type of the model: {only}"]


def _tags(test: Sequence[WordsExample]) -> set[str]:
    return {tag for example in test for tag in example.tags}


def _with_negative_of(labels: Sequence[str], test: list[Example]) -> tuple[list[Example], list[str]]:
    """Return relations in which the class of no relation is called as the model calls it, and what was changed."""
    of_model = [label for label in labels if label in NEGATIVE]
    others = {example.label for example in test if example.label in NEGATIVE} - {*labels}
    if len(of_model) != 1 or not others:
        return test, []
    renamed = [replace(each, label=of_model[0]) if each.label in others else each for each in test]
    return renamed, [f"no relation is {of_model[0]} for the model, here {_first(others)}"]


def _compared(labels: Sequence[str], test: Sequence[Example], where: object) -> tuple[dict[str, int], list[str]]:
    """Return how many labels the model does not know, and notes of these and of those that the test examples lack.

    Raises:
        UserError: there is no label that both have.
    """
    words = isinstance(test[0], WordsExample)
    of_model = {label[2:] for label in labels if label != "O"} if words else {*labels}
    found = Counter(name for example in test for name in _names(example))
    unknown = {name: number for name, number in found.items() if name not in of_model}
    what = "types" if words else "classes"
    if unknown and len(unknown) == len(found):
        message = f"none of the {what} here ({_first(unknown)}) is one of the model's ({_first(of_model)})"
        raise UserError(message, where=where, remedy="name them as the model does, or name other data")
    notes = []
    if unknown:
        number = sum(unknown.values())
        notes.append(
            f"{what} that the model does not know, always wrong: {_first(unknown)} ({number:,} of {found.total():,})"
        )
    if lacking := of_model - found.keys():
        notes.append(f"{what} of the model that do not occur here, wrong wherever it predicts them: {_first(lacking)}")
    return ({f"{what} that the model does not know ({_first(unknown)})": len(unknown)} if unknown else {}), notes


def _names(example: Example) -> Iterator[str]:
    if isinstance(example, WordsExample):
        yield from (tag[2:] for tag in example.tags if tag[:1] == "B")
    elif isinstance(example, TextExample):
        yield from example.label if isinstance(example.label, tuple) else [example.label]


def _seen(recorded: Mapping[str, Any], test: Sequence[Example], data: Path | None) -> int:
    """Return how many texts were in train or dev of the fine-tuning, as far as these can still be read."""
    try:
        task = task_of_record(recorded, {}, where=None, quiet=True)
        splits = read(task, tasks.find(task, data), recorded["fold"])
    except UserError:
        return 0
    known = {content(example) for example in [*splits.train, *splits.dev]}
    return sum(content(example) in known for example in test)


def _first(labels: Collection[str]) -> str:
    return listed(sorted(labels), most=_SHOWN)
