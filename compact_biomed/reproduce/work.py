"""How much work a model's shape and a task's examples make: numbers that are found once and kept."""

import runpy
import sys
from typing import TYPE_CHECKING

from compact_biomed.reproduce.steps import Evaluation, Training

if TYPE_CHECKING:
    from compact_biomed.training.recipe import ContinualRecipe

_PIECES_A_WORD = 1.4  # special tokens included; NCBI-disease has 1.37
_READING = 1 / 3  # a forward pass, beside training


def machine() -> str:
    """The device in words."""
    from compact_biomed.training.machine import device_name

    return device_name()


def recipe_of(step: Training) -> "ContinualRecipe":
    """The recipe that a step runs."""
    folder = str(step.places.recipes)
    sys.path.insert(0, folder)  # recipes import each other, as scripts do
    try:
        return runpy.run_path(step.command[1])["RECIPE"]
    finally:
        sys.path.remove(folder)


def of_shape(step: Training) -> dict[str, float]:
    """Of a training: probed tokens a second, FLOPs a token, expected tokens a document."""
    from compact_biomed.training.command_line import parsed
    from compact_biomed.training.cost import estimate

    asked = parsed(recipe_of(step), [*step.flags, "--output_dir", str(step.folder)])
    found = estimate(asked.preset, steps=asked.training.max_steps)
    return {
        "rate": found.rate,
        "flops": found.flops_per_token,
        "encoder_flops": found.encoder_flops_per_token,
        "length": found.length,
    }


def of_task(step: Evaluation, name: str, fold: int | None) -> dict[str, float]:
    """Of a task: tokens of one seed, and of the search on dev; those that are only read count a third."""
    from compact_biomed.evaluation import protocols, tasks
    from compact_biomed.evaluation.decontamination import texts_of
    from compact_biomed.evaluation.readers import read

    task = step.tasks[name]
    splits = read(task, tasks.find(task), fold)
    overrides = protocols.Overrides(**step.overrides)
    chosen = protocols.protocol(step.protocol_name, task, len(splits.train), overrides)

    def tokens(examples) -> float:
        words = (sum(len(text.split()) for text in texts_of(example)) for example in examples)
        return sum(min(n * _PIECES_A_WORD, chosen.settings.max_length) for n in words)

    train = chosen.settings.epochs * tokens(protocols.training_examples(splits, chosen, overrides))
    dev = chosen.settings.epochs * tokens(splits.dev) * _READING
    search = len(chosen.learning_rates) * (train + dev) if chosen.searches else 0.0
    return {"a_seed": train + tokens(splits.test) * _READING, "search": search}
