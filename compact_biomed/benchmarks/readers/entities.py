"""Entity sets: one word and its tag a line, an empty line after each sentence."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets

from compact_biomed.benchmarks.examples import Splits, WordsExample, hold_out_dev
from compact_biomed.benchmarks.readers.files import find_file, need_file
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.corpus.streams import read_lines
from compact_biomed.errors import UserError

# ----------------------------------------------------------------------------------------------------
# Entity tags of any usual scheme -> IOB2.


_TAG = re.compile(r"O|[BIESLU](?:-(?P<type>\S+))?")
# Other names of the same thing: BILOU's Last and Unit are IOBES' End and Single.
_PREFIX = {"L": "E", "U": "S"}

Sentence = Sequence[str]
Place = Callable[[int, int], str]


@dataclass(frozen=True)
class Normalized:
    """Args:
    tags: in IOB2, as many as were given.
    scheme: what they were in: "IOB2", "IOB1" or "IOBES".
    repaired: tags without a beginning ("O I"), taken for one, in a file that is not IOB1.
    """

    tags: list[list[str]]
    scheme: str
    repaired: int


def is_tag(tag: str) -> bool:
    """Whether this is O, or one of B I E S L U, alone or with "-" and a type."""
    return _TAG.fullmatch(tag) is not None


def to_iob2(sentences: Sequence[Sentence], place: Place) -> Normalized:
    """Detect the scheme of a file and write it in IOB2.

    E, S, L or U anywhere make it IOBES (or BILOU). Without them it is IOB1 if some entity
    begins with I and every B follows an entity of its own type, else IOB2; an entity of an
    IOB2 file that begins with I is taken for one, as conlleval and seqeval do, and counted.

    Args:
        sentences: tags for which `is_tag` holds.
        place: (sentence, word) -> how to name it in a message.

    Raises:
        UserError: bare and typed tags in one file, or two schemes (an IOBES entity without end).
    """
    parts = [[_parts(tag) for tag in sentence] for sentence in sentences]
    _check_types(parts, place)
    if any(prefix in "ES" for sentence in parts for prefix, _ in sentence):
        _check_ends(parts, place)
        scheme = "IOBES"
    else:
        scheme = "IOB2" if not _orphans(parts) else "IOB1" if _only_between(parts) else "IOB2"
    repaired = 0 if scheme == "IOB1" else _orphans(parts)
    return Normalized([_write(sentence) for sentence in parts], scheme, repaired)


def _parts(tag: str) -> tuple[str, str | None]:
    """("B", type), the type "" for a bare tag and None for O."""
    if tag == "O":
        return "O", None
    return _PREFIX.get(tag[0], tag[0]), tag[2:]


def _goes_on(before: tuple[str, str | None], here: tuple[str, str | None]) -> bool:
    return before[0] in "BI" and here[0] in "IE" and before[1] == here[1]


def _walk(parts):
    """(sentence, word, tag before, tag) of every tag."""
    for s, sentence in enumerate(parts):
        for w, (before, here) in enumerate(zip([("O", None), *sentence], sentence, strict=False)):
            yield s, w, before, here


def _orphans(parts) -> int:
    return sum(here[0] in "IE" and not _goes_on(before, here) for _, _, before, here in _walk(parts))


def _only_between(parts) -> bool:
    """IOB1's B: only where an entity follows one of the same type at once."""
    return all(before[0] != "O" and before[1] == here[1] for _, _, before, here in _walk(parts) if here[0] == "B")


def _check_types(parts, place: Place) -> None:
    bare = None
    for s, w, _, (prefix, kind) in _walk(parts):
        if prefix != "O":
            if bare is not None and bare != (kind == ""):
                raise UserError("bare and typed tags in one file", where=place(s, w), remedy="write B or B-TYPE")
            bare = kind == ""


