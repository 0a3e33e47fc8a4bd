"""The whole line: corpus, model, training, measurement, summary. One folder a run.

runs/biomobilebert_cl-quick/
    science.json       what is learned; another science is refused in this folder
    corpus.json        fingerprint of the text; other text is refused, too
    before.json        held-out measurement of the start weights
    checkpoint-*/      the two newest; a run goes on from the last
    logs/              TensorBoard
    model/             the result: loads with plain transformers
    loss.png           the loss picture
    record.json        settings, versions, checksums, speed, scores
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compact_biomed import files
from compact_biomed.console import say
from compact_biomed.errors import UserError
from compact_biomed.training import checkpoint, story
from compact_biomed.training.settings import (
    FROM_TEACHER,
    MADE_BY_RECIPE,
    DistillationScience,
    Preset,
    science_record,
)

if TYPE_CHECKING:
    from compact_biomed.training.recipe import ContinualRecipe


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
    import transformers
    from accelerate import PartialState
    from accelerate.utils import set_seed

    transformers.utils.logging.set_verbosity_error()  # its notes on new heads are told in our own words
    transformers.utils.logging.disable_progress_bar()
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
        _open_folder(folder, preset, arguments, fresh=fresh)
    processes.wait_for_everyone()
    if (folder / "record.json").is_file():
        if main:
            story.finished(folder, json.loads((folder / "record.json").read_text(encoding="utf-8")))
        return 0
    set_seed(arguments.seed)

    from compact_biomed.bench.memory import own_peak_memory
    from compact_biomed.models.start import load_masked_lm
    from compact_biomed.training import cost
    from compact_biomed.training.build import build_model, load_corpus, load_tokenizer, masking_of
    from compact_biomed.training.build_distillation import build_objective
    from compact_biomed.training.data import Collator, Documents
    from compact_biomed.training.heldout import HeldoutTest
    from compact_biomed.training.machine import plan
    from compact_biomed.training.trainer import PretrainingTrainer
    from compact_biomed.training.watch import ProgressWatch, SaveOnSignal

    started = time.time()
    science = preset.science
    with processes.main_process_first():
        tokenizer = load_tokenizer(science, place)
        corpus = load_corpus(science, tokenizer)
        if main:
            _same_text(folder, corpus.record["fingerprint"])
        teacher_lm = None if place is None else load_masked_lm(place)
        model = build_model(science, tokenizer, corpus.unigram, seed=arguments.seed, teacher=teacher_lm)
    machine = plan(preset.speed, model.config, world_size=arguments.world_size)
    objective = build_objective(science, model, teacher_lm, machine).to(arguments.device)
    counts = corpus.record["train"]
    length = counts["tokens"] / counts["documents"]
    per_token = cost.objective_flops_per_token(objective, length=length, masked=science.mask_probability)
    if main:
        expected, rate = cost.expected(
            objective, machine, science, steps=arguments.max_steps, length=length, vocab_size=len(tokenizer)
        )
        story.plan_of_run(recipe, preset, arguments, machine, expected, rate=rate, corpus=corpus)

    masking = masking_of(science, tokenizer, seed=arguments.seed)
    test = None
    if main:
        test = HeldoutTest(
            corpus.heldout, masking, tokenizer.pad_token_id, corpus.unigram,
            max_documents=preset.speed.heldout_documents, pseudo_positions=preset.speed.pseudo_positions,
        )  # fmt: skip
        heldout = {"unigram": test.baseline()}
        if place is not None:
            heldout["teacher"] = _once(folder / "teacher.json", lambda: test.measure_teacher(objective))
        heldout["before"] = _once(
            folder / "before.json", lambda: test.measure(objective, description="before training")
        )
    signals = SaveOnSignal()
    with _logs_in(folder / "logs"):
        trainer = PretrainingTrainer(
            objective,
            args=arguments,
            documents=Documents(corpus.train),
            collator=Collator(masking, tokenizer.pad_token_id, science.max_length),
            tokenizer=tokenizer,
            replicas=machine.replicas,
            micro_batch_tokens=machine.micro_batch_tokens,
            flops_per_token=per_token,
            ceiling=machine.ceiling * arguments.world_size,
            gradient_shares=preset.speed.gradient_shares,
            callbacks=[ProgressWatch(), signals],
        )
    trainer.remove_callback(transformers.PrinterCallback)
    saved = checkpoint.checkpoints(folder)
    if saved and main:
        say(f"Going on from {saved[-1]}.")
    if arguments.max_steps:
        trainer.train(resume_from_checkpoint=str(saved[-1]) if saved else None)
    if signals.asked and trainer.state.global_step < arguments.max_steps:
        if main:
            say(f"\nStopped after step {trainer.state.global_step:,} of {arguments.max_steps:,}, saved in {folder}.")
            say(f"To go on: {story.command_line()}")
        return 130
    if main:
        heldout["after"] = test.measure(objective, description="after training")
        record = {
            "kind": "pretraining" if place is None else "distillation",
            "science": science_record(science, arguments),
            "corpus": corpus.record,
            "start_sha256": _start_sha256(science),
            "speed": story.speed_record(machine, arguments),
            "versions": story.versions(),
            "parameters": sum(p.numel() for p in model.parameters()),
            "tokens": trainer.tokens_seen,
            "flops": trainer.tokens_seen * per_token,
            "seconds": round(time.time() - started, 1),
            "peak_memory_bytes": own_peak_memory(),
            "heldout": heldout,
            "log": [entry for entry in trainer.state.log_history if "loss" in entry],
            "command": story.command_line(),
        }
        _finish(folder, trainer, record)
        story.summary(folder, record)
    processes.wait_for_everyone()
    return 0


def _open_folder(folder: Path, preset: Preset, arguments: Any, *, fresh: bool) -> None:
    """Make the run's folder, or check that it holds this very science."""
    science = science_record(preset.science, arguments)
    path = folder / "science.json"
    if fresh and folder.exists():
        aside = next(p for n in range(1, 10_000) if not (p := folder.with_name(f"{folder.name}.old-{n}")).exists())
        folder.rename(aside)
        say(f"What stood in {folder} is kept as {aside}.")
    if path.is_file():
        there = json.loads(path.read_text(encoding="utf-8"))
        for key in {**there, **science}:
            if there.get(key) != science.get(key):
                raise UserError(
                    f"this folder holds a run with {key} {there.get(key)}, not {science.get(key)}",
                    where=folder,
                    remedy="choose another --output_dir, or --fresh to start over",
                )
        checkpoint.sweep(folder)
    elif folder.exists() and any(folder.iterdir()):
        raise UserError("this folder holds no run of ours", where=folder, remedy="choose another --output_dir")
    else:
        files.write_json(path, science)


