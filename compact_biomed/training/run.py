"""Carry out a run: corpus, model, training, measurement, record. One folder per run.

runs/biomobilebert_cl-quick/
    hyperparameters.json   what is learned; other hyperparameters are refused in this folder
    corpus.json            fingerprint of the text; other text is refused, too
    before.json            held-out measurement of the start weights (teacher.json: of the teacher)
    checkpoint-*/          the two newest; a run resumes from the last
    logs/                  TensorBoard
    model/                 the result: loads with plain transformers
    loss.png               the loss curve
    record.json            settings, versions, checksums, speed, scores
"""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import transformers
from accelerate import PartialState
from accelerate.utils import set_seed
from datasets import Dataset

from compact_biomed.console import say
from compact_biomed.corpus.build import TokenizedCorpus
from compact_biomed.corpus.documents import look_into
from compact_biomed.engine.plan import ComputePlan, plan
from compact_biomed.errors import UserError
from compact_biomed.interruption import StopRequest
from compact_biomed.machine import own_peak_memory
from compact_biomed.models.checkpoints import quiet_transformers
from compact_biomed.models.flops import objective_flops_per_token
from compact_biomed.models.positions import longest_input
from compact_biomed.objectives.mlm import Masking
from compact_biomed.records.lines import RECORD_FILE
from compact_biomed.records.provenance import command_line, origin
from compact_biomed.training import checkpoint, cost, run_folder, summary
from compact_biomed.training.build import (
    build_model,
    build_objective,
    check_models,
    load_corpus,
    load_teacher,
    load_tokenizer,
    masking_of,
    slicing_text,
)
from compact_biomed.training.data import Collator, Documents, documents_of
from compact_biomed.training.heldout import HeldoutTest
from compact_biomed.training.prerequisites import Interrupted, Ready, ready, start_checksums
from compact_biomed.training.recipe import MADE_BY_RECIPE, SLICED, SMOKE
from compact_biomed.training.resolve import Run
from compact_biomed.training.shapes import check_length
from compact_biomed.training.trainer import PretrainingTrainer, ProgressWatch, SaveAndStop


@dataclass(frozen=True)
class TrainingResult:
    """The result of a run.

    Args:
        folder: of the run.
        record: settings, versions, checksums, speed, scores (record.json); empty if the run was stopped.
        stop_asked: whether a signal asked to stop, be it in the last step.
    """

    folder: Path
    record: Mapping[str, Any]
    stop_asked: bool = False

    @property
    def finished(self) -> bool:
        """Whether the run reached its last step."""
        return bool(self.record)

    @property
    def model(self) -> Path:
        """The trained model's folder; plain transformers loads it."""
        return self.folder / "model"

    @property
    def scores(self) -> Mapping[str, float]:
        """The held-out measurement after training: MLM loss in nats per masked token, accuracy, pseudo-perplexity.

        Where no term of a distillation reads the logits: its terms, and their weighted sum (`distillation_loss`).
        """
        return self.record["heldout"]["after"]


def dry_run(run: Run) -> None:
    """Print the resolved settings and the expected cost; make and fetch nothing.

    Raises:
        UserError: a source that does not exist, text of which the first documents cannot be read, or local
            checkpoints that the run would refuse.
    """
    if (sources := list(run.hyperparameters.sources)) != [SMOKE]:
        look_into(sources)
    check_length(run.hyperparameters, run.hyperparameters.teacher)
    quiet_transformers()
    check_models(run.hyperparameters)
    estimate = cost.estimate(run)
    summary.say_plan(run, estimate.machine, estimate.cost, rate=estimate.rate, corpus=None)
    say(
        f"Expected tokens assume {estimate.length} per document; the rate is from a probe on random ids, made just now."
    )
    needed = {"A teacher": run.hyperparameters.teacher, "A start": run.hyperparameters.start}
    for what, name in needed.items():
        if name.startswith(MADE_BY_RECIPE):
            say(
                f"{what} that does not exist yet is trained first. Its cost: compact-biomed recipe "
                f"{name.removeprefix(MADE_BY_RECIPE)} --preset {run.hyperparameters.preset} --dry-run"
            )


