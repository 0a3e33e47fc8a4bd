"""Task models together with their losses, computed on prepared weights (compare `objectives.mlm`).

The heads are those of transformers' own task models, written as functions of named weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
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

# (weights, states [rows, hidden], training) -> logits [rows, labels]
HeadFunction = Callable[[Weights, Tensor, bool], Tensor]
# (logits [rows, labels], targets, positions [batch, length]) -> summed loss, number of summands
HeadLoss = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, int]]


@dataclass(frozen=True)
class Head:
    """A kind of task head.

    Args:
        family: the task models of transformers that have it.
        loss: see `HeadLoss`.
        problem_type: transformers' name for it in the configuration, or None.
    """

    family: Literal["token", "sequence", "span"]
    loss: HeadLoss
    problem_type: str | None = None

    def prediction_positions(self, attention_mask: Tensor) -> Tensor:
        """Return the positions whose logits make a prediction: bool [batch, length]."""
        if self.family != "sequence":
            return attention_mask.bool()
        first = torch.zeros_like(attention_mask, dtype=torch.bool)
        first[:, 0] = True
        return first

    def loss_positions(self, attention_mask: Tensor, targets: Tensor) -> Tensor:
        """Return the positions whose logits the loss reads: bool [batch, length]."""
        return targets != IGNORED if self.family == "token" else self.prediction_positions(attention_mask)


def _token_loss(logits: Tensor, targets: Tensor, positions: Tensor) -> tuple[Tensor, int]:
    """Return the cross-entropy over the labeled tokens; targets: [batch, length], `IGNORED` for no loss."""
    return cross_entropy(logits, targets[positions])[0], len(logits)


def _class_loss(logits: Tensor, targets: Tensor, positions: Tensor) -> tuple[Tensor, int]:
    """Return the cross-entropy; targets: [batch]."""
    return cross_entropy(logits, targets)[0], len(logits)


def _multilabel_loss(logits: Tensor, targets: Tensor, positions: Tensor) -> tuple[Tensor, int]:
    """Return the binary cross-entropy, averaged over the labels; targets: [batch, labels], 0 or 1."""
    sums = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="sum")
    return sums / logits.shape[1], len(logits)


def _regression_loss(logits: Tensor, targets: Tensor, positions: Tensor) -> tuple[Tensor, int]:
    """Return the squared error; logits: [batch, 1], targets: [batch]."""
    return F.mse_loss(logits.squeeze(1), targets.to(logits.dtype), reduction="sum"), len(logits)


def _span_loss(logits: Tensor, targets: Tensor, positions: Tensor) -> tuple[Tensor, int]:
    """Return the mean of the cross-entropies of start and end; targets: [batch, 2], positions.

    The softmax is over the tokens of the document. The softmax of transformers includes the
    padding, so that its loss depends on the width of the batch.
    """
    scores = logits.new_full((*positions.shape, 2), -torch.inf)
    scores[positions] = logits
    by_end = scores.transpose(1, 2).flatten(0, 1)  # [2 * batch, length]: start and end of each document
    return F.cross_entropy(by_end, targets.flatten(), reduction="sum") / 2, len(targets)


_LOSSES: dict[str, HeadLoss] = {
    "token": _token_loss,
    "sequence": _class_loss,
    "multilabel": _multilabel_loss,
    "regression": _regression_loss,
    "span": _span_loss,
}
HEADS = {name: Head(family, _LOSSES[name], problem) for name, (family, problem) in HEAD_FORMS.items()}


def _classifier(weights: Weights, name: str, x: Tensor) -> Tensor:
    """Apply a linear layer in float32 or wider: in bf16 the logits of two labels are often equal."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return F.linear(x.to(dtype), weights[f"{name}.weight"].to(dtype), weights[f"{name}.bias"].to(dtype))


def _bert(config, prefix: str, family: str) -> HeadFunction:
    """Return a head of BERT or MobileBERT; the latter may omit the pooler's dense layer (`classifier_activation`)."""
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


def _distilbert(config, prefix: str, family: str) -> HeadFunction:
    def token(weights: Weights, x: Tensor, training: bool) -> Tensor:
        return _classifier(weights, "classifier", dropout(x, config.dropout, training))

    def sequence(weights: Weights, x: Tensor, training: bool) -> Tensor:
        x = F.relu(linear(weights, "pre_classifier", x))
        return _classifier(weights, "classifier", dropout(x, config.seq_classif_dropout, training))

    def span(weights: Weights, x: Tensor, training: bool) -> Tensor:
        return _classifier(weights, "qa_outputs", dropout(x, config.qa_dropout, training))

    return {"token": token, "sequence": sequence, "span": span}[family]


def head_function(config, prefix: str, head: Head) -> HeadFunction:
    """Return the head of an architecture that `engine.encoders` supports; its logits are float32 or wider.

    Args:
        config: of a BERT, DistilBERT or MobileBERT.
        prefix: of the encoder's names in the weights, such as "bert.".
    """
    return (_distilbert if config.model_type == "distilbert" else _bert)(config, prefix, head.family)


