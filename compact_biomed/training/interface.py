"""Pretraining and distillation from Python, with the names and defaults of the command line."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from compact_biomed.objectives.terms import Term
from compact_biomed.objectives.textbrewer import from_textbrewer
from compact_biomed.training.recipe import DistillationRecipe, Recipe, load_recipe
from compact_biomed.training.resolve import DEFAULT_LOSS, resolve, resolve_own
from compact_biomed.training.run import TrainingResult, train


def pretrain(
    recipe: str | Recipe | None = None,
    *,
    start: str | Path | None = None,
    preset: str = "quick",
    variant: str | None = None,
    output_dir: str | Path | None = None,
    fresh: bool = False,
    **settings: Any,
) -> TrainingResult:
    """Pretrain a model further on biomedical text by masked-language modeling.

    Args:
        recipe: name of a recipe ("biomobilebert_cl") or a `Recipe`; None: a checkpoint of your own, named by `start`.
        start: start weights: a hub name, a folder, `registry:all-minilm-l6-v2` or `random`.
        preset: smoke, quick, mini or paper.
        variant: of the recipe, in the paper preset.
        output_dir: folder of the run (default: runs/RECIPE-PRESET); a run that was stopped there resumes.
        fresh: start over; an earlier run in the folder is kept under another name.
        settings: any flag of the command line and any field of transformers' `TrainingArguments` by its name:
            `learning_rate=3e-4, max_steps=1000, sources=["texts.jsonl"]`.

    Raises:
        UserError: settings that are unknown or cannot be, weights or text that are missing.
    """
    changes = {**settings, "start": None if start is None else str(start)}
    if recipe is None:
        run = resolve_own(False, preset, output_dir=output_dir, changes=changes)
    else:
        recipe = load_recipe(recipe) if isinstance(recipe, str) else recipe
        run = resolve(recipe, preset, variant, output_dir=output_dir, changes=changes)
    return train(run, fresh=fresh)


def distill(
    recipe: str | DistillationRecipe | None = None,
    *,
    teacher: str | Path | None = None,
    student_layers: int | None = None,
    loss: str | Sequence[Term] | Sequence[dict[str, Any]] | Any | None = None,
    preset: str = "quick",
    output_dir: str | Path | None = None,
    fresh: bool = False,
    **settings: Any,
) -> TrainingResult:
    """Distill a teacher into a smaller student on biomedical text.

    Args:
        recipe: name of a student's recipe ("compactbiobert") or a `DistillationRecipe`; None: a teacher of your own.
        teacher: a masked-LM: hub name or folder (default: the recipe's own, trained first if it is missing).
        student_layers: depth of a student that otherwise is built as its teacher.
        loss: name of the recipe whose terms are used, a list of `Term`, TextBrewer's `DistillationConfig`, or a list of
            its `intermediate_matches` (then the terms on logits are those of the recipe, or of distilbiobert).
        preset, output_dir, fresh, settings: as for `pretrain`.

    Raises:
        UserError: as `pretrain`, and terms that do not fit the two models.
    """
    changes = {**settings, "student_layers": student_layers, "teacher": None if teacher is None else str(teacher)}
    recipe = load_recipe(recipe) if isinstance(recipe, str) else recipe
    if loss is None or isinstance(loss, str):
        changes["loss"] = loss
    else:
        changes["terms"] = own_terms(loss, recipe or load_recipe(DEFAULT_LOSS))
    if recipe is None:
        run = resolve_own(True, preset, output_dir=output_dir, changes=changes)
    else:
        run = resolve(recipe, preset, output_dir=output_dir, changes=changes)
    return train(run, fresh=fresh)


def own_terms(loss: Any, recipe: DistillationRecipe) -> tuple[Term, ...]:
    """Return the terms that a user states in place of a recipe's.

    Args:
        loss: a list of `Term`, TextBrewer's `DistillationConfig`, or a list of its `intermediate_matches`, which
            replace
            the recipe's terms on layers alone.
        recipe: whose terms on logits stay beside such a list.

    Raises:
        UserError: what has no counterpart here (`objectives.textbrewer.from_textbrewer`).
    """
    if isinstance(loss, Sequence) and all(isinstance(term, Term) for term in loss):
        return tuple(replace(term) for term in loss)
    if isinstance(loss, Sequence):
        return (*(term for term in recipe.terms if term.feature == "logits"), *from_textbrewer(loss))
    return from_textbrewer(loss)
