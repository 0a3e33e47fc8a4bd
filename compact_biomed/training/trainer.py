"""transformers' Trainer, with five things done differently.

1. A step's loss is the sum over its masked tokens divided by their number in the whole
   step, over all processes and accumulation: neither changes the gradient.
2. The batch is computed in micro-batches (`training.microbatch`).
3. The documents of a step depend on the seed and the step alone (`training.data`), so an
   interrupted run goes on at once, without skipping through the data.
4. Checkpoints are whole or absent and hold no pickle (`training.checkpoint`).
5. tokens/s and the share of the machine's matrix-product ceiling are in the log.
"""

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer

from compact_biomed.errors import UserError
from compact_biomed.files import atomic_folder
from compact_biomed.objectives import IGNORED
from compact_biomed.objectives.mlm import MaskedLM
from compact_biomed.training import checkpoint
from compact_biomed.training.data import Collator, Documents, StepSampler
from compact_biomed.training.microbatch import Replicas, split


class PretrainingTrainer(Trainer):
    """Trains a `MaskedLM` objective.

    Args:
        model: the objective (the trainer's "model": data parallelism wraps it, loss included).
        documents: the training split.
        collator: makes masked batches.
        replicas: micro-batches side by side; 1 with several processes or an accelerator.
        micro_batch_tokens: padded tokens a micro-batch.
        tokenizer: saved with the weights.
        flops_per_token: of training, for the log's share of the ceiling.
        ceiling: FLOP/s of this machine's matrix products, 0 if unknown.
    """

    def __init__(
        self,
        model: MaskedLM,
        *,
        args,
        documents: Documents,
        collator: Collator,
        tokenizer,
        replicas: int = 1,
        micro_batch_tokens: int = 1024,
        flops_per_token: float = 0.0,
        ceiling: float = 0.0,
        callbacks=None,
    ):
        super().__init__(
            model=model, args=args, train_dataset=documents, data_collator=collator, processing_class=tokenizer,
            callbacks=callbacks,
        )  # fmt: skip
        self.objective, self.documents = model, documents
        self.replicas = Replicas(model, replicas)
        self.micro_batch_tokens = micro_batch_tokens
        self.flops_per_token, self.ceiling = flops_per_token, ceiling
        self.start_step = 0
        self.tokens_seen = 0  # real tokens of all processes, without padding; saved and resumed
        self._clock = (time.monotonic(), 0)

    # ---- data -------------------------------------------------------------------------

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
        """Masked tokens in the whole step; also counts the tokens that were read."""
        masked = sum(batch["labels"].ne(IGNORED).sum() for batch in batch_samples)
        tokens = sum(batch["attention_mask"].sum() for batch in batch_samples)
        counts = torch.stack([torch.as_tensor(masked), torch.as_tensor(tokens)]).to(device)
        if self.args.world_size > 1:
            counts = self.accelerator.gather(counts).view(-1, 2).sum(0)
        self.tokens_seen += int(counts[1])
        return counts[0].clamp(min=1)

    # ---- the step ---------------------------------------------------------------------

    def training_step(self, model, inputs: dict[str, Tensor], num_items_in_batch: Tensor | None = None) -> Tensor:
        model.train()
        if hasattr(self.optimizer, "train"):
            self.optimizer.train()
        inputs = self._prepare_inputs(inputs)
        parts = split(**inputs, tokens=self.micro_batch_tokens, replicas=self.replicas.n)
        # Several processes' gradients are averaged, not summed.
        scale = self.args.world_size / float(num_items_in_batch)
        stream = (self.args.seed, self.state.global_step, self.args.process_index, self._substep())
        if model is self.objective:
            loss_sum = self.replicas.backward(parts, scale=scale, stream=stream).loss_sum
        else:
            loss_sum = self.replicas.backward_wrapped(
                model, parts, scale=scale, stream=stream, hold=lambda: self.accelerator.no_sync(model)
            )
        if not math.isfinite(loss_sum):
            raise UserError(
                f"the loss is {loss_sum} at step {self.state.global_step + 1}: training has diverged",
                where=self.args.output_dir,
                remedy="start over with a lower --learning_rate or a longer --warmup_steps",
            )
        return torch.tensor(loss_sum * scale, device=self.args.device)

    def _substep(self) -> int:
        """Which batch of an accumulated step this is, counted here: the trainer does not tell."""
        step, n = getattr(self, "_substep_count", (-1, 0))
        n = n + 1 if step == self.state.global_step else 0
        self._substep_count = (self.state.global_step, n)
        return n

    # ---- the log ----------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            (then, tokens), now = self._clock, time.monotonic()
            rate = (self.tokens_seen - tokens) / max(now - then, 1e-9)
            self._clock = (now, self.tokens_seen)
            logs["tokens"] = self.tokens_seen
            logs["tokens_per_second"] = round(rate, 1)
            if self.ceiling:
                logs["share_of_matmul_ceiling"] = round(rate * self.flops_per_token / self.ceiling, 3)
        super().log(logs, start_time)

    # ---- checkpoints ------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any):
        if resume_from_checkpoint is not None:
            self.start_step = int(Path(resume_from_checkpoint).name.rsplit("-", 1)[1])
        self._clock = (time.monotonic(), self.tokens_seen)
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def _save_checkpoint(self, model, trial) -> None:
        if self.args.should_save:
            run = Path(self.args.output_dir)
            name = run / f"checkpoint-{self.state.global_step}"
            with checkpoint.disk_errors(name), atomic_folder(name) as folder:
                self.save_model(str(folder))
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

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        tensors = checkpoint.load_tensors(Path(resume_from_checkpoint) / "model.safetensors")
        state = self.objective.model.state_dict()
        loaded = {state[name].data_ptr() for name in tensors if name in state}
        missing = [name for name, tensor in state.items() if tensor.data_ptr() not in loaded]
        if missing or not set(tensors) <= set(state):  # tied weights are saved under one of their names
            raise UserError(
                f"these weights are of another model: {(missing or sorted(set(tensors) - set(state)))[0]} does not fit",
                where=resume_from_checkpoint,
                remedy="choose another --output_dir",
            )
        self.objective.model.load_state_dict(tensors, strict=False)

    def _load_optimizer_and_scheduler(self, folder: str | None) -> None:
        if folder is not None:
            extra = checkpoint.load_optimizer(Path(folder), self.optimizer, self.lr_scheduler)
            self.tokens_seen = extra["tokens_seen"]
            self._clock = (time.monotonic(), self.tokens_seen)

    def _load_rng_state(self, folder: str | None) -> None:
        """Nothing: masks and dropout are functions of the step (`objectives.masking`, `models.kernels`)."""

    def _load_scaler(self, folder: str | None) -> None:
        """Nothing: bf16 needs no loss scaling."""