def train(run: Run, *, fresh: bool = False) -> TrainingResult:
    """Train, or resume training, and print the result.

    Args:
        fresh: start over; an earlier run in the folder is kept under another name.

    Raises:
        UserError: a folder of another run, weights or text that are missing or do not fit.
    """
    quiet_transformers()
    processes, folder = PartialState(), run.folder
    main = processes.is_main_process
    try:
        needed = ready(run, train, make=processes.num_processes == 1)
    except Interrupted:
        return TrainingResult(folder, {})
    run = needed.run
    check_length(run.hyperparameters, needed.teacher)
    if main and fresh:
        run_folder.set_aside(folder)
    with run_folder.sole_training(folder) if main else nullcontext():
        is_new = main and run_folder.open_folder(folder, run.record())
        processes.wait_for_everyone()
        if (folder / RECORD_FILE).is_file():
            record = run_folder.read_record(folder / RECORD_FILE)
            if main:
                summary.say_finished(folder, record)
            return TrainingResult(folder, record)
        set_seed(run.arguments.seed)
        started = time.time()
        try:
            parts = _assemble(needed, processes)
        except (UserError, OSError):
            if is_new:
                run_folder.abandon(folder)
            raise
        return _train_in(folder, run, parts, processes, started=started)


def _train_in(folder: Path, run: Run, parts: "_Parts", processes: PartialState, *, started: float) -> TrainingResult:
    main = processes.is_main_process
    heldout: dict[str, Any] = {}
    if main:
        expected, rate = cost.expected(
            run, parts.objective, parts.machine, length=parts.length, vocabulary=len(parts.tokenizer)
        )
        summary.say_plan(run, parts.machine, expected, rate=rate, corpus=parts.corpus, documents=len(parts.documents))
        heldout = _measure_before(run, parts)
    trainer, stop_asked = _train(run, parts)
    if stop_asked and trainer.state.global_step < run.arguments.max_steps:
        if main:
            say(
                f"\nStopped after step {trainer.state.global_step:,} of {run.arguments.max_steps:,}, saved in {folder}."
            )
            say(f"To resume: {command_line()}")
        return TrainingResult(folder, {}, stop_asked)
    record: dict[str, Any] = {}
    if main:
        heldout["after"] = parts.test.measure(parts.objective, description="after training")
        record = _record(run, parts, trainer, heldout, seconds=time.time() - started)
        run_folder.finish(folder, trainer, record)
        summary.say_summary(folder, record)
    processes.wait_for_everyone()
    return TrainingResult(folder, record or run_folder.read_record(folder / RECORD_FILE), stop_asked)


class _Parts(NamedTuple):
    """The parts of a run: text, masking, model, objective, held-out test, and the plan for this machine."""

    tokenizer: Any
    corpus: TokenizedCorpus
    documents: Dataset  # of the corpus, those that are trained on
    masking: Masking
    model: Any
    objective: Any
    test: HeldoutTest | None  # of the main process
    machine: ComputePlan
    length: float  # mean tokens per document
    flops_per_token: float
    start_sha256: dict[str, str]  # name -> sha256 of all weights that the model derives from


def _assemble(needed: Ready, processes: PartialState) -> _Parts:
    """Load or build all that the run needs; the main process first, so that the others find it in the cache."""
    run, teacher = needed.run, needed.teacher
    hyperparameters, seed = run.hyperparameters, run.arguments.seed
    check_models(hyperparameters, teacher)
    with processes.main_process_first():
        tokenizer = load_tokenizer(hyperparameters, teacher, needed.start)
        corpus = load_corpus(hyperparameters, tokenizer)
        if processes.is_main_process:
            run_folder.require_same_text(run.folder, corpus.record["fingerprint"])
        teacher_lm = None if teacher is None else load_teacher(hyperparameters, teacher)
        model = build_model(hyperparameters, tokenizer, corpus, seed=seed, teacher=teacher_lm, start=needed.start)
    machine = plan(run.performance, model.config, world_size=run.arguments.world_size)
    objective = build_objective(
        hyperparameters, model, teacher_lm, machine, loss_backend=run.performance.loss_backend
    ).to(run.arguments.device)
    if hyperparameters.start.startswith(SLICED) and getattr(objective, "projections", {}):
        text = slicing_text(corpus, tokenizer.pad_token_id, documents=32)
        objective.fit_projections(text.input_ids, text.mask.long())
    counts = corpus.record["train"]
    length = counts["tokens"] / counts["documents"]
    flops = objective_flops_per_token(objective, length=length, masked=hyperparameters.mask_probability)
    masking = masking_of(hyperparameters, tokenizer, seed=seed)
    documents = documents_of(corpus.train, hyperparameters.documents)
    test = None
    if processes.is_main_process:
        test = HeldoutTest(
            corpus.heldout,
            masking,
            tokenizer.pad_token_id,
            corpus.unigram,
            max_documents=run.performance.heldout_documents,
            pseudo_positions=run.performance.pseudo_positions,
            widest=longest_input(model.config),
        )
        if objective.reads_logits:
            test.require_masked_tokens(", ".join(hyperparameters.sources))
    return _Parts(
        tokenizer, corpus, documents, masking, model, objective, test, machine, length, flops, start_checksums(needed)
    )


