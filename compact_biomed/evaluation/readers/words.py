"""Entity sets: one word and its tag a line, an empty line after each sentence."""

import re
from pathlib import Path

from compact_biomed.corpus.streams import read_lines
from compact_biomed.errors import UserError
from compact_biomed.evaluation.examples import Splits, WordsExample, hold_out_dev
from compact_biomed.evaluation.readers.files import find_file, need_file
from compact_biomed.evaluation.readers.tags import is_tag, to_iob2
from compact_biomed.evaluation.tasks import Task

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
