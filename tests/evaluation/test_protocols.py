"""Protocols have the hyperparameters of the paper to the digit and give every model the same budget."""

import dataclasses

import pytest

from compact_biomed.benchmarks.examples import Splits, TextExample
from compact_biomed.benchmarks.tasks import TASKS
from compact_biomed.errors import UserError
from compact_biomed.evaluation.protocols import NO_OVERRIDES, Overrides, changes_in_words, protocol, training_examples
from compact_biomed.records.store import run_key


@pytest.mark.parametrize(
    ("task", "rate", "batch", "epochs", "length", "schedule", "decay"),
    [
        ("NCBI-disease", 5e-5, 16, 5, 512, "cosine", 0.01),
        ("BioASQ-7b", 3e-5, 16, 5, 384, "cosine", 0.01),
        ("GAD", 5e-5, 32, 3, 128, "linear", 0.0),
    ],
)
def test_published_hyperparameters(task, rate, batch, epochs, length, schedule, decay) -> None:
    chosen = protocol("published", TASKS[task], 1000, NO_OVERRIDES)
    settings = chosen.hyperparameters
    assert (settings.learning_rate, settings.batch_size, settings.epochs) == (rate, batch, epochs)
    assert (settings.max_length, settings.schedule, settings.weight_decay, settings.warmup) == (
        length,
        schedule,
        decay,
        0,
    )
    assert chosen.level == "published"
    assert not chosen.searches  # the last checkpoint, whatever dev says


def test_published_is_refused_where_the_paper_has_none() -> None:
    with pytest.raises(UserError, match="no protocol for HoC"):
        protocol("published", TASKS["HoC"], 1000, NO_OVERRIDES)
    with pytest.raises(UserError, match="'other'"):
        protocol("other", TASKS["HoC"], 1000, NO_OVERRIDES)


def test_standard_chooses_on_dev_and_small_sets_get_more_epochs() -> None:
    large, small, tiny = (protocol("standard", TASKS["NCBI-disease"], n, NO_OVERRIDES) for n in (5000, 320, 10))
    assert large.searches and len(large.learning_rates) == 3 and large.level == "standard"
    assert (large.hyperparameters.epochs, small.hyperparameters.epochs, tiny.hyperparameters.epochs) == (5, 25, 40)
    assert not large.train_on_dev


def test_overrides_take_the_place_of_the_search() -> None:
    one_rate = protocol("standard", TASKS["NCBI-disease"], 5000, Overrides(learning_rate=2e-4))
    assert one_rate.learning_rates == (2e-4,) and one_rate.hyperparameters.learning_rate == 2e-4
    assert one_rate.searches  # the epochs are still chosen
    fixed = protocol("standard", TASKS["NCBI-disease"], 5000, Overrides(learning_rate=2e-4, epochs=7))
    assert fixed.hyperparameters.epochs == 7 and not fixed.searches
    assert Overrides(epochs=7, max_train_examples=9).changed() == {"epochs": 7, "max_train_examples": 9}
    assert Overrides(learning_rates=[1e-4, 1e-4], batch_sizes=[8, 8]) == Overrides(
        learning_rates=[1e-4], batch_sizes=[8]
    )


def test_thorough_makes_every_epoch_a_fair_candidate() -> None:
    large, tiny = (protocol("thorough", TASKS["NCBI-disease"], n, NO_OVERRIDES) for n in (5000, 100))
    assert large.searches and large.choose_epochs and len(large.learning_rates) == 3 and large.patience == 3
    settings = large.hyperparameters
    assert (settings.epochs, tiny.hyperparameters.epochs) == (20, 40)
    assert settings.schedule == "constant_with_warmup" and settings.average_last == 1
    assert not protocol("thorough", TASKS["GAD"], 5000, Overrides(epochs=4, learning_rate=1e-4)).searches


@pytest.mark.parametrize("name", ["standard", "thorough"])
def test_a_few_pairs_do_not_choose_among_forty_epochs(name: str) -> None:
    chosen = protocol(name, TASKS["BIOSSES"], 64, NO_OVERRIDES)
    assert chosen.hyperparameters.epochs == 40 and not chosen.choose_epochs and chosen.patience is None
    assert chosen.searches and len(chosen.learning_rates) == 3


