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
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from compact_biomed.console import quiet_transformers, say
from compact_biomed.origin import command_line, origin
from compact_biomed.training import checkpoint, run_folder, story
from compact_biomed.training.settings import (
    FROM_TEACHER,
    MADE_BY_RECIPE,
    DistillationScience,
    Preset,
    science_record,
)

if TYPE_CHECKING:
    from compact_biomed.objectives.masking import Masking
    from compact_biomed.training.heldout import HeldoutTest
    from compact_biomed.training.machine import Plan
    from compact_biomed.training.recipe import ContinualRecipe
    from compact_biomed.training.trainer import PretrainingTrainer


def dry_run(recipe: "ContinualRecipe", preset: Preset, arguments: Any) -> int:
    """Print the resolved settings and the expected cost; make and fetch nothing."""
    from compact_biomed.training import cost

    found = cost.estimate(preset, steps=arguments.max_steps)
    story.plan_of_run(recipe, preset, arguments, found.machine, found.cost, rate=found.rate, corpus=None)
    say(f"Expected tokens assume {found.length} a document; the time is from a probe on random ids, made just now.")
    if getattr(preset.science, "teacher", "").startswith(MADE_BY_RECIPE):
        name = preset.science.teacher.removeprefix(MADE_BY_RECIPE)
        say(f"A teacher that does not exist yet is made first; what that costs: "
            f"python recipes/{name}.py --preset {preset.science.preset} --dry-run")  # fmt: skip
    return 0


def run(recipe: "ContinualRecipe", preset: Preset, arguments: Any, *, fresh: bool = False) -> int:
    """Train, or go on training, and tell the result."""
    from accelerate import PartialState
    from accelerate.utils import set_seed

    quiet_transformers()
    processes, folder = PartialState(), Path(arguments.output_dir)
    main = processes.is_main_process
    place = None
    if isinstance(preset.science, DistillationScience):
        from compact_biomed.training import teacher

        try:
            preset, place = teacher.settled(recipe, preset, make=processes.num_processes == 1)
        except teacher.Interrupted:
            return 130
    if main:
        run_folder.open_folder(folder, science_record(preset.science, arguments), fresh=fresh)
    processes.wait_for_everyone()
    if (folder / "record.json").is_file():
        if main:
            story.finished(folder, json.loads((folder / "record.json").read_text(encoding="utf-8")))
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
        story.summary(folder, record)
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
    from compact_biomed.models.start import load_masked_lm
    from compact_biomed.training import cost
    from compact_biomed.training.build import build_model, load_corpus, load_tokenizer, masking_of
    from compact_biomed.training.build_distillation import build_objective
    from compact_biomed.training.machine import plan

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
    from compact_biomed.training import cost

    expected, rate = cost.expected(
        parts.objective, parts.machine, preset.science,
        steps=arguments.max_steps, length=parts.length, vocab_size=len(parts.tokenizer),
    )  # fmt: skip
    story.plan_of_run(recipe, preset, arguments, parts.machine, expected, rate=rate, corpus=parts.corpus)


def _heldout_test(preset: Preset, parts: _Parts) -> "HeldoutTest":
    from compact_biomed.training.heldout import HeldoutTest

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
    import transformers

    from compact_biomed.training.data import Collator, Documents
    from compact_biomed.training.trainer import PretrainingTrainer
    from compact_biomed.training.watch import ProgressWatch, SaveOnSignal

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
    from compact_biomed.bench.memory import own_peak_memory

    distilled = isinstance(preset.science, DistillationScience)
    return {
        "kind": "distillation" if distilled else "pretraining",
        "science": science_record(preset.science, arguments),
        "corpus": parts.corpus.record,
        "start_sha256": _start_sha256(preset.science),
        "speed": story.speed_record(parts.machine, arguments),
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
    from compact_biomed.models.start import weights_sha256

    names = {science.start, science.embeddings_from or science.start} - {FROM_TEACHER}
    teacher = {"teacher": science.teacher_sha256} if isinstance(science, DistillationScience) else {}
    return teacher | {name: digest for name in sorted(names) if (digest := weights_sha256(name))}


if sys.platform == "win32":  # resource, os.sched_getaffinity and the signals need a POSIX system
    raise ImportError("compact_biomed.training needs Linux or macOS")