def _measure_before(run: Run, parts: _Parts) -> dict[str, Any]:
    """Measure word frequencies, the teacher if there is one, and the start weights on the held-out text.

    Word frequencies and the teacher's predictions are left out if the model does not learn to predict words.
    """
    performance, test = run.performance, parts.test
    settings = {"documents": performance.heldout_documents, "pseudo_positions": performance.pseudo_positions}
    predicts = parts.objective.reads_logits
    heldout = {"unigram": test.baseline()} if predicts else {}
    if run.is_distillation and predicts:
        heldout["teacher"] = run_folder.measured_once(
            run.folder / "teacher.json", lambda: test.measure_teacher(parts.objective), settings=settings
        )
    heldout["before"] = run_folder.measured_once(
        run.folder / "before.json",
        lambda: test.measure(parts.objective, description="before training"),
        settings=settings,
    )
    return heldout


def _train(run: Run, parts: _Parts) -> tuple[PretrainingTrainer, bool]:
    """Return the trainer after its last step, and whether a signal has asked to stop."""
    machine, request = parts.machine, StopRequest()
    saving = SaveAndStop(request)
    with run_folder.logs_in(run.folder / "logs"):
        trainer = PretrainingTrainer(
            parts.objective,
            args=run.arguments,
            documents=Documents(parts.documents),
            collator=Collator(
                parts.masking,
                parts.tokenizer.pad_token_id,
                run.hyperparameters.max_length,
                longest_input(parts.model.config),
            ),
            tokenizer=parts.tokenizer,
            replicas=machine.replicas,
            micro_batch_tokens=machine.micro_batch_tokens,
            flops_per_token=parts.flops_per_token,
            ceiling=machine.ceiling * run.arguments.world_size,
            gradient_shares=run.performance.gradient_shares,
            callbacks=[ProgressWatch(), saving],
        )
    trainer.remove_callback(transformers.PrinterCallback)
    checkpoints = checkpoint.checkpoints(run.folder)
    if checkpoints and trainer.is_world_process_zero():
        say(f"Resuming from {checkpoints[-1]}.")
    if run.arguments.max_steps:
        with request.heeded():
            trainer.train(resume_from_checkpoint=str(checkpoints[-1]) if checkpoints else None)
    return trainer, saving.stopping


def _record(run: Run, parts: _Parts, trainer: PretrainingTrainer, heldout: dict, *, seconds: float) -> dict[str, Any]:
    return {
        "kind": "distillation" if run.is_distillation else "pretraining",
        "hyperparameters": run.record(),
        "corpus": parts.corpus.record,
        "start_sha256": parts.start_sha256,
        "speed": summary.speed_record(parts.machine, run.arguments),
        "parameters": sum(p.numel() for p in parts.objective.result.parameters()),
        "tokens": trainer.tokens_seen,
        "flops": trainer.tokens_seen * parts.flops_per_token,
        "seconds": round(seconds, 1),
        "peak_memory_bytes": own_peak_memory(),
        "heldout": heldout,
        "log": [entry for entry in trainer.state.log_history if "loss" in entry],
        "from": origin(),
    }
