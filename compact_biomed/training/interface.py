"""Pretraining and distillation from Python, with the names and defaults of the command line, which calls the same."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compact_biomed.errors import UsageError
from compact_biomed.objectives.terms import Term
from compact_biomed.objectives.textbrewer import from_textbrewer, read_textbrewer_file
from compact_biomed.training.recipe import DistillationRecipe, Recipe, load_recipe
from compact_biomed.training.resolve import DEFAULT_LOSS, Run, resolve, resolve_own
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
        start: start weights: a hub name, a folder, `registry:all-minilm-l6-v2`, `random`, "sliced:NAME" or
            "recipe:NAME" (docs/pretraining.md).
        preset: smoke, quick, mini or paper.
        variant: of the recipe, in the paper preset.
        output_dir: folder of the run (default: runs/RECIPE-PRESET); a run that was stopped there resumes.
        fresh: start over; an earlier run in the folder is kept under another name.
        settings: any other flag of the command line and any field of transformers' `TrainingArguments` by its name:
            `learning_rate=3e-4, max_steps=1000, sources=["texts.jsonl"]`.

    Raises:
        UserError: settings that are unknown or cannot be, weights or text that are missing.
    """
    run = pretraining_run(recipe, start=start, preset=preset, variant=variant, output_dir=output_dir, **settings)
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
    run = distillation_run(
        recipe,
        teacher=teacher,
        student_layers=student_layers,
        loss=loss,
        preset=preset,
        output_dir=output_dir,
        **settings,
    )
    return train(run, fresh=fresh)


def pretraining_run(
    recipe: str | Recipe | None = None,
    *,
    start: str | Path | None = None,
    preset: str = "quick",
    variant: str | None = None,
    output_dir: str | Path | None = None,
    argument_flags: Sequence[str] = (),
    **settings: Any,
) -> Run:
    """Resolve what `pretrain` trains; the flags are those of a command line."""
    changes = {**settings, "start": None if start is None else str(start)}
    if recipe is None:
        return resolve_own(False, preset, output_dir=output_dir, changes=changes, argument_flags=argument_flags)
    recipe = load_recipe(recipe) if isinstance(recipe, str) else recipe
    if isinstance(recipe, DistillationRecipe):
        raise UsageError(f"{recipe.name} is distilled from a teacher", remedy=f'distill("{recipe.name}")')
    return resolve(recipe, preset, variant, output_dir=output_dir, changes=changes, argument_flags=argument_flags)


def distillation_run(
    recipe: str | DistillationRecipe | None = None,
    *,
    teacher: str | Path | None = None,
    loss: Any = None,
    textbrewer_config: str | Path | None = None,
    preset: str = "quick",
    output_dir: str | Path | None = None,
    argument_flags: Sequence[str] = (),
    **settings: Any,
) -> Run:
    """Resolve what `distill` trains.

    Args:
        textbrewer_config: JSON file of a `DistillationConfig`, in place of `loss`; or of a list of matches, beside the
            terms on logits of the recipe that `loss` names.
    """
    recipe = load_recipe(recipe) if isinstance(recipe, str) else recipe
    if recipe is not None and not isinstance(recipe, DistillationRecipe):
        raise UsageError(f"{recipe.name} has no teacher", remedy=f'pretrain("{recipe.name}")')
    changes = {**settings, "teacher": None if teacher is None else str(teacher)}
    base = load_recipe(loss) if isinstance(loss, str) else recipe or load_recipe(DEFAULT_LOSS)
    if textbrewer_config is not None:
        changes["terms"] = read_textbrewer_file(Path(textbrewer_config), _on_logits(base))
    elif loss is None or isinstance(loss, str):
        changes["loss"] = loss
    else:
        changes["terms"] = _own_terms(loss, base)
    if recipe is None:
        return resolve_own(True, preset, output_dir=output_dir, changes=changes, argument_flags=argument_flags)
    return resolve(recipe, preset, output_dir=output_dir, changes=changes, argument_flags=argument_flags)


def _on_logits(recipe: Recipe) -> tuple[Term, ...]:
    return tuple(term for term in getattr(recipe, "terms", ()) if term.feature == "logits")


def _own_terms(loss: Any, recipe: Recipe) -> tuple[Term, ...]:
    """Return the terms of a `DistillationConfig`, of a list of `Term`, or of matches with a recipe's logits terms."""
    if isinstance(loss, Sequence) and loss and all(isinstance(term, Term) for term in loss):
        return tuple(loss)
    if isinstance(loss, Sequence) and loss and all(isinstance(match, dict) for match in loss):
        return (*_on_logits(recipe), *from_textbrewer(loss))
    if not hasattr(loss, "intermediate_matches"):
        raise UsageError(
            f"{loss!r} is no loss",
            where="loss",
            remedy="give a recipe's name, a list of Term, a DistillationConfig, or a list of intermediate_matches",
        )
    return from_textbrewer(loss)