def _same_text(folder: Path, fingerprint: str) -> None:
    """A run goes on with the text that it began with, also if other files stand under the same names now."""
    began = _once(folder / "corpus.json", lambda: {"fingerprint": fingerprint})
    if began["fingerprint"] != fingerprint:
        raise UserError(
            "the text of this run's sources has changed since it began",
            where=folder,
            remedy="choose another --output_dir, or --fresh to start over",
        )


@contextmanager
def _logs_in(folder: Path) -> Iterator[None]:
    """A trainer that is made in the block logs there, unless the user's environment names another place."""
    if "TENSORBOARD_LOGGING_DIR" in os.environ:
        yield
        return
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder)
    try:
        yield
    finally:
        del os.environ["TENSORBOARD_LOGGING_DIR"]


def _once(path: Path, measure) -> dict[str, Any]:
    """A measurement that is made once a run and kept."""
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    result = measure()
    files.write_json(path, result)
    return result


def _start_sha256(science) -> dict[str, str]:
    from compact_biomed.models.start import weights_sha256

    names = {science.start, science.embeddings_from or science.start} - {FROM_TEACHER}
    teacher = {"teacher": science.teacher_sha256} if isinstance(science, DistillationScience) else {}
    return teacher | {name: digest for name in sorted(names) if (digest := weights_sha256(name))}


def _finish(folder: Path, trainer, record: dict[str, Any]) -> None:
    """Write the results; the record last, because it says that the run is whole."""
    from compact_biomed.report.card import model_card
    from compact_biomed.report.picture import loss_picture

    with checkpoint.disk_errors(folder / "model"), files.atomic_folder(folder / "model") as temporary:
        trainer.save_model(str(temporary))
        (temporary / "README.md").write_text(model_card(record), encoding="utf-8")
    with files.atomic_file(folder / "loss.png") as temporary:
        loss_picture(record, temporary)
    record["weights_sha256"] = files.sha256_file(folder / "model" / "model.safetensors")
    files.write_json(folder / "record.json", record)


if sys.platform == "win32":  # resource, os.sched_getaffinity and the signals need a POSIX system
    raise ImportError("compact_biomed.training needs Linux or macOS")
