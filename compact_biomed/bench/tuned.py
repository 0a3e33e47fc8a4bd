"""The training step as a good engineer writes it today: transformers and torch, without this project's engine.

* bf16 autocast where bf16 is faster, else fp32 (the rule of `--precision auto`).
* SDPA attention. SDPA returns no maps, so the layers whose maps a loss compares are eager, and only those.
* The batch is sorted by length, and each micro-batch is padded to its longest document.
* The vocabulary head reads the masked rows alone: the encoder and the head are called one after the other.
* Only the teacher's forward pass runs, without a graph.
* AdamW is fused.

The losses are this project's functions, on the outputs of transformers' modules.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from compact_biomed.objectives import IGNORED, evaluate
from compact_biomed.objectives.mlm import module_head
from compact_biomed.objectives.terms import Term

Batch = Mapping[str, Tensor]
MASKED_LM = (Term("mlm_cross_entropy", 1.0),)
# Micro-batches that are tried where the user names none.
DOCUMENTS = (8, 16, 24)


@dataclass(frozen=True)
class TunedSettings:
    """How the tuned step computes, as its record states it.

    Args:
        precision: "bfloat16" (autocast) or "float32".
        documents: per micro-batch.
        attention: of transformers: "sdpa"; layers whose maps a loss compares are eager.
    """

    precision: str
    documents: int
    attention: str = "sdpa"
    batches: str = "sorted by length, each micro-batch padded to its longest document"
    head: str = "masked rows only"
    optimizer: str = "AdamW, fused"

    def described(self) -> str:
        """Return the settings in one sentence."""
        autocast = "bf16 autocast" if self.precision == "bfloat16" else "fp32 (no bf16 unit in this processor)"
        return (
            f"{autocast}, {self.attention}, {self.documents} documents per micro-batch, {self.batches}, "
            f"vocabulary head on {self.head}, {self.optimizer}"
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class TunedStep:
    """An optimizer step of masked language modeling or distillation: forward, backward, clipping and AdamW.

    Args:
        student: a masked-LM of transformers, with SDPA attention.
        teacher: another; None without terms that read one.
        terms: concrete terms of the loss (`objectives.terms.expand`).
        projections: of the student's states, by name.
        dtype: bfloat16 = autocast, float32 = no autocast.
        documents: per micro-batch.
        multiple: micro-batches are as wide as a multiple of it, at most as the batch; a large one gives one shape.
        learning_rate: of AdamW.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        terms: Sequence[Term] = MASKED_LM,
        projections: nn.ModuleDict | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        documents: int = 16,
        multiple: int = 1,
        learning_rate: float = 1e-4,
    ):
        self.student, self.teacher, self.terms = student, teacher, tuple(terms)
        self.dtype, self.documents, self.multiple = dtype, documents, multiple
        self.projections = nn.ModuleDict() if projections is None else projections
        self.trained = nn.ModuleDict({"model": student, "projections": self.projections})
        self.compared = {
            id(model): sorted({getattr(term, side) for term in self.terms if term.feature == "attention"})
            for model, side in ((student, "layer_S"), (teacher, "layer_T"))
        }
        if teacher is not None:
            teacher.requires_grad_(False).eval()
        for model in filter(None, (student, teacher)):
            _return_maps(model, self.compared[id(model)])
        self.reads_states = any(term.feature == "hidden" for term in self.terms)
        self.reads_logits = any(term.feature == "logits" for term in self.terms)
        parameters = list(self.trained.parameters())
        self.optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01, fused=True)

    @property
    def settings(self) -> TunedSettings:
        """What the record states."""
        maps = any(self.compared.values())
        attention = "sdpa, eager in the layers whose maps are compared" if maps else "sdpa"
        return TunedSettings(str(self.dtype).removeprefix("torch."), self.documents, attention)

    def __call__(self, batch: Batch) -> float:
        """Take one optimizer step on a padded batch and return its mean loss."""
        self.trained.train()
        loss = self.loss(batch, backward=True)
        with torch.profiler.record_function("bench: optimizer"):
            nn.utils.clip_grad_norm_(self.trained.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return loss

    def parts(self, batch: Batch) -> list[Batch]:
        """Cut a padded batch into micro-batches, longest documents first."""
        lengths = batch["attention_mask"].sum(1)
        parts = []
        for rows in lengths.argsort(descending=True, stable=True).split(self.documents):
            width = -(-int(lengths[rows].max()) // self.multiple) * self.multiple
            parts.append({name: tensor[rows, :width] for name, tensor in batch.items()})
        return parts

    def counts(self, batch: Batch) -> list[float]:
        """Return the number that each term's sum over the whole step is divided by."""
        config = self.student.config
        width = (self.teacher or self.student).config.hidden_size
        options = {"rows": batch["labels"].ne(IGNORED).sum(), "heads": config.num_attention_heads, "width": width}
        counts = [evaluate.denominator(term, batch["attention_mask"], **options) for term in self.terms]
        return [max(float(count), 1.0) for count in counts]

    def loss(self, batch: Batch, *, backward: bool = False) -> float:
        """Return the mean loss on a padded batch; with `backward`, add up its gradients."""
        with torch.profiler.record_function("bench: data"):
            parts, counts = self.parts(batch), self.counts(batch)
        total = torch.zeros((), device=batch["labels"].device)
        for part in parts:
            with torch.set_grad_enabled(backward):
                loss = self._part_loss(part, counts)
            if backward:
                loss.backward()
            total += loss.detach()
        return float(total)

    def _part_loss(self, part: Batch, counts: Sequence[float]) -> Tensor:
        scored = part["labels"] != IGNORED
        with torch.autocast(scored.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            of_teacher = {}
            if self.teacher is not None:
                with torch.no_grad():
                    of_teacher = self._outputs(self.teacher, part, scored)
            of_student = self._outputs(self.student, part, scored)
            of_student["labels"] = part["labels"][scored]
            options = {"projections": self.projections, "reduction": "sum"}
            sums = evaluate.evaluate(self.terms, of_student, of_teacher, part["attention_mask"], **options)
        shares = [term.weight / n * sums[term.name] for term, n in zip(self.terms, counts, strict=True)]
        return torch.stack(shares).sum()

    def _outputs(self, model: nn.Module, part: Batch, scored: Tensor) -> dict[str, Any]:
        """Return what the terms read of a model, by feature (`objectives.evaluate.Outputs`)."""
        layers = self.compared[id(model)]
        output = model.base_model(
            input_ids=part["input_ids"],
            attention_mask=part["attention_mask"],
            output_hidden_states=self.reads_states,
            output_attentions=bool(layers),
        )
        outputs: dict[str, Any] = {"hidden": output.hidden_states}
        if layers:
            maps = [attention for attention in output.attentions if attention is not None]  # of the eager layers
            outputs["attention"] = dict(zip(layers, maps, strict=True))
        if self.reads_logits:
            outputs["logits"] = module_head(model)(output.last_hidden_state[scored])
        return outputs


# ---- Attention with maps, by transformers' own interface

_MAPS = "maps_before_dropout"


def _attention(module: nn.Module, query, key, value, attention_mask, scaling=None, dropout=0.0, **options):
    """Compute eager attention and return its maps before dropout, which the corrected losses compare."""
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    maps = F.softmax(scores if attention_mask is None else scores + attention_mask, dim=-1)
    context = F.dropout(maps, dropout, training=module.training).to(value.dtype) @ value
    return context.transpose(1, 2).contiguous(), maps


AttentionInterface.register(_MAPS, _attention)
AttentionMaskInterface.register(_MAPS, eager_mask)


def _return_maps(model: nn.Module, layers: Sequence[int]) -> None:
    """Let these layers of a model compute attention that returns maps; all others keep SDPA, which returns none."""
    if not layers:
        return
    blocks = next(module for module in model.base_model.modules() if isinstance(module, nn.ModuleList))
    sdpa = copy.copy(model.config)
    sdpa._attn_implementation = "sdpa"
    # The model's own configuration decides the form of the mask, and the additive one serves both.
    model.config._attn_implementation = _MAPS
    for number, block in enumerate(blocks):
        if number not in layers:
            for module in block.modules():
                if hasattr(module, "config"):
                    module.config = sdpa
