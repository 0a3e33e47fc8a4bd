"""Read entity sets: files with a word and its tag per line, or data sets of the Hugging Face hub.

Tags of any common scheme are converted to IOB2.
"""

import re
from pathlib import Path

import datasets

from compact_biomed.benchmarks.examples import Splits, WordsExample, hold_out_dev
from compact_biomed.benchmarks.readers.files import find_file, need_file
from compact_biomed.benchmarks.standoff.columns import read_columns
from compact_biomed.benchmarks.standoff.tokens import to_examples
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.corpus import hub
from compact_biomed.errors import UserError

ENDINGS = (".tsv", ".txt", ".conll", ".bio", ".iob", ".iob2")
DEV_NAMES = ("devel", "dev", "valid", "validation")
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
    train = read_columns(need_file(folder, ["train"], ENDINGS), "train", repairs).examples
    test = read_columns(need_file(folder, ["test"], ENDINGS), "test", repairs).examples
    dev_path = find_file(folder, DEV_NAMES, ENDINGS)
    if dev_path:
        dev = read_columns(dev_path, "dev", repairs).examples
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
    with hub.opening(task.place, "try @refs/convert/parquet, or download the files and pass their folder as --ner-dir"):
        hub_splits = datasets.load_dataset(match["name"], match["config"], revision=match["revision"])
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
    places = (f"{place}, {split}, row {number}" for number in range(len(rows)))
    with_tags = zip(places, rows["tokens"], rows[column], strict=True)
    examples, _ = to_examples(with_tags, _HUB_SPLITS[split], split, repairs, names)
    return examples
