"""Entity sets of the Hugging Face hub, through `datasets` (Parquet; no code of the set is run)."""

import re
from pathlib import Path

from compact_biomed.errors import UserError
from compact_biomed.evaluation.examples import Splits, WordsExample, hold_out_dev
from compact_biomed.evaluation.readers.tags import is_tag, to_iob2
from compact_biomed.evaluation.tasks import Task

_PLACE = re.compile(r"hub:(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?(?::(?P<config>[\w.-]+))?")
_SPLITS = {"train": "train", "validation": "dev", "dev": "dev", "test": "test"}


def read_hub_words(task: Task, folder: Path | None = None, fold: int | None = None) -> Splits:
    """`hub:OWNER/NAME[@REVISION][:CONFIG]` with columns `tokens` and `ner_tags` (or `tags`).

    Sets that were published as a script can often be read at revision refs/convert/parquet.

    Raises:
        UserError: the hub does not give it, or the columns are not there.
    """
    import datasets

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
        _SPLITS[name]: _sentences(rows, name, task.place, repairs) for name, rows in found.items() if name in _SPLITS
    }
    train, test = parts.get("train", []), parts.get("test", [])
    if "dev" in parts:
        return Splits(train, parts["dev"], test, repairs)
    return Splits(*hold_out_dev(train), test, repairs, dev_of_train=True)


def _sentences(rows, split: str, place: str, repairs: dict[str, int]) -> list[WordsExample]:
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
