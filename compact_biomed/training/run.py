"""The whole line: corpus, model, training, measurement, summary. One folder a run.

runs/biomobilebert_cl-quick/
    science.json       what is learned; another science is refused in this folder
    corpus.json        fingerprint of the text; other text is refused, too
    before.json        held-out measurement of the start weights (teacher.json: of the teacher)
    checkpoint-*/      the two newest; a run goes on from the last
    logs/              TensorBoard
    model/             the result: loads with plain transformers
    loss.png           the loss picture
    record.json        settings, versions, checksums, speed, scores
"""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import transformers
from accelerate import PartialState
from accelerate.utils import set_seed

from compact_biomed.console import say
from compact_biomed.engine.plan import Plan, plan
from compact_biomed.errors import UserError
from compact_biomed.files import cache_folder, sha256_file, sha256_json
from compact_biomed.machine import own_peak_memory
from compact_biomed.models.checkpoints import find_checkpoint, load_masked_lm, quiet_transformers, weights_sha256
from compact_biomed.objectives.masking import Masking
from compact_biomed.records import command_line, origin
from compact_biomed.training import checkpoint, cost, run_folder, summary
from compact_biomed.training.arguments import training_arguments
from compact_biomed.training.build import build_model, build_objective, load_corpus, load_tokenizer, masking_of
from compact_biomed.training.data import Collator, Documents
from compact_biomed.training.heldout import HeldoutTest
from compact_biomed.training.recipe import (
    FROM_TEACHER,
    MADE_BY_RECIPE,
    ContinualRecipe,
    DistillationRecipe,
    DistillationScience,
    Preset,
    science_record,
)
from compact_biomed.training.trainer import PretrainingTrainer, ProgressWatch, SaveOnSignal

# ----------------------------------------------------------------------------------------------------
# The teacher of a distillation: named by the user, or made by its own recipe when it is first needed.


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


def dry_run(recipe: "ContinualRecipe", preset: Preset, arguments: Any) -> int:
    """Print the resolved settings and the expected cost; make and fetch nothing."""
    found = cost.estimate(preset, steps=arguments.max_steps)
    summary.plan_of_run(recipe, preset, arguments, found.machine, found.cost, rate=found.rate, corpus=None)
    say(f"Expected tokens assume {found.length} a document; the time is from a probe on random ids, made just now.")
    if getattr(preset.science, "teacher", "").startswith(MADE_BY_RECIPE):
        name = preset.science.teacher.removeprefix(MADE_BY_RECIPE)
        say(f"A teacher that does not exist yet is made first; what that costs: "
            f"python recipes/{name}.py --preset {preset.science.preset} --dry-run")  # fmt: skip
    return 0


def run(recipe: "ContinualRecipe", preset: Preset, arguments: Any, *, fresh: bool = False) -> int:
    """Train, or go on training, and tell the result."""

    quiet_transformers()
    processes, folder = PartialState(), Path(arguments.output_dir)
    main = processes.is_main_process
    place = None
    if isinstance(preset.science, DistillationScience):
        try:
            preset, place = settled(recipe, preset, make=processes.num_processes == 1)
        except Interrupted:
            return 130
    if main:
        run_folder.open_folder(folder, science_record(preset.science, arguments), fresh=fresh)
    processes.wait_for_everyone()
    if (folder / "record.json").is_file():
        if main:
            summary.finished(folder, json.loads((folder / "record.json").read_text(encoding="utf-8")))
        return 0
    set_seed(arguments.seed)
    started = time.time()
    parts = _assemble(preset, arguments, place, processes)
    heldout, test = {}, None
    if main:
        _tell_cost(recipe, preset, arguments, parts)
        test = _heldout_test(preset, parts)
        heldout = _measured_before(folder, preset, parts, test)
    trainer, stopped = _train(preset, arguments, parts)
    if stopped:
        if main:
            say(f"\nStopped after step {trainer.state.global_step:,} of {arguments.max_steps:,}, saved in {folder}.")
            say(f"To go on: {command_line()}")
        return 130
    if main:
        heldout["after"] = test.measure(parts.objective, description="after training")
        record = _record(preset, arguments, parts, trainer, heldout, seconds=time.time() - started)
        run_folder.finish(folder, trainer, record)
        summary.summary(folder, record)
    processes.wait_for_everyone()
    return 0


class _Parts(NamedTuple):
    """What a run is made of."""

    tokenizer: Any
    corpus: Any
    masking: "Masking"
    model: Any
    objective: Any
    machine: "Plan"
    length: float  # mean tokens of a document
    flops_per_token: float