def test_new_hyperparameters_leave_the_keys_of_older_records_as_they_were() -> None:
    """The hashes are those of the keys' content before layer decay, means and patience existed."""
    changed = Overrides(layer_decay=0.9, average_last=0.5)
    keys = {}
    for name, overrides in (("standard", NO_OVERRIDES), ("published", NO_OVERRIDES), ("standard", changed)):
        content = protocol(name, TASKS["NCBI-disease"], 5000, overrides).hashed()
        keys[name, overrides] = run_key(content)
        assert ("layer_decay" in content["settings"]) == (overrides is changed) and "patience" not in content
    assert keys["standard", NO_OVERRIDES] == "dacfb09863607f73"
    assert keys["published", NO_OVERRIDES] == "3fdab154e9cb6f51"
    assert keys["standard", changed] not in (keys["standard", NO_OVERRIDES], keys["published", NO_OVERRIDES])


def _splits(n: int) -> Splits:
    examples = [TextExample(f"train/{i}", f"text {i}", None, "yes") for i in range(n)]
    return Splits(examples[: n - 5], examples[n - 5 :], examples[:1])


def test_a_part_of_the_training_set_is_the_same_part_each_time() -> None:
    splits, standard = _splits(40), protocol("standard", TASKS["GAD"], 35, NO_OVERRIDES)
    ten = training_examples(splits, standard, Overrides(max_train_examples=10))
    twenty = training_examples(splits, standard, Overrides(max_train_examples=20))
    assert len(ten) == 10 and len(twenty) == 20 and set(ten) < set(twenty)
    assert ten == [example for example in splits.train if example in ten]  # in file order
    assert ten != splits.train[:10]
    assert training_examples(splits, standard, Overrides(max_train_examples=1000)) == splits.train


def test_published_trains_on_what_was_held_out_of_folds_but_not_on_a_real_dev_set() -> None:
    splits = _splits(40)
    folds, ner = (protocol("published", TASKS[name], 35, NO_OVERRIDES) for name in ("GAD", "NCBI-disease"))
    held_out = dataclasses.replace(splits, dev_of_train=True)
    for published in (folds, ner):  # an entity set of one's own may have no dev either
        assert training_examples(held_out, published, NO_OVERRIDES) == [*splits.train, *splits.dev]
        assert training_examples(splits, published, NO_OVERRIDES) == splits.train
    standard = protocol("standard", TASKS["GAD"], 35, NO_OVERRIDES)
    assert training_examples(held_out, standard, NO_OVERRIDES) == splits.train


def test_a_grid_of_ones_own_replaces_the_protocols() -> None:
    task = TASKS["NCBI-disease"]
    grid = protocol("standard", task, 5000, Overrides(learning_rates=[1e-5, 2e-5], batch_sizes=[8, 32], max_epochs=9))
    assert grid.candidates == [(1e-5, 8), (2e-5, 8), (1e-5, 32), (2e-5, 32)] and grid.choose_epochs
    assert [*map(str, grid.candidates)][1] == "learning rate 2e-05, batch size 8"
    assert grid.candidates[1].applied(grid.hyperparameters) == dataclasses.replace(
        grid.hyperparameters, learning_rate=2e-5
    )
    assert grid.hyperparameters.epochs == 9 and grid.search()["batch_sizes"] == [8, 32]
    # Without one, keys and records say what they have always said.
    plain = protocol("standard", task, 5000, Overrides())
    assert [each.recorded() for each in plain.candidates] == [{"learning_rate": rate} for rate in plain.learning_rates]
    assert plain.search().keys() == {"learning_rates", "choose_epochs", "train_on_dev"}
    # What chooses on dev does not train on it.
    published = protocol("published", TASKS["BioASQ-7b"], 5000, Overrides(learning_rates=[1e-5, 2e-5]))
    assert published.searches and not published.train_on_dev
    words = changes_in_words({"learning_rates": [1e-5, 2e-5], "epochs": 3})
    assert words == "epochs 3, learning rates 1e-05 or 2e-05"