class TaskOutput(NamedTuple):
    """The loss of a batch before the division by its number of summands."""

    loss_sum: Tensor  # scalar, float32 or wider
    rows: int  # labeled tokens, or documents


class TaskBatch(NamedTuple):
    """The inputs and targets of a task model."""

    input_ids: Tensor  # [batch, length]
    attention_mask: Tensor | None  # [batch, length]; None where nothing is padding
    token_type_ids: Tensor | None  # [batch, length]; None where all are of type 0
    targets: Tensor  # [batch, length], [batch], [batch, labels] or [batch, 2]: see the losses above


class TaskObjective(nn.Module):
    """A task model with its loss, in the form that `engine.microbatch.Replicas` computes.

    Args:
        model: transformers' model for token classification, sequence classification or
            question answering.
        head: a name in `HEADS`.
        dtype: of the computation; the weights stay float32.
        fast: use `engine.encoders` where it supports the architecture.
    """

    def __init__(self, model: nn.Module, head: str, *, dtype: torch.dtype = torch.float32, fast: bool = True):
        super().__init__()
        self.model, self.head, self.dtype = model, HEADS[head], dtype
        self.fast = fast and encoders.is_supported(model.config)
        if self.fast:
            prefix = f"{model.base_model_prefix}."
            self._encoder = encoders.FastEncoder(model.config, prefix)
            self._head_function = head_function(model.config, prefix, self.head)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        targets: Tensor,
        *,
        prepared: Mapping[str, Tensor] | None = None,
    ) -> TaskOutput:
        """Return the summed loss of a `TaskBatch`."""
        full_mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        positions = self.head.loss_positions(full_mask, targets)
        logits = self.logits(input_ids, attention_mask, token_type_ids, positions, prepared=prepared)
        return TaskOutput(*self.head.loss(logits, targets, positions))

    def logits(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        positions: Tensor,
        *,
        prepared: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the logits [rows, labels] of the given positions, in the order of `positions.nonzero()`.

        They are float32 or wider. A sequence head reads the first position, so for it `positions` must
        be the first of each document.
        """
        inputs = (input_ids, attention_mask, token_type_ids)
        return self.with_taps(*inputs, positions, NO_TAPS, prepared=prepared)[0]

    def with_taps(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        positions: Tensor,
        taps: Taps,
        *,
        prepared: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tapped]:
        """Return the logits of the given positions and the tapped tensors; hidden states are [real tokens, width]."""
        if self.fast:
            weights = self.cast(self.prepare()) if prepared is None else prepared
            rounded, requested = _rounded(positions, attention_mask)
            options = {"training": self.training, "token_type_ids": token_type_ids}
            states, tapped = self._encoder.with_taps(weights, input_ids, attention_mask, rounded, taps, **options)
            head = partial(self._head_function, weights, training=self.training)
            return _by_few_shapes(head, states[requested]), tapped
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        with torch.autocast(input_ids.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            output, tapped = call_with_taps(self.model, inputs, taps)
        if self.head.family == "span":
            logits = torch.stack([output.start_logits, output.end_logits], -1)[positions]
        else:
            logits = output.logits[positions] if self.head.family == "token" else output.logits
        return logits.to(torch.promote_types(logits.dtype, torch.float32)), packed_states(tapped, attention_mask)

    def prepare(self) -> dict[str, Tensor]:
        """Return the weights in the form of the fast encoder, differentiable, in their own dtype."""
        return self._encoder.prepare(dict(self.model.named_parameters(remove_duplicate=False)))

    def sources(self) -> dict[str, tuple[nn.Parameter, ...]] | None:
        """Return the parameters that make each prepared weight, or None: see `FastEncoder.sources`."""
        if not self.fast:
            return None
        named = dict(self.model.named_parameters(remove_duplicate=False))
        names = self._encoder.sources(named)
        return names and {prepared: tuple(named[name] for name in parts) for prepared, parts in names.items()}

    @property
    def query_scale(self) -> float:
        """Return the factor of the query's weights in the prepared ones."""
        return self._encoder.query_scale

    def cast(self, prepared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return prepared weights in the dtype of the computation."""
        return {name: tensor.to(self.dtype) for name, tensor in prepared.items()}


def _by_few_shapes(head: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
    """Return head(states), computed with a few rows of padding: a matrix product of a new shape is slow at first."""
    return head(F.pad(states, (0, 0, 0, filled(len(states), coarse=True) - len(states))))[: len(states)]


def _rounded(positions: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the positions with further tokens up to a multiple of 32, and which rows of the result were requested.

    The first matrix product of a new shape makes its kernel, which costs more than a few superfluous rows.
    """
    free = ~positions if attention_mask is None else attention_mask.bool() & ~positions
    count = int(positions.sum())
    missing = filled(count) - count
    rounded = positions | (free & (free.flatten().cumsum(0).view_as(free) <= missing))
    return rounded, positions[rounded]
