"""transformers' Trainer, with five things done differently.

1. A step's loss is a sum (over its masked tokens, say) divided by the count in the whole
   step, over all processes and accumulation: neither changes the gradient.
2. The batch is computed in micro-batches (`engine.microbatch`).
3. The documents of a step depend on the seed and the step alone (`training.data`), so an
   interrupted run resumes at once, without skipping through the data.
4. Checkpoints are whole or absent and hold no pickle (`training.checkpoint`).
5. tokens/s and the share of the machine's matrix-product ceiling are in the log.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from compact_biomed.console import count, progress, say
from compact_biomed.engine.dropout import random_stream
from compact_biomed.engine.microbatch import Replicas, split
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_folder
from compact_biomed.interruption import StopRequest
from compact_biomed.training import checkpoint
from compact_biomed.training.data import Collator, Documents, StepSampler

_SAVE_EVERY = 600.0  # seconds without a checkpoint


class TermLog:
    """The means of a distillation's terms between two entries of the log; empty for an objective without terms.

    Args:
        objective: `Distillation`, or one without terms.
        gradient_shares: measure the gradient norm of each term on one micro-batch at each entry.
    """

    def __init__(self, objective: Any, *, gradient_shares: bool = False):
        self.objective, self.gradient_shares = objective, gradient_shares
        self.terms = getattr(objective, "terms", ())
        self._sums: dict[str, float] = {}
        self._steps = 0.0
        self._shares: dict[str, float] = {}

    def add(self, result: tuple, *, scale: float, steps: float = 1.0) -> None:
        """Add the output of a step, or of an accumulated part of one.

        Args:
            scale: what makes the output's terms the step's means, or parts that add up to them.
            steps: how much of a step this is.
        """
        for term in self.terms:
            self._sums[term.name] = self._sums.get(term.name, 0.0) + getattr(result, term.name) * scale
        self._steps += steps if self.terms else 0.0

    def measure_shares(self, part: tuple, *, stream: Sequence[int]) -> None:
        """Measure the norm of each weighted term's gradient on a micro-batch, divided by the sum of the norms."""
        if not (self.terms and self.gradient_shares):
            return
        *inputs, counts = part
        parameters = [p for p in self.objective.parameters() if p.requires_grad]
        with random_stream(*stream, 0, modules=not self.objective.fast):
            values = self.objective.values(*inputs)
        norms = {}
        for term, targets in zip(self.terms, counts.clamp(min=1).tolist(), strict=True):
            share = values[term.name] * (term.weight / targets)
            gradients = torch.autograd.grad(share, parameters, retain_graph=True, allow_unused=True)
            norms[term.name] = sum(float(g.float().square().sum()) for g in gradients if g is not None) ** 0.5
        total = sum(norms.values()) or 1.0
        self._shares = {f"gradient_share/{name}": float(f"{norm / total:.4g}") for name, norm in norms.items()}

    def take(self) -> dict[str, float]:
        """Return the means since the last entry: each term unweighted, weighted, and its share of the gradient."""
        if not self._steps:
            return {}
        means = {term: self._sums[term.name] / self._steps for term in self.terms}
        entry = {f"term/{term.name}": mean for term, mean in means.items()}
        entry |= {f"weighted/{term.name}": term.weight * mean for term, mean in means.items()} | self._shares
        self._sums, self._steps, self._shares = {}, 0.0, {}
        return entry


