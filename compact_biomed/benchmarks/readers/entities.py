"""Read entity sets: files with a word and its tag per line, or data sets of the Hugging Face hub.

Tags of any common scheme are converted to IOB2.
"""

from pathlib import Path

from compact_biomed.benchmarks.examples import Splits, WordsExample, hold_out_dev
from compact_biomed.benchmarks.readers.files import find_file, need_file
from compact_biomed.benchmarks.readers.rows import open_hub
from compact_biomed.benchmarks.standoff.columns import read_columns
from compact_biomed.benchmarks.standoff.tokens import to_examples
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.errors import UserError

ENDINGS = (".tsv", ".txt", ".conll", ".bio", ".iob", ".iob2")
DEV_NAMES = ("devel", "dev", "valid", "validation")


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

    Raises:
        UserError: the data set cannot be opened, see `rows.open_hub`, or lacks these columns.
    """
    repairs: dict[str, int] = {}
    splits = open_hub(task.place)
    parts = {split: _hub_sentences(rows, split, task.place, repairs) for split, rows in splits.items()}
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
    examples, _ = to_examples(with_tags, split, split, repairs, names)
    return examples
