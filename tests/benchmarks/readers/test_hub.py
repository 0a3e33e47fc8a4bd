"""Entity sets of the hub, with a stub instead of the hub."""

import datasets
import pytest

from compact_biomed.benchmarks.readers import read
from compact_biomed.benchmarks.tasks import find, ner_task_from_folder
from compact_biomed.errors import UserError

NAMES = ["O", "B-Toad", "I-Toad"]


def rows(tags, names=NAMES):
    feature = datasets.ClassLabel(names=names) if names else datasets.Value("string")
    features = datasets.Features(
        {"tokens": datasets.Sequence(datasets.Value("string")), "ner_tags": datasets.Sequence(feature)}
    )
    return datasets.Dataset.from_dict({"tokens": [["old", "frogs"]] * len(tags), "ner_tags": tags}, features=features)


def stub(monkeypatch: pytest.MonkeyPatch, splits: dict, requested: list) -> None:
    def load_dataset(name, config=None, *, revision=None):
        requested.append((name, config, revision))
        return datasets.DatasetDict(splits)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


def test_class_labels_and_strings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list = []
    splits = {"train": rows([[0, 2], [1, 2]]), "validation": rows([["O", "B-Toad"]], None), "test": rows([[0, 1]])}
    stub(monkeypatch, splits, requested)
    task = ner_task_from_folder("hub:frogs/toads@refs/convert/parquet:small")
    splits_read = read(task, find(task))
    assert requested == [("frogs/toads", "small", "refs/convert/parquet")]
    assert [example.tags for example in splits_read.train] == [("O", "B-Toad"), ("B-Toad", "I-Toad")]
    assert splits_read.dev[0].tags == ("O", "B-Toad")
    assert splits_read.test[0].key == "test/0"
    assert splits_read.repairs == {"train: entities that began with I": 1}


def test_tokens_of_white_space_are_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, tags = [["old", " ", "frogs"], ["\u00a0"], ["mild"]], [["O", "B", "I"], ["O"], ["O"]]
    split = datasets.Dataset.from_dict({"tokens": tokens, "tags": tags})
    stub(monkeypatch, {"train": split, "validation": split, "test": split}, [])
    splits = read(ner_task_from_folder("hub:frogs/toads"), None)
    assert [(e.words, e.tags) for e in splits.test] == [(("old", "frogs"), ("O", "B")), (("mild",), ("O",))]
    assert splits.repairs["test: words of white space alone, left out"] == 2


def test_what_the_hub_does_not_give_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args, **kwargs):
        raise RuntimeError("Dataset scripts are no longer supported")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match=r"hub:frogs/toads: cannot be opened: Dataset scripts.*--ner-dir"):
        read(ner_task_from_folder("hub:frogs/toads"), None)
    with pytest.raises(UserError, match="not a hub data set"):
        read(ner_task_from_folder("hub:frogs"), None)
    stub(monkeypatch, {"train": datasets.Dataset.from_dict({"text": ["x"]})}, [])
    with pytest.raises(UserError, match=r"no columns tokens and ner_tags among \['text'\]"):
        read(ner_task_from_folder("hub:frogs/toads"), None)
