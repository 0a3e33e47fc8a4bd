"""Read entity sets: files with a word and its tag per line, or data sets of the Hugging Face hub.

Tags of any common scheme are converted to IOB2.
"""

import re
from pathlib import Path

import datasets

from compact_biomed.benchmarks.examples import Splits, WordsExample, hold_out_dev
from compact_biomed.benchmarks.readers.files import find_file, need_file
from compact_biomed.benchmarks.tags import is_tag, to_iob2
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.corpus.streams import read_lines
from compact_biomed.errors import UserError

ENDINGS = (".tsv", ".txt", ".conll", ".bio", ".iob", ".iob2")
DEV_NAMES = ("devel", "dev", "valid", "validation")
_BLANKS = re.compile(r"[ \t]+")
_HUB_NAME = re.compile(r"hub:(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?(?::(?P<config>[\w.-]+))?")
_HUB_SPLITS = {"train": "train", "validation": "dev", "dev": "dev", "test": "test"}


def read_words(task: Task, folder: Path, fold: int | None = None) -> Splits:
    """Read train, devel (or dev; else a tenth of train, by hash) and test of an entity set.

    Columns are separated by tabs or blanks, as in the first line; the word is the first, the tag the last. A
    byte order mark, CR LF, `-DOCSTART-` lines and a last line without an end are accepted.

    Raises:
        UserError: a missing file, a file without sentences, or (with the line) another number of columns than
            in the first line, no word, or an unknown tag.
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
                f"there is no devel file, and {number} train sentences are too few to hold out a tenth",
                where=folder,
                remedy="add devel.tsv",
            )
    return Splits(train, dev, test, repairs, dev_of_train=not dev_path)


def read_words_file(path: Path, split: str, repairs: dict[str, int]) -> list[WordsExample]:
    """Return the sentences of one file; add what was corrected to `repairs`."""
    sentences = _sentences(path)
    if not sentences:
        raise UserError("no sentence", where=path, remedy="write a word and its tag per line")
    normalized = to_iob2(
        [[tag for _, _, tag in sentence] for sentence in sentences],
        lambda s, w: f"{path}:{sentences[s][w][0]}",
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
    """Return (line number, word, tag) of every word, one list per sentence."""
    sentences: list[list[tuple[int, str, str]]] = [[]]
    layout: tuple[bool, int] | None = None  # whether tabs separate the columns; number of columns
    for number, line in read_lines(path):
        if not line.strip() or line.startswith("-DOCSTART-"):
            if sentences[-1]:
                sentences.append([])
            continue
        layout = layout or _layout(line)
        sentences[-1].append((number, *_word_and_tag(line, layout, f"{path}:{number}")))
    return [sentence for sentence in sentences if sentence]


def _layout(line: str) -> tuple[bool, int]:
    tabs = "\t" in line
    return tabs, len(_cells(line, tabs))


def _cells(line: str, tabs: bool) -> list[str]:
    return [cell.strip(" ") for cell in line.split("\t")] if tabs else _BLANKS.split(line.strip(" \t"))


def _word_and_tag(line: str, layout: tuple[bool, int], where: str) -> tuple[str, str]:
    tabs, columns = layout
    cells = _cells(line, tabs)
    if len(cells) != columns or columns < 2:
        expected = f"{columns}, as in the first line" if columns > 1 else "a word and its tag"
        raise UserError(
            f"{len(cells)} columns (separated by {'tabs' if tabs else 'blanks'}), expected {expected}",
            where=where,
            remedy="correct the line",
        )
    if not cells[0] or cells[0].isspace():
        raise UserError("no word before the tab", where=where, remedy="correct the line")
    if not is_tag(cells[-1]):
        remedy = "use O, or one of B I E S L U, alone or followed by - and a type"
        raise UserError(f"unknown tag {cells[-1]!r}", where=where, remedy=remedy)
    return cells[0], cells[-1]


def read_hub_words(task: Task, folder: Path | None = None, fold: int | None = None) -> Splits:
    """Read `hub:OWNER/NAME[@REVISION][:CONFIG]` with the columns `tokens` and `ner_tags` (or `tags`).

    No code of the data set is run. Data sets that were published as a script can often be read at revision
    refs/convert/parquet.

    Raises:
        UserError: the data set cannot be opened, or lacks these columns.
    """
    match = _HUB_NAME.fullmatch(task.place)
    if match is None:
        raise UserError("not a hub data set", where=task.place, remedy="write hub:OWNER/NAME[@REVISION][:CONFIG]")
    try:
        hub_splits = datasets.load_dataset(match["name"], match["config"], revision=match["revision"])
    except (ValueError, RuntimeError, OSError) as error:
        raise UserError(
            f"cannot be opened: {error}",
            where=task.place,
            remedy="try @refs/convert/parquet, or download the files and pass their folder as --ner-dir",
        ) from None
    repairs: dict[str, int] = {}
    parts = {
        _HUB_SPLITS[name]: _hub_sentences(rows, name, task.place, repairs)
        for name, rows in hub_splits.items()
        if name in _HUB_SPLITS
    }
    train, test = parts.get("train", []), parts.get("test", [])
    if "dev" in parts:
        return Splits(train, parts["dev"], test, repairs)
    return Splits(*hold_out_dev(train), test, repairs, dev_of_train=True)


def _hub_sentences(rows, split: str, place: str, repairs: dict[str, int]) -> list[WordsExample]:
    column = next((name for name in ("ner_tags", "tags") if name in rows.column_names), None)
    if column is None or "tokens" not in rows.column_names:
        raise UserError(
            f"no columns tokens and ner_tags among {rows.column_names}",
            where=place,
            remedy="choose a data set or configuration with these columns",
        )
    feature = getattr(rows.features[column], "feature", None)
    names = getattr(feature, "names", None)
    words, tags = [], []
    for number, row in enumerate(rows):
        row_tags = [names[tag] if names else tag for tag in row[column]]
        if not row["tokens"]:
            continue
        if len(row_tags) != len(row["tokens"]) or not all(isinstance(tag, str) and is_tag(tag) for tag in row_tags):
            raise UserError(
                "the tags do not match the tokens",
                where=f"{place}, {split}, row {number}",
                remedy="choose another revision of the data set",
            )
        kept = [(word, tag) for word, tag in zip(row["tokens"], row_tags, strict=True) if word.strip()]
        if blank := len(row_tags) - len(kept):
            _count(repairs, f"{split}: words of white space alone, left out", blank)
        if kept:
            words.append([word for word, _ in kept])
            tags.append([tag for _, tag in kept])
    normalized = to_iob2(tags, lambda s, w: f"{place}, {split}, sentence {s}")
    if normalized.repaired:
        repairs[f"{split}: entities that began with I"] = normalized.repaired
    return [
        WordsExample(f"{_HUB_SPLITS[split]}/{number}", tuple(sentence), tuple(row))
        for number, (sentence, row) in enumerate(zip(words, normalized.tags, strict=True))
    ]
