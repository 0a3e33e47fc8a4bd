"""Protocols: the rules by which models are fine-tuned so that their scores can be compared.

`published`: the settings of the paper's scripts, one learning rate for all models.
`standard`: the learning rate and the number of epochs are chosen on the dev set, from one grid
and with one budget for every model. The test set is read once, with the chosen values.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from compact_biomed.benchmarks.examples import Example, Splits, share
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.errors import UserError

PROTOCOLS = ("standard", "published")
SEARCH_SEED = 0

# Learning rates that suit encoders from 14 M to 110 M parameters: the larger the encoder, the lower the rate.
_LEARNING_RATES = (5e-5, 1e-4, 3e-4)
_EPOCHS, _FEWEST_STEPS, _MOST_EPOCHS = 5, 500, 40


@dataclass(frozen=True)
class FinetuneHyperparameters:
    """The hyperparameters of one fine-tuning.

    Args:
        learning_rate: peak of the schedule, for AdamW (betas 0.9 and 0.999, epsilon 1e-8).
        epochs: length of the schedule.
        stop_after: number of epochs to train, if fewer than `epochs`.
        batch_size: examples (question answering: windows) per optimizer step.
        schedule: "linear" or "cosine", down to zero.
        warmup: share of all steps.
        weight_decay: of AdamW.
        max_length: longest input in tokens, special tokens included.
        max_grad_norm: gradients with a larger norm are scaled down to it.
    """

    learning_rate: float
    epochs: int
    batch_size: int = 16
    schedule: str = "linear"
    warmup: float = 0.0
    weight_decay: float = 0.01
    max_length: int = 512
    max_grad_norm: float = 1.0
    stop_after: int | None = None


@dataclass(frozen=True)
class Overrides:
    """The user's changes to a protocol. Each of them enters the record.

    Args:
        learning_rate: replaces the protocol's.
        epochs: replaces the protocol's; the model after the last epoch is taken.
        max_train_examples: size of the subset to train on, chosen by the examples' keys.
    """

    learning_rate: float | None = None
    epochs: int | None = None
    max_train_examples: int | None = None

    def changed(self) -> dict[str, float | int]:
        """Return the values that were set, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


NO_OVERRIDES = Overrides()


@dataclass(frozen=True)
class Protocol:
    """A protocol applied to a task.

    Args:
        name: one of `PROTOCOLS`.
        level: of the labels, "standard" or "published" (see `evaluation.kinds`).
        hyperparameters: of the final training; learning rate and epochs may still be chosen on dev.
        learning_rates: candidates.
        choose_epochs: True = every epoch of the schedule is a candidate; False = take the last.
        train_on_dev: put a dev set that was held out of train back into it, since nothing is chosen on it.
        source: where the values come from.
    """

    name: str
    level: str
    hyperparameters: FinetuneHyperparameters
    learning_rates: tuple[float, ...]
    choose_epochs: bool
    train_on_dev: bool
    source: str

    @property
    def searches(self) -> bool:
        """Return whether something is chosen on dev."""
        return self.choose_epochs or len(self.learning_rates) > 1

    def hashed(self) -> dict[str, Any]:
        """Return the part of a run's key that the protocol decides. Another content would orphan all records."""
        return {
            "name": self.name,
            "level": self.level,
            "settings": asdict(self.hyperparameters),
            "learning_rates": self.learning_rates,
            "choose_epochs": self.choose_epochs,
            "train_on_dev": self.train_on_dev,
        }


def default_seeds(protocol: str) -> list[int]:
    """Return the seeds to use if the user names none; 42 is the seed of the published scripts."""
    return [42] if protocol == "published" else [1]


def protocol(name: str, task: Task, n_train: int, overrides: Overrides) -> Protocol:
    """Return the protocol of that name for a task.

    Args:
        n_train: examples in the training set; small sets get more epochs.

    Raises:
        UserError: no such protocol, or the paper has none for this kind of task.
    """
    if name not in PROTOCOLS:
        raise UserError(f"no protocol {name!r}", where="--protocol", remedy=f"one of {', '.join(PROTOCOLS)}")
    applied = _published(task) if name == "published" else _standard(task, n_train)
    if (rate := overrides.learning_rate) is not None:
        changed = replace(applied.hyperparameters, learning_rate=rate)
        applied = replace(applied, hyperparameters=changed, learning_rates=(rate,))
    if overrides.epochs is not None:
        changed = replace(applied.hyperparameters, epochs=overrides.epochs)
        applied = replace(applied, hyperparameters=changed, choose_epochs=False)
    return applied


def _published(task: Task) -> Protocol:
    """Return the values of arXiv 2209.03182's scripts; for relations, where they have none, biobert-pytorch's."""
    paper = "scripts of arXiv 2209.03182"
    biobert = "dmis-lab/biobert-pytorch (the paper's scripts have none for relation extraction)"
    by_kind = {
        "ner": (FinetuneHyperparameters(5e-5, epochs=5, batch_size=16, schedule="cosine", max_length=512), paper),
        "qa": (FinetuneHyperparameters(3e-5, epochs=5, batch_size=16, schedule="cosine", max_length=384), paper),
        # run_re.py leaves the rest at the Trainer's defaults: linear, no warmup, no decay.
        "relation": (FinetuneHyperparameters(5e-5, epochs=3, batch_size=32, weight_decay=0.0, max_length=128), biobert),
    }
    if task.kind not in by_kind:
        raise UserError(
            f"the paper has no protocol for {task.name}", where="--protocol", remedy="use --protocol standard"
        )
    values, source = by_kind[task.kind]
    return Protocol("published", "published", values, (values.learning_rate,), False, True, source)


def _standard(task: Task, n_train: int) -> Protocol:
    steps = math.ceil(n_train / 16)
    epochs = min(max(_EPOCHS, math.ceil(_FEWEST_STEPS / steps)), _MOST_EPOCHS)
    values = FinetuneHyperparameters(_LEARNING_RATES[0], epochs, batch_size=16, warmup=0.1, max_length=task.max_length)
    return Protocol("standard", "standard", values, _LEARNING_RATES, True, False, "compact-biomed")


def training_examples(splits: Splits, protocol: Protocol, overrides: Overrides) -> list[Example]:
    """Return the examples to train on, in file order. A larger subset contains every smaller one."""
    with_dev = protocol.train_on_dev and splits.dev_of_train
    train: Sequence[Example] = [*splits.train, *splits.dev] if with_dev else splits.train
    if overrides.max_train_examples is None or overrides.max_train_examples >= len(train):
        return list(train)
    subset = {id(example) for example in sorted(train, key=_subset_order)[: overrides.max_train_examples]}
    return [example for example in train if id(example) in subset]


def _subset_order(example: Example) -> tuple[float, str]:
    return share(f"train:{example.key}"), example.key