def _check_ends(parts, place: Place) -> None:
    for s, sentence in enumerate(parts):
        for w, (here, after) in enumerate(zip(sentence, [*sentence[1:], ("O", None)], strict=True)):
            if here[0] in "BI" and not _goes_on(here, after):
                raise UserError(
                    "mixed schemes: an entity without end, where others end in E or S",
                    where=place(s, w),
                    remedy="write all tags of a file in one scheme",
                )


def _write(sentence) -> list[str]:
    tags = []
    for before, here in zip([("O", None), *sentence], sentence, strict=False):
        prefix = "O" if here[0] == "O" else "I" if _goes_on(before, here) else "B"
        tags.append(f"{prefix}-{here[1]}" if here[1] else prefix)
    return tags


ENDINGS = (".tsv", ".txt", ".conll", ".bio", ".iob", ".iob2")
DEV_NAMES = ("devel", "dev", "valid", "validation")
_BLANKS = re.compile(r"[ \t]+")


def read_words(task: Task, folder: Path, fold: int | None = None) -> Splits:
    """train, devel (or dev; without one a tenth of train by hash) and test of an entity set.

    Columns are separated by tabs or blanks, as the first line has it; the word is the first,
    the tag the last. LF or CR LF, a byte order mark, `-DOCSTART-` lines and a missing end of
    the last line are taken in stride.

    Raises:
        UserError: a file that is missing or without sentences, a line with another number of
            columns than the first, without a word, or with a tag that is none; file and line.
    """
    repairs: dict[str, int] = {}
    train = read_words_file(need_file(folder, ["train"], ENDINGS), "train", repairs)
    test = read_words_file(need_file(folder, ["test"], ENDINGS), "test", repairs)
    dev_path = find_file(folder, DEV_NAMES, ENDINGS)
    if dev_path:
        dev = read_words_file(dev_path, "dev", repairs)
    else:
        train, dev = hold_out_dev(train)
        if not dev or not train:
            number = len(train) + len(dev)
            raise UserError(
                f"there is no devel file, and a tenth of {number} sentences of train is none",
                where=folder,
                remedy="add devel.tsv",
            )
    return Splits(train, dev, test, repairs, dev_of_train=not dev_path)


def read_words_file(path: Path, split: str, repairs: dict[str, int]) -> list[WordsExample]:
    """The sentences of one file; adds to `repairs` what was mended."""
    sentences = _sentences(path)
    if not sentences:
        raise UserError("no sentence", where=path, remedy="expected: a word and its tag a line")
    normalized = to_iob2(
        [[tag for _, _, tag in sentence] for sentence in sentences],
        lambda s, w: f"{path}, line {sentences[s][w][0]}",
    )
    if normalized.repaired:
        _count(repairs, f"{split}: entities that began with I", normalized.repaired)
    if normalized.scheme != "IOB2":
        _count(repairs, f"{split}: sentences written in {normalized.scheme}", len(sentences))
    return [
        WordsExample(f"{split}/{number}", tuple(word for _, word, _ in sentence), tuple(tags))
        for number, (sentence, tags) in enumerate(zip(sentences, normalized.tags, strict=True))
    ]


def _count(repairs: dict[str, int], what: str, number: int) -> None:
    repairs[what] = repairs.get(what, 0) + number


def _sentences(path: Path) -> list[list[tuple[int, str, str]]]:
    """(line number, word, tag) of every word, sentence by sentence."""
    sentences: list[list[tuple[int, str, str]]] = [[]]
    form: tuple[bool, int] | None = None  # tabs or blanks; columns
    for number, line in read_lines(path):
        if not line.strip() or line.startswith("-DOCSTART-"):
            if sentences[-1]:
                sentences.append([])
            continue
        form = form or _form(line)
        sentences[-1].append((number, *_word_and_tag(line, form, f"{path}, line {number}")))
    return [sentence for sentence in sentences if sentence]


def _form(line: str) -> tuple[bool, int]:
    tabs = "\t" in line
    return tabs, len(_cells(line, tabs))


