"""Protocols: the rules by which models are fine-tuned so that their scores can be compared.

`published`: the settings of the paper's scripts, one learning rate for all models.
`standard`: the learning rate and the number of epochs are chosen on the dev set, from one grid
and with one budget for every model. The test set is read once, with the chosen values.
`thorough`: the same choice with up to 20 epochs. A schedule that falls to zero makes only its last epoch a fair
candidate: a training that stops earlier has not come to rest. So the rate stays constant, and after each epoch the
mean of the epoch's weights is scored instead, which has the effect of a decay without its length being known in
advance (Hägele et al. 2024, arXiv 2405.18392). The model of epoch k is then the same whether the training goes on or
not, and the search may stop as soon as dev no longer improves.
`zero-shot`: nothing is trained or chosen; see `evaluation.zero_shot`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from compact_biomed.benchmarks.examples import Example, Splits, share
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.errors import UsageError, UserError

FINETUNING = ("standard", "thorough", "published")
ZERO_SHOT = "zero-shot"
PROTOCOLS = (*FINETUNING, ZERO_SHOT)
SEARCH_SEED = 0

# Learning rates that suit encoders from 14 M to 110 M parameters: the larger the encoder, the lower the rate.
_LEARNING_RATES = (5e-5, 1e-4, 3e-4)
_EPOCHS, _FEWEST_STEPS, _MOST_EPOCHS = 5, 500, 40
# A constant rate does what a linear one does at twice its mean; the mean of an epoch's weights allows a higher one.
_CONSTANT_RATES = (1e-4, 2e-4, 4e-4)
_THOROUGH_EPOCHS, _PATIENCE = 20, 3


@dataclass(frozen=True)
class FinetuneHyperparameters:
    """The hyperparameters of one fine-tuning.

    Args:
        learning_rate: peak of the schedule, for AdamW (betas 0.9 and 0.999, epsilon 1e-8).
        epochs: length of the schedule.
        stop_after: number of epochs to train, if fewer than `epochs`.
        batch_size: examples (question answering: windows) per optimizer step.
        schedule: "linear" or "cosine", down to zero, or "constant_with_warmup".
        warmup: share of all steps.
        weight_decay: of AdamW.
        max_length: longest input in tokens, special tokens included.
        max_grad_norm: gradients with a larger norm are scaled down to it.
        layer_decay: the head has the learning rate, each layer below this share of the rate of the next one above
            (Howard and Ruder 2018, arXiv 1801.06146); the embeddings are below the first layer.
        average_last: share of an epoch, up to 1. The model after an epoch has the mean of the weights after each step
            in this last part of it; the next epoch continues from the weights themselves. 0 = no mean.
        intermediate_epochs: epochs on the task's intermediate training set (`readers.read_intermediate`) before its
            own, with the same learning rate, falling linearly to zero after a tenth of warm-up; the best of them is
            not chosen.
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
    layer_decay: float = 1.0
    average_last: float = 0.0
    intermediate_epochs: int = 0

    def before(self) -> "FinetuneHyperparameters":
        """Return the hyperparameters of the training on the intermediate set."""
        return FinetuneHyperparameters(
            self.learning_rate,
            self.intermediate_epochs,
            batch_size=self.batch_size,
            warmup=0.1,
            weight_decay=self.weight_decay,
            max_length=self.max_length,
            max_grad_norm=self.max_grad_norm,
            layer_decay=self.layer_decay,
        )

    def recorded(self) -> dict[str, Any]:
        """Return the fields as records and keys hold them: without the newer ones where they are not used.

        Another content would orphan the records from before.
        """
        unused = {"layer_decay": 1.0, "average_last": 0.0, "intermediate_epochs": 0}
        return {name: value for name, value in vars(self).items() if name not in unused or value != unused[name]}


class Candidate(NamedTuple):
    """What one trial of the search on dev tries.

    Args:
        learning_rate: in place of the protocol's.
        batch_size: likewise; 0 = the protocol's, since batch sizes are not searched.
    """

    learning_rate: float
    batch_size: int = 0

    def recorded(self) -> dict[str, float]:
        """Return it as records and keys hold it: without a batch size where none is searched."""
        return {name: value for name, value in self._asdict().items() if name == "learning_rate" or value}

    def applied(self, hyperparameters: FinetuneHyperparameters) -> FinetuneHyperparameters:
        """Return the hyperparameters with these in place of theirs."""
        return replace(hyperparameters, **self.recorded())

    def __str__(self) -> str:
        batch_size = f", batch size {self.batch_size}" if self.batch_size else ""
        return f"learning rate {self.learning_rate:g}{batch_size}"


