"""Relation sets: a sentence with two masked entities (@GENE$, @DISEASE$, @CHEMICAL$) and its class."""

from pathlib import Path

from compact_biomed.errors import UserError
from compact_biomed.evaluation.examples import Splits, TextExample, hold_out_dev
from compact_biomed.evaluation.readers.files import need_file, read_table
from compact_biomed.evaluation.tasks import Task

_BINARY = ("0", "1")
_CHEMPROT = ("CPR:3", "CPR:4", "CPR:5", "CPR:6", "CPR:9", "false")
_ENDINGS = (".tsv",)


def read_fold(task: Task, folder: Path, fold: int | None = None) -> Splits:
    """One fold of GAD or EU-ADR; dev is a tenth of its train, by hash of the key.

    BioBERT's train.tsv has two columns and no header, its test.tsv three columns with one.
    """
    assert fold is not None
    place = folder / str(fold)
    train_path = need_file(place, ["train"], _ENDINGS)
    examples = [
        _example(f"{fold}/train/{number - 1}", sentence, label, _BINARY, f"{train_path}, line {number}")
        for number, (sentence, label) in read_table(train_path, ("sentence", "label"))
    ]
    train, dev = hold_out_dev(examples)
    test_path = need_file(place, ["test"], _ENDINGS)
    test = [
        _example(f"{fold}/test/{index}", sentence, label, _BINARY, f"{test_path}, line {number}")
        for number, (index, sentence, label) in read_table(test_path, ("index", "sentence", "label"), header=True)
    ]
    return Splits(train, dev, test, dev_of_train=True)


def read_chemprot(task: Task, folder: Path, fold: int | None = None) -> Splits:
    """CHEMPROT in BLUE's layout. A pair with two labels stands there as two examples, as in BLUE."""
    parts = {}
    for split, names in (("train", ["train"]), ("dev", ["dev", "devel"]), ("test", ["test"])):
        path = need_file(folder, names, _ENDINGS)
        seen: dict[str, int] = {}
        parts[split] = []
        for number, (index, sentence, label) in read_table(path, ("index", "sentence", "label"), header=True):
            seen[index] = seen.get(index, 0) + 1
            key = index if seen[index] == 1 else f"{index}#{seen[index]}"
            parts[split].append(_example(key, sentence, label, _CHEMPROT, f"{path}, line {number}"))
    return Splits(**parts)


def _example(key: str, sentence: str, label: str, classes: tuple[str, ...], where: str) -> TextExample:
    label = label.strip()
    if label not in classes:
        raise UserError(f"unknown label {label!r}", where=where, remedy=f"one of {', '.join(classes)}")
    if not sentence.strip():
        raise UserError("an empty sentence", where=where, remedy="correct or remove the line")
    return TextExample(key, sentence, None, label)
