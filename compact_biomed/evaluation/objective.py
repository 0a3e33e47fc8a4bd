"""A task model together with its loss, computed on prepared weights (compare `objectives.mlm`)."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compact_biomed.evaluation.heads import HEADS, apply_for
from compact_biomed.models import encoders
from compact_biomed.models.layout import filled
from compact_biomed.models.module_taps import call_with_taps, packed_states
from compact_biomed.models.taps import NO_TAPS, Tapped, Taps


class TaskOutput(NamedTuple):
    loss_sum: Tensor  # scalar, float32 or wider
    rows: int  # labelled tokens, or documents


class TaskBatch(NamedTuple):
    input_ids: Tensor  # [batch, length]
    attention_mask: Tensor | None  # [batch, length]; None where nothing is padding
    token_type_ids: Tensor | None  # [batch, length]; None where all are of type 0
    targets: Tensor  # [batch, length], [batch], [batch, labels] or [batch, 2]: see `heads`


class TaskObjective(nn.Module):
    """A model for a task, in the form that `training.microbatch.Replicas` computes.

    Args:
        model: transformers' model for token classification, sequence classification or
            question answering.
        head: a name in `HEADS`.
        dtype: type of the computation; the weights stay float32.
        fast: use `models.encoders` where it knows the architecture.
    """

    def __init__(self, model: nn.Module, head: str, *, dtype: torch.dtype = torch.float32, fast: bool = True):
        super().__init__()
        self.model, self.head, self.dtype = model, HEADS[head], dtype
        self.fast = fast and encoders.is_supported(model.config)
        if self.fast:
            prefix = f"{model.base_model_prefix}."
            self._encoder = encoders.FastEncoder(model.config, prefix)
            self._apply = apply_for(model.config, prefix, self.head)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        targets: Tensor,
        *,
        prepared: Mapping[str, Tensor] | None = None,
    ) -> TaskOutput:
        """The summed loss of a `TaskBatch`."""
        seen = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        wanted = self.head.trained(seen, targets)
        logits = self.logits(input_ids, attention_mask, token_type_ids, wanted, prepared=prepared)
        return TaskOutput(*self.head.loss(logits, targets, wanted))

    def logits(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        wanted: Tensor,
        *,
        prepared: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Logits [rows, labels] of the wanted positions, in the order of `wanted.nonzero()`; float32 or wider.

        A sequence's head reads the first position, so there `wanted` must be that.
        """
        inputs = (input_ids, attention_mask, token_type_ids)
        return self.with_taps(*inputs, wanted, NO_TAPS, prepared=prepared)[0]

    def with_taps(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        wanted: Tensor,
        taps: Taps,
        *,
        prepared: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tapped]:
        """The logits, and what `taps` asks for; hidden states are [real tokens, width]."""
        if self.fast:
            weights = self.cast(self.prepare()) if prepared is None else prepared
            more, kept = _rounded(wanted, attention_mask)
            how = {"training": self.training, "token_type_ids": token_type_ids}
            states, tapped = self._encoder.with_taps(weights, input_ids, attention_mask, more, taps, **how)
            return _by_few_shapes(lambda rows: self._apply(weights, rows, self.training), states[kept]), tapped
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        with torch.autocast(input_ids.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            output, tapped = call_with_taps(self.model, inputs, taps)
        if self.head.family == "span":
            logits = torch.stack([output.start_logits, output.end_logits], -1)[wanted]
        else:
            logits = output.logits[wanted] if self.head.family == "token" else output.logits
        return logits.to(torch.promote_types(logits.dtype, torch.float32)), packed_states(tapped, attention_mask)

    def prepare(self) -> dict[str, Tensor]:
        """The weights as the fast encoder wants them, differentiable, in their own type."""
        return self._encoder.prepare(dict(self.model.named_parameters(remove_duplicate=False)))

    def sources(self) -> dict[str, tuple[nn.Parameter, ...]] | None:
        """For each prepared weight its parameters, or None: see `FastEncoder.sources`."""
        if not self.fast:
            return None
        named = dict(self.model.named_parameters(remove_duplicate=False))
        names = self._encoder.sources(named)
        return names and {prepared: tuple(named[name] for name in parts) for prepared, parts in names.items()}

    @property
    def query_scale(self) -> float:
        """By which the query's weights are multiplied in the prepared ones."""
        return self._encoder.query_scale

    def cast(self, prepared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Prepared weights in the type of the computation."""
        return {name: tensor.to(self.dtype) for name, tensor in prepared.items()}


def _by_few_shapes(head: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
    """head(states), computed with some rows more."""
    return head(F.pad(states, (0, 0, 0, filled(len(states), coarse=True) - len(states))))[: len(states)]


def _rounded(wanted: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """`wanted` with further tokens up to a multiple of 32, and which of its rows were wanted before.

    A matrix product of a new shape costs more than a few rows too many: its kernel is made first.
    """
    free = ~wanted if attention_mask is None else attention_mask.bool() & ~wanted
    count = int(wanted.sum())
    missing = filled(count) - count
    more = wanted | (free & (free.flatten().cumsum(0).view_as(free) <= missing))
    return more, wanted[more]