@dataclass(frozen=True)
class Overrides:
    """The user's changes to a protocol. Each of them enters the record.

    Args:
        learning_rate: replaces the protocol's.
        epochs: replaces the protocol's; the model after the last epoch is taken.
        max_train_examples: size of the subset to train on, chosen by the examples' keys.
        layer_decay, average_last, intermediate_epochs: replace the protocol's, see `FinetuneHyperparameters`.
        batch_size: replaces the protocol's.
        learning_rates, batch_sizes: candidates of the search on dev, in place of the protocol's; each is tried once.
        max_epochs: replaces the protocol's number of epochs, and the search may still choose fewer.
    """

    learning_rate: float | None = None
    epochs: int | None = None
    max_train_examples: int | None = None
    layer_decay: float | None = None
    average_last: float | None = None
    intermediate_epochs: int | None = None
    batch_size: int | None = None
    learning_rates: tuple[float, ...] | None = None
    batch_sizes: tuple[int, ...] | None = None
    max_epochs: int | None = None

    def __post_init__(self) -> None:
        for name in ("learning_rates", "batch_sizes"):  # lists in records
            if (values := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(dict.fromkeys(values)))

    def contradiction(self) -> tuple[str, str] | None:
        """Return the names of two values of which one makes the other meaningless, if there are such."""
        pairs = (("learning_rate", "learning_rates"), ("batch_size", "batch_sizes"), ("epochs", "max_epochs"))
        return next((pair for pair in pairs if all(getattr(self, name) is not None for name in pair)), None)

    def changed(self) -> dict[str, float | int | list[float]]:
        """Return the values that were set, by name, as JSON has them."""
        values = {name: value for name, value in vars(self).items() if value is not None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


NO_OVERRIDES = Overrides()


def changes_in_words(changed: Mapping[str, float | Sequence[float]]) -> str:
    """Return changes to a protocol as text, by name: "epochs 3, learning rates 1e-05 or 3e-05"."""

    def words(value: float | Sequence[float]) -> str:
        return " or ".join(f"{each:g}" for each in value) if isinstance(value, list | tuple) else f"{value:g}"

    return ", ".join(f"{name.replace('_', ' ')} {words(value)}" for name, value in sorted(changed.items()))


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
        patience: the search tries no further epoch if so many in a row were not better than the best; None = it tries
            all.
        batch_sizes: candidates; none = that of `hyperparameters`.
    """

    name: str
    level: str
    hyperparameters: FinetuneHyperparameters
    learning_rates: tuple[float, ...]
    choose_epochs: bool
    train_on_dev: bool
    source: str
    patience: int | None = None
    batch_sizes: tuple[int, ...] = ()

    @property
    def candidates(self) -> list[Candidate]:
        """What the search on dev tries, in order."""
        return [Candidate(rate, size) for size in self.batch_sizes or (0,) for rate in self.learning_rates]

    @property
    def searches(self) -> bool:
        """Return whether something is chosen on dev."""
        return self.choose_epochs or len(self.candidates) > 1

    def hashed(self) -> dict[str, Any]:
        """Return the part of a run's key that the protocol decides. Another content would orphan all records."""
        return {"name": self.name, "level": self.level, "settings": self.hyperparameters.recorded(), **self.search()}

    def search(self) -> dict[str, Any]:
        """Return how the search on dev is done, as records and keys hold it."""
        return {
            "learning_rates": list(self.learning_rates),
            "choose_epochs": self.choose_epochs,
            "train_on_dev": self.train_on_dev,
            **({} if self.patience is None else {"patience": self.patience}),
            **({"batch_sizes": list(self.batch_sizes)} if self.batch_sizes else {}),
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
        raise UsageError(f"no protocol {name!r}", where="--protocol", remedy=f"one of {', '.join(PROTOCOLS)}")
    if name == ZERO_SHOT:
        nothing = FinetuneHyperparameters(0.0, epochs=0, max_length=task.max_length)
        return Protocol(name, "standard", nothing, (0.0,), False, False, "mean of the states over tokens, cosine")
    applied = _published(task) if name == "published" else _BY_TRAINING_SET[name](task, n_train)
    replaced = {field.name for field in fields(FinetuneHyperparameters)}
    changes = {name: value for name, value in overrides.changed().items() if name in replaced}
    if overrides.max_epochs is not None:
        changes["epochs"] = overrides.max_epochs
    applied = replace(applied, hyperparameters=replace(applied.hyperparameters, **changes))
    if overrides.learning_rate is not None:
        applied = replace(applied, learning_rates=(overrides.learning_rate,))
    if overrides.epochs is not None:
        applied = replace(applied, choose_epochs=False, patience=None)
    return _with_grid(applied, overrides)


def _with_grid(applied: Protocol, overrides: Overrides) -> Protocol:
    """Return the protocol with the user's candidates, the first ones in its hyperparameters, as in `_standard`."""
    rates, sizes = overrides.learning_rates, overrides.batch_sizes
    if rates is not None or sizes is not None:
        applied = replace(applied, train_on_dev=False)  # something is chosen on it
    if rates is not None:
        first = replace(applied.hyperparameters, learning_rate=rates[0])
        applied = replace(applied, learning_rates=rates, hyperparameters=first)
    if sizes is not None:
        first = replace(applied.hyperparameters, batch_size=sizes[0])
        applied = replace(applied, batch_sizes=sizes, hyperparameters=first)
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
    epochs = _epochs(_EPOCHS, n_train)
    values = FinetuneHyperparameters(_LEARNING_RATES[0], epochs, batch_size=16, warmup=0.1, max_length=task.max_length)
    return Protocol("standard", "standard", values, _LEARNING_RATES, _chooses_epochs(task), False, "compact-biomed")


def _thorough(task: Task, n_train: int) -> Protocol:
    values = FinetuneHyperparameters(
        _CONSTANT_RATES[0],
        _epochs(_THOROUGH_EPOCHS, n_train),
        batch_size=16,
        schedule="constant_with_warmup",
        warmup=0.02,
        max_length=task.max_length,
        average_last=1.0,
    )
    choose = _chooses_epochs(task)
    patience = _PATIENCE if choose else None
    return Protocol("thorough", "standard", values, _CONSTANT_RATES, choose, False, "compact-biomed", patience)


def _chooses_epochs(task: Task) -> bool:
    """Return whether dev can choose among epochs: not by the correlation of 16 pairs, which peaks by chance."""
    return task.kind != "regression"


def _epochs(epochs: int, n_train: int) -> int:
    """Return the number of epochs, or more where a set is so small that they are few steps."""
    return min(max(epochs, math.ceil(_FEWEST_STEPS / math.ceil(n_train / 16))), _MOST_EPOCHS)


_BY_TRAINING_SET = {"standard": _standard, "thorough": _thorough}


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
