"""What a run needs before it can begin: teachers and start weights, named by the user or made by other recipes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from compact_biomed.console import say
from compact_biomed.errors import UsageError
from compact_biomed.files import cache_folder, sha256_file, sha256_json
from compact_biomed.models.checkpoints import weights_sha256
from compact_biomed.models.locate import find_checkpoint
from compact_biomed.records.lines import RECORD_FILE
from compact_biomed.records.provenance import command_line
from compact_biomed.training import run_folder
from compact_biomed.training.build import load_corpus, load_tokenizer
from compact_biomed.training.hyperparameters import DistillationHyperparameters
from compact_biomed.training.recipe import FROM_TEACHER, MADE_BY_RECIPE, SLICED, load_recipe
from compact_biomed.training.resolve import Run, resolve

# These weights come from the text of the run that asks for them: what is held out from it, or kept clear of test sets,
# they must not have seen either.
_SHARED = ("sources", "max_length", "require_abstract", "heldout_fraction", "decontaminate_against")


class Interrupted(Exception):
    """The training of a teacher or of start weights was stopped; the same command resumes it."""


class Ready(NamedTuple):
    """A run with the checksums of the weights that it needs, and where these are."""

    run: Run
    teacher: str | None = None  # checkpoint; None in pretraining
    start: str | None = None  # checkpoint of start weights that a recipe made; None for all others


def ready(run: Run, train: Callable[[Run], Any], *, make: bool = True) -> Ready:
    """Find the teacher and the start weights of a run; train those that a recipe makes and that do not exist yet.

    Args:
        train: trains the run of a recipe and returns its `TrainingResult`.
        make: train what does not exist yet; else its checksum stays empty, and its folder does not exist.

    Raises:
        UserError: no teacher is named.
        Interrupted: a training was stopped.
    """
    teacher = start = None
    if run.is_distillation:
        name = run.hyperparameters.teacher
        if not name:
            raise UsageError(
                "distillation needs a teacher", where="--teacher", remedy="a hub name or a checkpoint folder"
            )
        if name.startswith(MADE_BY_RECIPE):
            teacher, digest = _trained(name, run, train, make=make, flag="--teacher")
        else:
            teacher, digest = find_checkpoint(name), weights_sha256(name) or ""
        run = replace(run, hyperparameters=replace(run.hyperparameters, teacher_sha256=digest))
    if run.hyperparameters.start.startswith(MADE_BY_RECIPE):
        start, digest = _trained(run.hyperparameters.start, run, train, make=make, flag="--start")
        run = replace(run, hyperparameters=replace(run.hyperparameters, start_sha256=digest))
    return Ready(run, teacher, start)


def _trained(name: str, run: Run, train: Callable[[Run], Any], *, make: bool, flag: str) -> tuple[str, str]:
    """Return the model folder, and the weights' sha256, of what a recipe trains at this run's scale.

    Args:
        name: "recipe:NAME".
        flag: that names other weights.
    """
    recipe, preset = name.removeprefix(MADE_BY_RECIPE), run.hyperparameters.preset
    changes = {name: getattr(run.hyperparameters, name) for name in _SHARED}
    folders = cache_folder() / {"--teacher": "teachers", "--start": "starts"}[flag]

    def run_in(folder: Path) -> Run:
        return resolve(load_recipe(recipe), preset, output_dir=folder, changes=changes)

    made = ready(run_in(folders), train, make=make)
    # Named by what decides its weights: other hyperparameters, or other text under the same name, make other weights.
    content = made.run.record()
    corpus = load_corpus(made.run.hyperparameters, load_tokenizer(made.run.hyperparameters, made.teacher, made.start))
    content["sources"] = corpus.record["fingerprint"]
    folder = folders / f"{recipe}-{preset}-{sha256_json(content)[:16]}"
    if make and not (folder / RECORD_FILE).is_file():
        what = {"--teacher": "teacher does", "--start": "start weights do"}[flag]
        say(f"\nThe {what} not exist yet: {recipe}, preset {preset}, is trained first and kept in {folder}.")
        say(f"To use another checkpoint, name it with {flag}.")
        result = train(run_in(folder))
        if not result.finished:
            raise Interrupted
        if result.stop_asked:  # in its last step
            say(f"\n{recipe} is trained. To go on with {run.hyperparameters.recipe}: {command_line()}")
            raise Interrupted
        say(f"\n{recipe} is trained. It was needed for {run.hyperparameters.recipe}, which follows.")
    weights = folder / "model" / "model.safetensors"
    return str(folder / "model"), sha256_file(weights) if weights.is_file() else ""


def has_made_start(recipe: str, preset: str) -> bool:
    """Return whether start weights of this recipe are kept on this machine, from whichever text."""
    return any((cache_folder() / "starts").glob(f"{recipe}-{preset}-*/{RECORD_FILE}"))


def start_checksums(needed: Ready) -> dict[str, str]:
    """Return name -> sha256 of all weights that the model derives from, besides a teacher that is a run of its own."""
    hyperparameters = needed.run.hyperparameters
    distilled = isinstance(hyperparameters, DistillationHyperparameters)
    start = hyperparameters.start.removeprefix(SLICED)
    if start == FROM_TEACHER != hyperparameters.start:
        start = hyperparameters.teacher
    sums = {"teacher": hyperparameters.teacher_sha256} if distilled else {}
    if needed.start is not None:
        made = run_folder.read_record(Path(needed.start).parent / RECORD_FILE)["start_sha256"]
        sums |= {start: hyperparameters.start_sha256} | {name: made[name] for name in made if name != "teacher"}
    names = {name for name in (start, hyperparameters.embeddings_from) if name and name != FROM_TEACHER}
    named = sorted(name for name in names if not name.startswith(MADE_BY_RECIPE))
    return sums | {name: digest for name in named if (digest := weights_sha256(name))}