def _assemble(preset: Preset, arguments: Any, teacher: str | None, processes: Any) -> _Parts:
    """Read or make all that the run needs; the main process first, so that the others find it made.

    Args:
        teacher: where the teacher lies, None for pretraining.
    """

    science, seed = preset.science, arguments.seed
    with processes.main_process_first():
        tokenizer = load_tokenizer(science, teacher)
        corpus = load_corpus(science, tokenizer)
        if processes.is_main_process:
            run_folder.same_text(Path(arguments.output_dir), corpus.record["fingerprint"])
        teacher_lm = None if teacher is None else load_masked_lm(teacher)
        model = build_model(science, tokenizer, corpus.unigram, seed=seed, teacher=teacher_lm)
    machine = plan(preset.speed, model.config, world_size=arguments.world_size)
    objective = build_objective(science, model, teacher_lm, machine).to(arguments.device)
    counts = corpus.record["train"]
    length = counts["tokens"] / counts["documents"]
    flops = cost.objective_flops_per_token(objective, length=length, masked=science.mask_probability)
    masking = masking_of(science, tokenizer, seed=seed)
    return _Parts(tokenizer, corpus, masking, model, objective, machine, length, flops)


def _tell_cost(recipe: "ContinualRecipe", preset: Preset, arguments: Any, parts: _Parts) -> None:
    expected, rate = cost.expected(
        parts.objective, parts.machine, preset.science,
        steps=arguments.max_steps, length=parts.length, vocab_size=len(parts.tokenizer),
    )  # fmt: skip
    summary.plan_of_run(recipe, preset, arguments, parts.machine, expected, rate=rate, corpus=parts.corpus)


def _heldout_test(preset: Preset, parts: _Parts) -> "HeldoutTest":
    return HeldoutTest(
        parts.corpus.heldout, parts.masking, parts.tokenizer.pad_token_id, parts.corpus.unigram,
        max_documents=preset.speed.heldout_documents, pseudo_positions=preset.speed.pseudo_positions,
    )  # fmt: skip


def _measured_before(folder: Path, preset: Preset, parts: _Parts, test: "HeldoutTest") -> dict[str, Any]:
    """Word frequencies, the teacher if there is one, and the start weights on the held-out text."""
    asked = {"documents": preset.speed.heldout_documents, "pseudo_positions": preset.speed.pseudo_positions}
    found = {"unigram": test.baseline()}
    if isinstance(preset.science, DistillationScience):
        found["teacher"] = run_folder.once(
            folder / "teacher.json", lambda: test.measure_teacher(parts.objective), asked=asked
        )
    found["before"] = run_folder.once(
        folder / "before.json", lambda: test.measure(parts.objective, description="before training"), asked=asked
    )
    return found


def _train(preset: Preset, arguments: Any, parts: _Parts) -> tuple["PretrainingTrainer", bool]:
    """The trainer after its last step, and whether a signal ended it before it was through."""

    folder, machine, signals = Path(arguments.output_dir), parts.machine, SaveOnSignal()
    with run_folder.logs_in(folder / "logs"):
        trainer = PretrainingTrainer(
            parts.objective,
            args=arguments,
            documents=Documents(parts.corpus.train),
            collator=Collator(parts.masking, parts.tokenizer.pad_token_id, preset.science.max_length),
            tokenizer=parts.tokenizer,
            replicas=machine.replicas,
            micro_batch_tokens=machine.micro_batch_tokens,
            flops_per_token=parts.flops_per_token,
            ceiling=machine.ceiling * arguments.world_size,
            gradient_shares=preset.speed.gradient_shares,
            callbacks=[ProgressWatch(), signals],
        )
    trainer.remove_callback(transformers.PrinterCallback)
    saved = checkpoint.checkpoints(folder)
    if saved and trainer.is_world_process_zero():
        say(f"Going on from {saved[-1]}.")
    if arguments.max_steps:
        trainer.train(resume_from_checkpoint=str(saved[-1]) if saved else None)
    return trainer, signals.asked and trainer.state.global_step < arguments.max_steps


def _record(
    preset: Preset, arguments: Any, parts: _Parts, trainer: "PretrainingTrainer", heldout: dict, *, seconds: float
) -> dict[str, Any]:
    distilled = isinstance(preset.science, DistillationScience)
    return {
        "kind": "distillation" if distilled else "pretraining",
        "hyperparameters": science_record(preset.science, arguments),
        "corpus": parts.corpus.record,
        "start_sha256": _start_sha256(preset.science),
        "speed": summary.speed_record(parts.machine, arguments),
        "parameters": sum(p.numel() for p in parts.model.parameters()),
        "tokens": trainer.tokens_seen,
        "flops": trainer.tokens_seen * parts.flops_per_token,
        "seconds": round(seconds, 1),
        "peak_memory_bytes": own_peak_memory(),
        "heldout": heldout,
        "log": [entry for entry in trainer.state.log_history if "loss" in entry],
        "from": origin(),
    }


def _start_sha256(science) -> dict[str, str]:
    names = {science.start, science.embeddings_from or science.start} - {FROM_TEACHER}
    teacher = {"teacher": science.teacher_sha256} if isinstance(science, DistillationScience) else {}
    return teacher | {name: digest for name in sorted(names) if (digest := weights_sha256(name))}