class PretrainingTrainer(Trainer):
    """The Trainer of a `MaskedLM` or a `Distillation` objective.

    Args:
        model: the objective (the trainer's "model": data parallelism wraps it, loss included).
        documents: the training split.
        collator: makes masked batches.
        replicas: micro-batches side by side; 1 with several processes or an accelerator.
        micro_batch_tokens: padded tokens per micro-batch.
        tokenizer: saved with the weights.
        flops_per_token: of training, for the log's share of the ceiling.
        ceiling: FLOP/s of this machine's matrix products, 0 if unknown.
        gradient_shares: log each term's share of the gradient, too.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        args,
        documents: Documents,
        collator: Collator,
        tokenizer,
        replicas: int = 1,
        micro_batch_tokens: int = 1024,
        flops_per_token: float = 0.0,
        ceiling: float = 0.0,
        gradient_shares: bool = False,
        callbacks=None,
    ):
        super().__init__(
            model=model,
            args=args,
            train_dataset=documents,
            data_collator=collator,
            processing_class=tokenizer,
            callbacks=callbacks,
        )
        self.objective, self.documents = model, documents
        self.replicas = Replicas(model, replicas)
        self.micro_batch_tokens = micro_batch_tokens
        self.flops_per_token, self.ceiling = flops_per_token, ceiling
        self.term_log = TermLog(model, gradient_shares=gradient_shares)
        self.start_step = 0
        self.tokens_seen = 0  # real tokens of all processes, without padding; saved and resumed
        self._clock = (time.monotonic(), 0)

    # ---- data

    def get_train_dataloader(self) -> DataLoader:
        per_step = self.args.gradient_accumulation_steps * self.args.world_size
        sampler = StepSampler(
            len(self.documents),
            self.args.per_device_train_batch_size,
            self.args.max_steps * per_step,
            seed=self.args.seed,
            start=self.start_step * per_step,
        )
        loader = DataLoader(
            self.documents,
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
        )
        return self.accelerator.prepare(loader)

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Tensor:
        """Return what the whole step's sums are divided by; also count the tokens that were read."""
        counts = sum(self.objective.counts(batch) for batch in batch_samples)
        tokens = sum(batch["attention_mask"].sum() for batch in batch_samples)
        counts = torch.cat([counts, tokens[None]]).to(device)
        if self.args.world_size > 1:
            counts = self.accelerator.gather(counts).view(-1, len(counts)).sum(0)
        self.tokens_seen += int(counts[-1])
        return counts[:-1]

    # ---- the step

    def training_step(self, model, inputs: dict[str, Tensor], num_items_in_batch: Tensor | None = None) -> Tensor:
        model.train()
        if hasattr(self.optimizer, "train"):
            self.optimizer.train()
        inputs = self._prepare_inputs(inputs)
        keep_width = self.objective.keep_padding
        parts = split(**inputs, tokens=self.micro_batch_tokens, replicas=self.replicas.n, keep_width=keep_width)
        parts, scale = self.objective.with_divisor(parts, num_items_in_batch)
        scale *= self.args.world_size  # several processes' gradients are averaged, not summed
        stream = (self.args.seed, self.state.global_step, self.args.process_index, self._substep())
        if model is self.objective:
            result = self.replicas.backward(parts, scale=scale, stream=stream)
        else:
            result = self.replicas.backward_wrapped(
                model, parts, scale=scale, stream=stream, hold=lambda: self.accelerator.no_sync(model)
            )
        loss_sum = result.loss_sum
        self.term_log.add(result, scale=scale, steps=1 / self.args.gradient_accumulation_steps)
        if (self.state.global_step + 1) % self.args.logging_steps == 0:
            self.term_log.measure_shares(parts[0], stream=stream)
        if not math.isfinite(loss_sum):
            raise UserError(
                f"the loss is {loss_sum} at step {self.state.global_step + 1}: training has diverged",
                where=self.args.output_dir,
                remedy="start over with a lower --learning-rate or a longer --warmup-steps",
            )
        return torch.tensor(loss_sum * scale, device=self.args.device)

    def _substep(self) -> int:
        """Return which batch of an accumulated step this is; transformers' Trainer does not say."""
        step, n = getattr(self, "_substep_count", (-1, 0))
        n = n + 1 if step == self.state.global_step else 0
        self._substep_count = (self.state.global_step, n)
        return n

    # ---- the log

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            (then, tokens), now = self._clock, time.monotonic()
            rate = (self.tokens_seen - tokens) / max(now - then, 1e-9)
            self._clock = (now, self.tokens_seen)
            logs |= self.term_log.take()
            logs["tokens"] = self.tokens_seen
            logs["tokens_per_second"] = round(rate, 1)
            if self.ceiling:
                logs["share_of_matmul_ceiling"] = round(rate * self.flops_per_token / self.ceiling, 3)
        # A gradient norm may overflow while the loss does not; JSON has no infinity.
        super().log({name: value for name, value in logs.items() if math.isfinite(value)}, start_time)

    # ---- checkpoints

    def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any):
        if resume_from_checkpoint is not None:
            checkpoint.check_progress(Path(resume_from_checkpoint))
            self.start_step = int(Path(resume_from_checkpoint).name.rsplit("-", 1)[1])
        self._clock = (time.monotonic(), self.tokens_seen)
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def _save_checkpoint(self, model, trial) -> None:
        if self.args.should_save:
            run = Path(self.args.output_dir)
            name = run / f"checkpoint-{self.state.global_step}"
            with checkpoint.disk_errors(name), atomic_folder(name) as folder:
                self.save_model(str(folder))
                checkpoint.save_training_only(folder, self.objective)
                extra = {"tokens_seen": self.tokens_seen}
                checkpoint.save_optimizer(folder, self.optimizer, self.lr_scheduler, extra)
                self.state.save_to_json(str(folder / "trainer_state.json"))
            checkpoint.keep_newest(run, self.args.save_total_limit or 0)
        self.accelerator.wait_for_everyone()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the bare model and its tokenizer: the folder loads with plain transformers."""
        if self.args.should_save:
            folder = output_dir or self.args.output_dir
            self.objective.model.save_pretrained(folder)
            self.processing_class.save_pretrained(folder)

    def export(self, folder: str) -> None:
        """Save the result and its tokenizer: a masked-LM, or an encoder if its vocabulary head was not trained."""
        self.objective.result.save_pretrained(folder)
        self.processing_class.save_pretrained(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        tensors = checkpoint.load_tensors(Path(resume_from_checkpoint) / "model.safetensors")
        state = self.objective.model.state_dict()
        loaded = {state[name].data_ptr() for name in tensors if name in state}
        misfits = [name for name, tensor in state.items() if tensor.data_ptr() not in loaded]
        # Tied weights are saved under one of their names.
        misfits += sorted(
            name for name, tensor in tensors.items() if name not in state or tensor.shape != state[name].shape
        )
        if misfits:
            raise UserError(
                f"these weights belong to another model: {misfits[0]} does not fit",
                where=resume_from_checkpoint,
                remedy="choose another --output-dir",
            )
        self.objective.model.load_state_dict(tensors, strict=False)
        checkpoint.load_training_only(Path(resume_from_checkpoint), self.objective)

    def _load_optimizer_and_scheduler(self, folder: str | None) -> None:
        if folder is not None:
            extra = checkpoint.load_optimizer(Path(folder), self.optimizer, self.lr_scheduler)
            self.tokens_seen = extra["tokens_seen"]
            self._clock = (time.monotonic(), self.tokens_seen)

    def _load_rng_state(self, folder: str | None) -> None:
        """Load nothing: masks and dropout are functions of the step (`objectives.mlm`, `engine.dropout`)."""

    def _load_scaler(self, folder: str | None) -> None:
        """Load nothing: bf16 needs no loss scaling."""


class ProgressWatch(TrainerCallback):
    """Progress of a run: a bar with loss and throughput on a terminal, one line per logging step elsewhere."""

    def __init__(self) -> None:
        self.bar = None

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if state.is_world_process_zero:
            self.bar = progress(total=state.max_steps, initial=state.global_step, desc="training", unit=" steps")

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self.bar is not None:
            self.bar.update(1)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if self.bar is None or "loss" not in (logs or {}):
            return
        speed = f"{logs['tokens_per_second']:,.0f} tokens/s"
        if "share_of_matmul_ceiling" in logs:
            speed += f" ({logs['share_of_matmul_ceiling']:.0%} of ceiling)"
        text = f"loss {logs['loss']:.3f}, {speed}"
        if self.bar.disable:
            say(f"  step {state.global_step:>6,} of {state.max_steps:,}: {text}, {count(logs['tokens'])} tokens")
        else:
            self.bar.set_postfix_str(text)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        if self.bar is not None:
            self.bar.close()


class SaveAndStop(TrainerCallback):
    """Save a checkpoint every ten minutes or so; save one and stop when a signal asks for it.

    Several processes agree on both: their clocks differ, and perhaps only one of them gets a signal.

    Args:
        request: is told of signals.

    Attributes:
        stopping: whether a signal has asked to stop.
    """

    def __init__(self, request: StopRequest):
        self.request, self.stopping = request, False

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self._saved = time.monotonic()

    def on_save(self, args, state, control, **kwargs) -> None:
        self._saved = time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        long_ago = time.monotonic() - self._saved > _SAVE_EVERY
        self.stopping, long_ago = self._agreed(args, self.request.signal is not None, long_ago)
        if self.stopping:
            control.should_save = control.should_training_stop = True
        elif long_ago and state.global_step % state.logging_steps == 0:  # or the log's means would be of fewer steps
            control.should_save = True
        return control

    def _agreed(self, args, *flags: bool) -> list[bool]:
        """Return which flags are set in any process."""
        if args.world_size == 1:
            return list(flags)
        anywhere = torch.tensor(flags, dtype=torch.int32, device=args.device)
        torch.distributed.all_reduce(anywhere, op=torch.distributed.ReduceOp.MAX)
        return anywhere.bool().tolist()
