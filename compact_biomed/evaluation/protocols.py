"""How models are fine-tuned so that their scores can be compared.

`published`: the settings of the paper's scripts, one learning rate for all models.
`standard`: the learning rate and the number of epochs are chosen on dev, from one grid and
with one budget for every model; the test set is read once, by the chosen settings.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from compact_biomed.benchmarks.examples import Example, Splits, share
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.errors import UserError

# ----------------------------------------------------------------------------------------------------
# The science of one fine-tuning.


@dataclass(frozen=True)
class Settings:
    """The science of one fine-tuning, besides model, data and seed.

    Args:
        learning_rate: of AdamW (0.9, 0.999, 1e-8), at its highest.
        epochs: over which the schedule stretches.
        stop_after: epochs that are trained, if fewer.
        batch_size: examples (QA: windows) an optimizer step.
        schedule: "linear" or "cosine", to zero.
        warmup: share of all steps.
        weight_decay: of AdamW.
        max_length: most tokens an input, special tokens included.
        max_grad_norm: gradients are scaled down to it.
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


PROTOCOLS = ("standard", "published")
SEARCH_SEED = 0

# Learning rates that suit encoders from 14 M to 110 M parameters: the larger, the lower.
_LEARNING_RATES = (5e-5, 1e-4, 3e-4)
_EPOCHS, _FEWEST_STEPS, _MOST_EPOCHS = 5, 500, 40


@dataclass(frozen=True)
class Overrides:
    """What a user changed in a protocol; each enters the record.

    Args:
        learning_rate: in place of the protocol's.
        epochs: in place of the protocol's; the last one is taken.
        max_train_examples: train on that many, chosen by their keys.
    """

    learning_rate: float | None = None
    epochs: int | None = None
    max_train_examples: int | None = None

    def given(self) -> dict[str, float | int]:
        """Those that were set."""
        return {name: value for name, value in vars(self).items() if value is not None}


AS_IS = Overrides()


@dataclass(frozen=True)
class Protocol:
    """A protocol applied to a task.

    Args:
        name: one of `PROTOCOLS`.
        level: of the labels ("standard" or "published"; see `kinds`).
        settings: of the final training; learning rate and epochs may still be chosen.
        learning_rates: candidates.
        choose_epochs: whether each epoch of the schedule is a candidate, or the last is taken.
        train_on_dev: whether a dev that was held out of train goes back into it, as nothing is chosen by it.
        source: where the settings come from.
    """

    name: str
    level: str
    settings: Settings
    learning_rates: tuple[float, ...]
    choose_epochs: bool
    train_on_dev: bool
    source: str

    @property
    def searches(self) -> bool:
        """Whether something is chosen on dev."""
        return self.choose_epochs or len(self.learning_rates) > 1


def default_seeds(protocol: str) -> list[int]:
    """Where none are asked for; 42 is that of the published scripts."""
    return [42] if protocol == "published" else [1]


def protocol(name: str, task: Task, n_train: int, overrides: Overrides) -> Protocol:
    """The protocol of that name for a task.

    Args:
        n_train: examples in the training set, for the epochs of small ones.

    Raises:
        UserError: unknown, or the paper has none for this kind of task.
    """
    if name not in PROTOCOLS:
        raise UserError(f"no protocol {name!r}", where="--protocol", remedy=f"one of {', '.join(PROTOCOLS)}")
    chosen = _published(task) if name == "published" else _standard(task, n_train)
    if overrides.learning_rate is not None:
        chosen = replace(
            chosen,
            settings=replace(chosen.settings, learning_rate=overrides.learning_rate),
            learning_rates=(overrides.learning_rate,),
        )
    if overrides.epochs is not None:
        chosen = replace(chosen, settings=replace(chosen.settings, epochs=overrides.epochs), choose_epochs=False)
    return chosen


def _published(task: Task) -> Protocol:
    """The fine-tuning scripts of arXiv 2209.03182; they have none for relations, so there biobert-pytorch's."""
    paper = "scripts of arXiv 2209.03182"
    biobert = "dmis-lab/biobert-pytorch (the paper's scripts have none for relation extraction)"
    known = {
        "ner": (Settings(5e-5, epochs=5, batch_size=16, schedule="cosine", max_length=512), paper),
        "qa": (Settings(3e-5, epochs=5, batch_size=16, schedule="cosine", max_length=384), paper),
        # run_re.py leaves the rest at the Trainer's defaults: linear, no warm-up, no decay.
        "relation": (Settings(5e-5, epochs=3, batch_size=32, weight_decay=0.0, max_length=128), biobert),
    }
    if task.kind not in known:
        raise UserError(f"the paper has no protocol for {task.name}", where="--protocol", remedy="--protocol standard")
    settings, source = known[task.kind]
    return Protocol("published", "published", settings, (settings.learning_rate,), False, True, source)


def _standard(task: Task, n_train: int) -> Protocol:
    steps = math.ceil(n_train / 16)
    epochs = min(max(_EPOCHS, math.ceil(_FEWEST_STEPS / steps)), _MOST_EPOCHS)
    settings = Settings(_LEARNING_RATES[0], epochs, batch_size=16, warmup=0.1, max_length=task.max_length)
    return Protocol("standard", "standard", settings, _LEARNING_RATES, True, False, "compact-biomed")


def training_examples(splits: Splits, protocol: Protocol, overrides: Overrides) -> list[Example]:
    """What is trained on."""
    back = protocol.train_on_dev and splits.dev_of_train
    train: Sequence[Example] = [*splits.train, *splits.dev] if back else splits.train
    if overrides.max_train_examples is None or overrides.max_train_examples >= len(train):
        return list(train)
    kept = {id(example) for example in sorted(train, key=_place)[: overrides.max_train_examples]}
    return [example for example in train if id(example) in kept]


def _place(example: Example) -> tuple[float, str]:
    return share(f"train:{example.key}"), example.key
