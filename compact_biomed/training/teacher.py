"""The teacher of a distillation: named by the user, or made by its own recipe when it is first needed."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from compact_biomed.console import say
from compact_biomed.errors import UserError
from compact_biomed.files import cache_folder, sha256_file, sha256_json
from compact_biomed.models.start import find_checkpoint, weights_sha256
from compact_biomed.training.settings import MADE_BY_RECIPE, DistillationScience, Preset, science_record

if TYPE_CHECKING:
    from compact_biomed.training.distillation_recipe import DistillationRecipe

_SHARED = ("sources", "max_length", "require_abstract", "heldout_fraction", "decontaminate_against")


class Interrupted(Exception):
    """The teacher's training was interrupted; it goes on by the same command."""


def settled(recipe: "DistillationRecipe", preset: Preset, *, make: bool = True) -> tuple[Preset, str]:
    """The preset with the teacher's checksum in it, and where the teacher lies.

    Args:
        make: train a teacher that does not exist yet; else its checksum stays empty.

    Returns:
        (preset, checkpoint folder or hub name). The folder does not exist if it was not made.

    Raises:
        UserError: no teacher is named.
        Interrupted: its training was.
    """
    science = preset.science
    assert isinstance(science, DistillationScience)
    if not science.teacher:
        raise UserError("distillation needs a teacher", where="--teacher", remedy="a hub name or a checkpoint folder")
    if science.teacher.startswith(MADE_BY_RECIPE):
        place = _made(recipe, preset, make=make)
        digest = sha256_file(place / "model.safetensors") if place.is_dir() else ""
        return replace(preset, science=replace(science, teacher_sha256=digest)), str(place)
    place = find_checkpoint(science.teacher)
    digest = weights_sha256(science.teacher) or ""
    return replace(preset, science=replace(science, teacher_sha256=digest)), place


def _made(recipe: "DistillationRecipe", preset: Preset, *, make: bool) -> Path:
    """The model folder of the teacher that the recipe's own teacher recipe makes at this scale."""
    from compact_biomed.training.build import load_corpus, load_tokenizer
    from compact_biomed.training.command_line import training_arguments
    from compact_biomed.training.run import run

    maker, scale = recipe.teacher, preset.science.preset
    if maker is None or preset.science.teacher != f"{MADE_BY_RECIPE}{maker.name}":
        raise UserError(f"no recipe makes the teacher {preset.science.teacher!r}", where="--teacher")
    theirs = maker.preset(scale)
    # The same text: what is held out from the student, or kept clear of test sets, the teacher must not have read.
    shared = {name: getattr(preset.science, name) for name in _SHARED}
    theirs = replace(theirs, science=replace(theirs.science, **shared))
    # Named by what decides its weights: another science, or another text under the same name, makes another teacher.
    teachers = cache_folder() / "teachers"
    arguments = training_arguments(theirs, [], teachers, batch_size=None)
    content = science_record(theirs.science, arguments)
    content["sources"] = load_corpus(theirs.science, load_tokenizer(theirs.science)).record["fingerprint"]
    folder = teachers / f"{maker.name}-{scale}-{sha256_json(content)[:16]}"
    if not make or (folder / "record.json").is_file():
        return folder / "model"
    say(f"\nThe teacher does not exist yet: {maker.name}, preset {scale}, is made first and kept in {folder}.")
    say("Name one with --teacher to use another.")
    arguments.output_dir = str(folder)
    code = run(maker, theirs, arguments)
    if code:
        raise Interrupted(code)
    say("\nThe teacher is made. Now the student.")
    return folder / "model"
