"""Read a task of a user's own into examples, in any of `own_formats.FORMATS`; hold out splits without a file.

What is left out, renamed or odd is counted in `Splits.repairs`, from where it is printed and recorded.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compact_biomed.benchmarks.examples import DEV_SHARE, Example, Part, Splits, WordsExample, content
from compact_biomed.benchmarks.examples import hold_out as divide
from compact_biomed.benchmarks.readers.annotated import OfTrain, entities_of, relations_of
from compact_biomed.benchmarks.readers.own_formats import ENTITY_FORMATS, KINDS_OF, detect_format, ending
from compact_biomed.benchmarks.readers.squad import read_squad
from compact_biomed.benchmarks.readers.tables import table_of
from compact_biomed.benchmarks.standoff.formats import PAGE
from compact_biomed.benchmarks.tasks import Files, InMemory, Task
from compact_biomed.errors import UserError

SHARES = {"test": 0.2, "dev": 0.1}  # of train, where neither has a file; dev alone: `DEV_SHARE`


def read_own(task: Task, folder: Path | None = None, fold: int | None = None) -> Splits:
    """Read train, dev and test of a task of one's own; hold out what has no file.

    Raises:
        UserError: a missing file, a broken line (with file and line), or too few examples to hold out a part.
    """
    assert task.files is not None
    repairs: dict[str, int] = {}
    places = {split: getattr(task.files, split) for split in ("train", "dev", "test")}
    train = OfTrain()
    parts = {
        split: _named_once(_part(task, place, split, repairs, train), split, repairs)
        for split, place in places.items()
        if place is not None
    }
    if task.test_alone:
        return Splits([], [], parts["test"].examples, repairs)
    examples = {split: part.examples for split, part in parts.items()} | _held_out(task, parts, repairs)
    _count_shared(examples, repairs)
    _count_missing(examples, repairs)
    return Splits(**examples, repairs=repairs, dev_of_train="dev" not in parts)


def _part(task: Task, place: str | InMemory, split: str, repairs: dict[str, int], train: OfTrain) -> Part:
    form = _form(task.files, place)
    if (kinds := KINDS_OF.get(form)) and task.kind not in kinds:
        what = f"a file of this format ({form}) is for {' or '.join(kinds)}, but this task is {task.kind}"
        raise UserError(what, where=place, remedy=f"name other data by --{split}; see {PAGE}")
    if form == "squad":
        questions = read_squad(Path(place), split, repairs)
        return Part(questions, [None] * len(questions))
    if form in ENTITY_FORMATS and task.kind == "relation":
        return relations_of(place, form, split, repairs, train)
    if form in ENTITY_FORMATS:
        column = int(dict(task.files.columns).get("label", -1))
        return entities_of(place, form, split, repairs, train, column)
    return table_of(task, place, form, split, repairs)


def _form(files: Files, place: str | InMemory) -> str:
    """Return the format of a split: that of train, unless its name ends otherwise."""
    if isinstance(place, InMemory):
        return "memory"
    if files.train is None:
        return files.format
    of_train = "" if isinstance(files.train, InMemory) else files.train
    alike = ending(of_train) == ending(place) and Path(of_train).is_dir() == Path(place).is_dir()
    return files.format if alike else detect_format(place)


# ---- splits


def _named_once(part: Part, split: str, repairs: dict[str, int]) -> Part:
    """Rename examples with an id that an earlier one has: "7", "7#2". Contexts of one question keep theirs."""
    seen: Counter[str] = Counter()
    examples = []
    for example in part.examples:
        seen[example.key] += 1
        if seen[example.key] > 1:
            example = type(example)(**vars(example) | {"key": f"{example.key}#{seen[example.key]}"})
        examples.append(example)
    if twice := sum(number - 1 for number in seen.values()):
        repairs[f"{split}: examples with an id that an earlier one has, renamed"] = twice
    return Part(examples, part.documents)


def _held_out(task: Task, parts: Mapping[str, Part], repairs: dict[str, int]) -> dict[str, list[Example]]:
    """Return the parts that are held out of train, and what is left of it; nothing if each split has a file."""
    missing = [split for split in SHARES if split not in parts]
    if not missing:
        return {}
    train, seed = parts["train"], task.files.split_seed
    first: dict[Any, str] = {}
    groups = [
        document or first.setdefault(content(example), getattr(example, "question_id", example.key))
        for example, document in zip(*train, strict=True)
    ]
    shares = {"dev": DEV_SHARE} if missing == ["dev"] else {split: SHARES[split] for split in missing}
    try:
        divided = divide(train.examples, groups, shares, seed)
    except ValueError:
        what = f"{len(train.examples)} train examples are too few to hold out {' and '.join(missing)}"
        raise UserError(
            what, where=task.place, remedy=f"add {' and '.join(f'--{split} FILE' for split in missing)}"
        ) from None
    by = "document" if any(train.documents) else "text"
    for split in missing:
        repairs[f"{split} examples held out of train, by {by}, split seed {seed}"] = len(divided[split])
    return divided


def _count_shared(examples: Mapping[str, Sequence[Example]], repairs: dict[str, int]) -> None:
    """Count the examples of dev and test whose text is in an earlier split too."""
    known: set[Any] = set()
    for split, others in (("train", ""), ("dev", "train"), ("test", "train or dev")):
        contents = [content(example) for example in examples[split]]
        if shared := sum(content in known for content in contents) if others else 0:
            repairs[f"{split} examples whose text is in {others} too"] = shared
        known |= set(contents)


def _count_missing(examples: Mapping[str, Sequence[Example]], repairs: dict[str, int]) -> None:
    """Count the classes of dev that train lacks; those of test are counted for every task."""
    of_train, of_dev = (set(_classes(examples[split])) for split in ("train", "dev"))
    if missing := sorted(of_dev - of_train):
        repairs[f"classes of dev that train lacks ({', '.join(missing[:5])})"] = len(missing)


def _classes(examples: Iterable[Example]) -> Iterable[str]:
    for example in examples:
        if isinstance(example, WordsExample):
            yield from (tag[2:] or "entity" for tag in example.tags if tag != "O")
        elif isinstance(label := getattr(example, "label", None), tuple):
            yield from label
        elif isinstance(label, str):
            yield label
