"""Task heads: what stands behind the encoder, and the loss of each kind of answer.

The heads are those of transformers' own task models, written as functions of named
weights, as `models.ends` does for the vocabulary head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from compact_biomed.models.dropout import dropout
from compact_biomed.models.ends import Weights, linear
from compact_biomed.models.kernels import cross_entropy
from compact_biomed.objectives import IGNORED

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


HEADS: dict[str, Head] = {
    "token": Head("token", _token_loss),
    "sequence": Head("sequence", _class_loss, "single_label_classification"),
    "multilabel": Head("sequence", _multilabel_loss, "multi_label_classification"),
    "regression": Head("sequence", _regression_loss, "regression"),
    "span": Head("span", _span_loss),
}


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
