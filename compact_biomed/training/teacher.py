"""The teacher of a distillation: a checkpoint that the user names, or one that its own recipe trains on first use."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from compact_biomed.console import say
from compact_biomed.errors import UserError
from compact_biomed.files import cache_folder, sha256_file, sha256_json
from compact_biomed.models.checkpoints import find_checkpoint, weights_sha256
from compact_biomed.training.build import load_corpus, load_tokenizer
from compact_biomed.training.recipe import MADE_BY_RECIPE, load_recipe
from compact_biomed.training.resolve import Run, resolve

# A teacher reads what its student reads: what is held out from the student, or kept clear of test sets, the teacher
# must not have seen.
_SHARED = ("sources", "max_length", "require_abstract", "heldout_fraction", "decontaminate_against")


class Interrupted(Exception):
    """The teacher's training was stopped; the same command resumes it."""


def settle_teacher(run: Run, train: Callable[[Run], Any], *, make: bool = True) -> tuple[Run, str]:
    """Return the run with its teacher's checksum, and the teacher's checkpoint.

    Args:
        train: trains the teacher's run and returns its `TrainingResult`.
        make: train a teacher that does not exist yet; else its checksum stays empty, and the folder does not exist.

    Raises:
        UserError: no teacher is named.
        Interrupted: its training was stopped.
    """
    name = run.hyperparameters.teacher
    if not name:
        raise UserError("distillation needs a teacher", where="--teacher", remedy="a hub name or a checkpoint folder")
    if name.startswith(MADE_BY_RECIPE):
        folder = _trained(name.removeprefix(MADE_BY_RECIPE), run, train, make=make)
        checkpoint, digest = str(folder), sha256_file(folder / "model.safetensors") if folder.is_dir() else ""
    else:
        checkpoint, digest = find_checkpoint(name), weights_sha256(name) or ""
    return replace(run, hyperparameters=replace(run.hyperparameters, teacher_sha256=digest)), checkpoint


def _trained(recipe: str, run: Run, train: Callable[[Run], Any], *, make: bool) -> Path:
    """Return the model folder of the teacher that a recipe trains at this run's scale."""
    preset = run.hyperparameters.preset
    changes = {name: getattr(run.hyperparameters, name) for name in _SHARED}
    teachers = cache_folder() / "teachers"
    teacher = resolve(load_recipe(recipe), preset, output_dir=teachers, changes=changes)
    # Named by what decides its weights: other hyperparameters, or other text under the same name, make another teacher.
    content = teacher.record()
    corpus = load_corpus(teacher.hyperparameters, load_tokenizer(teacher.hyperparameters))
    content["sources"] = corpus.record["fingerprint"]
    folder = teachers / f"{recipe}-{preset}-{sha256_json(content)[:16]}"
    if not make or (folder / "record.json").is_file():
        return folder / "model"
    say(f"\nThe teacher does not exist yet: {recipe}, preset {preset}, is trained first and kept in {folder}.")
    say("To use another, name it with --teacher.")
    teacher.arguments.output_dir = str(folder)
    if not train(teacher).finished:
        raise Interrupted
    say("\nThe teacher is trained. Now the student.")
    return folder / "model"
