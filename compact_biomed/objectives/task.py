"""A task model together with its loss, computed on prepared weights (compare `objectives.mlm`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compact_biomed.engine import encoders
from compact_biomed.engine.dropout import dropout
from compact_biomed.engine.encoders import Weights, linear
from compact_biomed.engine.kernels import cross_entropy
from compact_biomed.engine.layout import filled
from compact_biomed.engine.taps import NO_TAPS, Tapped, Taps, call_with_taps, packed_states
from compact_biomed.models.checkpoints import HEAD_FORMS
from compact_biomed.objectives import IGNORED

# ----------------------------------------------------------------------------------------------------
# Task heads: what stands behind the encoder, and the loss of each kind of answer.
#
# The heads are those of transformers' own task models, written as functions of named
# weights, as `models.ends` does for the vocabulary head.


Apply = Callable[[Weights, Tensor, bool], Tensor]
Loss = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, int]]


@dataclass(frozen=True)
class Head:
    """A kind of answer.

    Args:
        family: which task model of transformers carries it.
        loss: (logits [rows, labels], targets, wanted [batch, length]) -> summed loss and its count.
        problem_type: transformers' name for it in the configuration, or None.
    """

    family: Literal["token", "sequence", "span"]
    loss: Loss
    problem_type: str | None = None

    def wanted(self, attention_mask: Tensor) -> Tensor:
        """[batch, length] bool: the positions whose logits make a prediction."""
        if self.family != "sequence":
            return attention_mask.bool()
        first = torch.zeros_like(attention_mask, dtype=torch.bool)
        first[:, 0] = True
        return first

    def trained(self, attention_mask: Tensor, targets: Tensor) -> Tensor:
        """[batch, length] bool: the positions whose logits the loss reads."""
        return targets != IGNORED if self.family == "token" else self.wanted(attention_mask)


def _token_loss(logits: Tensor, targets: Tensor, wanted: Tensor) -> tuple[Tensor, int]:
    """Cross-entropy over the labelled tokens; targets: [batch, length], -100 where no loss is taken."""
    return cross_entropy(logits, targets[wanted])[0], len(logits)


def _class_loss(logits: Tensor, targets: Tensor, wanted: Tensor) -> tuple[Tensor, int]:
    """Cross-entropy; targets: [batch]."""
    return cross_entropy(logits, targets)[0], len(logits)


def _multilabel_loss(logits: Tensor, targets: Tensor, wanted: Tensor) -> tuple[Tensor, int]:
    """Binary cross-entropy, the mean over the labels; targets: [batch, labels], 0 or 1."""
    sums = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="sum")
    return sums / logits.shape[1], len(logits)


def _regression_loss(logits: Tensor, targets: Tensor, wanted: Tensor) -> tuple[Tensor, int]:
    """Squared error; logits: [batch, 1], targets: [batch]."""
    return F.mse_loss(logits.squeeze(1), targets.to(logits.dtype), reduction="sum"), len(logits)


def _span_loss(logits: Tensor, targets: Tensor, wanted: Tensor) -> tuple[Tensor, int]:
    """The mean of the cross-entropies of start and end; targets: [batch, 2], positions.

    The softmax is over the tokens of the document. That of transformers takes in the padding
    too, so that its loss depends on the width of the batch.
    """
    scores = logits.new_full((*wanted.shape, 2), -torch.inf)
    scores[wanted] = logits
    by_end = scores.transpose(1, 2).flatten(0, 1)  # [2 * batch, length]: start and end of each document
    return F.cross_entropy(by_end, targets.flatten(), reduction="sum") / 2, len(targets)


_LOSSES: dict[str, Loss] = {
    "token": _token_loss,
    "sequence": _class_loss,
    "multilabel": _multilabel_loss,
    "regression": _regression_loss,
    "span": _span_loss,
}
HEADS = {name: Head(family, _LOSSES[name], problem) for name, (family, problem) in HEAD_FORMS.items()}


def _classifier(weights: Weights, name: str, x: Tensor) -> Tensor:
    """A linear layer in float32 or wider: in bf16 the logits of two labels are often equal."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return F.linear(x.to(dtype), weights[f"{name}.weight"].to(dtype), weights[f"{name}.bias"].to(dtype))


def _bert(config, prefix: str, family: str) -> Apply:
    """BERT and MobileBERT; the latter may leave out the pooler's dense layer (`classifier_activation`)."""
    p = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
    pools = getattr(config, "classifier_activation", True)

    def token(weights: Weights, x: Tensor, training: bool) -> Tensor:
        return _classifier(weights, "classifier", dropout(x, p, training))

    def sequence(weights: Weights, x: Tensor, training: bool) -> Tensor:
        pooled = torch.tanh(linear(weights, f"{prefix}pooler.dense", x)) if pools else x
        return _classifier(weights, "classifier", dropout(pooled, p, training))

    def span(weights: Weights, x: Tensor, training: bool) -> Tensor:
        return _classifier(weights, "qa_outputs", x)

    return {"token": token, "sequence": sequence, "span": span}[family]


def _distilbert(config, prefix: str, family: str) -> Apply:
    def token(weights: Weights, x: Tensor, training: bool) -> Tensor:
        return _classifier(weights, "classifier", dropout(x, config.dropout, training))

    def sequence(weights: Weights, x: Tensor, training: bool) -> Tensor:
        x = F.relu(linear(weights, "pre_classifier", x))
        return _classifier(weights, "classifier", dropout(x, config.seq_classif_dropout, training))

    def span(weights: Weights, x: Tensor, training: bool) -> Tensor:
        return _classifier(weights, "qa_outputs", dropout(x, config.qa_dropout, training))

    return {"token": token, "sequence": sequence, "span": span}[family]


def apply_for(config, prefix: str, head: Head) -> Apply:
    """A head of an architecture that `models.encoders` knows.

    Args:
        config: of a BERT, DistilBERT or MobileBERT.
        prefix: what stands before the encoder's names in the weights ("bert.", say).

    Returns:
        A function (weights, states [rows, hidden], training) -> logits [rows, labels], float32 or wider.
    """
    return (_distilbert if config.model_type == "distilbert" else _bert)(config, prefix, head.family)


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