def _cells(line: str, tabs: bool) -> list[str]:
    return [cell.strip(" ") for cell in line.split("\t")] if tabs else _BLANKS.split(line.strip(" \t"))


def _word_and_tag(line: str, form: tuple[bool, int], where: str) -> tuple[str, str]:
    tabs, columns = form
    cells = _cells(line, tabs)
    if len(cells) != columns or columns < 2:
        expected = f"{columns}, as in the first line" if columns > 1 else "a word and its tag"
        raise UserError(
            f"{len(cells)} columns (separated by {'tabs' if tabs else 'blanks'}), expected {expected}",
            where=where,
            remedy="correct the line",
        )
    if not cells[0]:
        raise UserError("no word before the tab", where=where, remedy="correct the line")
    if not is_tag(cells[-1]):
        remedy = "tags are O, or one of B I E S L U, alone or followed by - and a type"
        raise UserError(f"unknown tag {cells[-1]!r}", where=where, remedy=remedy)
    return cells[0], cells[-1]


# ----------------------------------------------------------------------------------------------------
# Entity sets of the Hugging Face hub, through `datasets` (Parquet; no code of the set is run).


_PLACE = re.compile(r"hub:(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?(?::(?P<config>[\w.-]+))?")
_SPLITS = {"train": "train", "validation": "dev", "dev": "dev", "test": "test"}


def read_hub_words(task: Task, folder: Path | None = None, fold: int | None = None) -> Splits:
    """`hub:OWNER/NAME[@REVISION][:CONFIG]` with columns `tokens` and `ner_tags` (or `tags`).

    Sets that were published as a script can often be read at revision refs/convert/parquet.

    Raises:
        UserError: the hub does not give it, or the columns are not there.
    """
    match = _PLACE.fullmatch(task.place)
    if match is None:
        raise UserError("not a hub set", where=task.place, remedy="write hub:OWNER/NAME[@REVISION][:CONFIG]")
    try:
        found = datasets.load_dataset(match["name"], match["config"], revision=match["revision"])
    except (ValueError, RuntimeError, OSError) as error:
        raise UserError(
            f"cannot be opened: {error}",
            where=task.place,
            remedy="try @refs/convert/parquet, or bring files: --ner-dir",
        ) from None
    repairs: dict[str, int] = {}
    parts = {
        _SPLITS[name]: _hub_sentences(rows, name, task.place, repairs)
        for name, rows in found.items()
        if name in _SPLITS
    }
    train, test = parts.get("train", []), parts.get("test", [])
    if "dev" in parts:
        return Splits(train, parts["dev"], test, repairs)
    return Splits(*hold_out_dev(train), test, repairs, dev_of_train=True)


def _hub_sentences(rows, split: str, place: str, repairs: dict[str, int]) -> list[WordsExample]:
    column = next((name for name in ("ner_tags", "tags") if name in rows.column_names), None)
    if column is None or "tokens" not in rows.column_names:
        raise UserError(f"no columns tokens and ner_tags among {rows.column_names}", where=place)
    feature = getattr(rows.features[column], "feature", None)
    names = getattr(feature, "names", None)
    words, tags = [], []
    for number, row in enumerate(rows):
        here = [names[tag] if names else tag for tag in row[column]]
        if not row["tokens"]:
            continue
        if len(here) != len(row["tokens"]) or not all(isinstance(tag, str) and is_tag(tag) for tag in here):
            raise UserError("tags that do not fit the tokens", where=f"{place}, {split}, row {number}")
        words.append(row["tokens"])
        tags.append(here)
    normalized = to_iob2(tags, lambda s, w: f"{place}, {split}, sentence {s}")
    if normalized.repaired:
        repairs[f"{split}: entities that began with I"] = normalized.repaired
    return [
        WordsExample(f"{_SPLITS[split]}/{number}", tuple(sentence), tuple(row))
        for number, (sentence, row) in enumerate(zip(words, normalized.tags, strict=True))
    ]
