"""Masked language modeling on masked rows only.

The published scripts apply the vocabulary head to every position and throw 85 % of the
logits away. The loss needs the labeled rows alone; they are taken before the head, and
before the last layer's feed-forward where the fast encoder is used.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from compact_biomed.engine import encoders
from compact_biomed.engine.encoders import head_for
from compact_biomed.engine.kernels import cross_entropy
from compact_biomed.engine.plan import runs_in_bf16
from compact_biomed.engine.taps import NO_TAPS, Tapped, Taps, module_with_taps
from compact_biomed.errors import UserError
from compact_biomed.objectives import IGNORED


class MaskedLMOutput(NamedTuple):
    loss_sum: Tensor  # scalar, float32: summed cross-entropy in nats
    correct: Tensor  # scalar, int64: labels that have the highest logit
    rows: int  # number of labels


class MaskedLM(nn.Module):
    """A masked-LM together with its loss, in a form that data parallelism can wrap.

    Args:
        model: `BertForMaskedLM`, `DistilBertForMaskedLM`, `MobileBertForMaskedLM`, or another masked-LM of
            transformers whose base model and head can be called apart (`check_trainable`).
        dtype: type of the computation; weights and their gradients stay as they are
            (float32), casts are differentiated. The softmax is always in float32.
        fast: use `engine.encoders` where it knows the architecture.

    Raises:
        UserError: an architecture that is not supported.
    """

    keep_padding = False  # micro-batches may leave it out
    reads_logits = True

    def __init__(self, model: nn.Module, *, dtype: torch.dtype = torch.float32, fast: bool = True):
        super().__init__()
        check_trainable(model.config)
        self.model = model
        self.dtype = dtype if runs_in_bf16(model.config) else torch.float32
        self.fast = fast and encoders.is_supported(model.config)
        if self.fast:
            self._encoder = encoders.FastEncoder(model.config, f"{model.base_model_prefix}.")
            self._head = head_for(model.config)

    @property
    def result(self) -> nn.Module:
        """What was trained, to be saved."""
        return self.model

    @property
    def masked_lm(self) -> "MaskedLM":
        """The part that is measured on held-out text."""
        return self

    def counts(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return what the summed loss is divided by, float64 [1]: the number of labels."""
        return batch["labels"].ne(IGNORED).sum()[None].double()

    def with_divisor(self, parts: Sequence[tuple], counts: Tensor) -> tuple[Sequence[tuple], float]:
        """Return the micro-batches of a step, and the factor that turns their sums into the step's mean."""
        return parts, 1 / max(float(counts[0]), 1.0)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        labels: Tensor,
        *,
        prepared: Mapping[str, Tensor] | None = None,
    ) -> MaskedLMOutput:
        """Compute the summed loss on a micro-batch, and the number of correct predictions.

        Args:
            input_ids: [batch, length].
            attention_mask: [batch, length] with 0 on padding, or None if there is none.
            labels: [batch, length], -100 where no loss is taken.
            prepared: weights from `prepare`, cast to `dtype`; made here if not given.
        """
        scored = labels != IGNORED
        targets = labels[scored]
        loss, correct = cross_entropy(self.logits(input_ids, attention_mask, scored, prepared=prepared), targets)
        return MaskedLMOutput(loss, correct, len(targets))

    def prepare(self) -> dict[str, Tensor]:
        """Return the weights as the fast encoder wants them, differentiable, in their own type.

        Tied weights appear under each of their names as one and the same tensor.
        """
        return self._encoder.prepare(dict(self.model.named_parameters(remove_duplicate=False)))

    def cast(self, prepared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return prepared weights in the type of the computation, each tensor cast once."""
        casts: dict[int, Tensor] = {}
        for tensor in prepared.values():
            if id(tensor) not in casts:
                casts[id(tensor)] = tensor.to(self.dtype)
        return {name: casts[id(tensor)] for name, tensor in prepared.items()}

    def logits(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        scored: Tensor,
        *,
        prepared: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return logits [rows, vocabulary] of the scored positions, in the order of `scored.nonzero()`."""
        weights = self.cast(self.prepare()) if self.fast and prepared is None else prepared
        states, _ = self.with_taps(input_ids, attention_mask, scored, NO_TAPS, prepared=weights, training=self.training)
        return self.head(states, prepared=weights)

    def with_taps(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        scored: Tensor | None,
        taps: Taps,
        *,
        prepared: Mapping[str, Tensor] | None,
        training: bool,
        keep_padding: bool = False,
    ) -> tuple[Tensor | None, Tapped]:
        """Return final states [rows, hidden] of the scored positions, and what `taps` asks for.

        Args:
            scored: None = no final state is needed; None is returned in their place.
            prepared: cast weights; None where the modules of transformers are used.
            training: whether dropout is on.
            keep_padding: see `FastEncoder.with_taps`.
        """
        if self.fast:
            return self._encoder.with_taps(
                prepared, input_ids, attention_mask, scored, taps, training=training, keep_padding=keep_padding
            )
        base = getattr(self.model, self.model.base_model_prefix).train(training)
        with self._autocast(input_ids):
            return module_with_taps(base, input_ids, attention_mask, scored, taps)

    def head(self, states: Tensor, *, prepared: Mapping[str, Tensor] | None) -> Tensor:
        """Return logits [rows, vocabulary] of final states [rows, hidden]."""
        if self.fast:
            return self._head(prepared, states)
        with self._autocast(states):
            return module_head(self.model)(states)

    def _autocast(self, x: Tensor):
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)


def _deberta_head(model: nn.Module) -> Callable[[Tensor], Tensor]:
    if hasattr(model, "cls"):  # config.legacy, the default
        return model.cls
    return lambda x: model.lm_predictions(x, model.deberta.embeddings.word_embeddings)


# Type of a masked-LM of transformers -> its vocabulary head, as a callable on states [rows, hidden].
_MODULE_HEADS: dict[str, Callable[[nn.Module], Callable[[Tensor], Tensor]]] = {
    "albert": lambda model: model.predictions,
    "bert": lambda model: model.cls,
    "camembert": lambda model: model.lm_head,
    "convbert": lambda model: lambda x: model.generator_lm_head(model.generator_predictions(x)),
    "deberta": _deberta_head,
    "deberta-v2": _deberta_head,
    # DistilBERT keeps the parts of its head apart.
    "distilbert": lambda model: (
        lambda x: model.vocab_projector(model.vocab_layer_norm(model.activation(model.vocab_transform(x))))
    ),
    "electra": lambda model: lambda x: model.generator_lm_head(model.generator_predictions(x)),
    "ernie": lambda model: model.cls,
    "megatron-bert": lambda model: model.cls,
    "mobilebert": lambda model: model.cls,
    "modernbert": lambda model: lambda x: model.decoder(model.head(x)),
    "mpnet": lambda model: model.lm_head,
    "roberta": lambda model: model.lm_head,
    "roformer": lambda model: model.cls,
    "xlm-roberta": lambda model: model.lm_head,
}


def module_head(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the vocabulary head of a masked-LM of transformers, on states [rows, hidden], made of its own modules."""
    return _MODULE_HEADS[model.config.model_type](model)


def check_trainable(config, *, where: object = None) -> None:
    """Raise a `UserError` unless a masked-LM of this type can be trained, or teach."""
    if config.model_type not in _MODULE_HEADS:
        raise UserError(
            f"an encoder of type {config.model_type} cannot be pretrained or distilled",
            where=where,
            remedy=f"use one of type {', '.join(sorted(_MODULE_HEADS))}",
        )


# ---- The masking rule: a pure function of (seed, pass over the corpus, document, position).


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
    """Apply the finalizer of SplitMix64 (Steele, Lea and Flood 2014): 64 bits in, 64 well-mixed bits out."""
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def hashed_uniform(keys: np.ndarray, positions: np.ndarray, *salt: int) -> np.ndarray:
    """Return uniform numbers in [0, 1), one for each (key, position), determined by the salt.

    Args:
        keys: uint64, broadcastable with positions.
        positions: non-negative integers.
        salt: non-negative integers (seed, pass, purpose).
    """
    with np.errstate(over="ignore"):
        x = np.asarray(keys, np.uint64)
        for number in salt:
            x = _mix(x + np.uint64(number) * _GOLDEN + _GOLDEN)
        x = _mix(x + (np.asarray(positions, np.uint64) + np.uint64(1)) * _GOLDEN)
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class Masking:
    """The masking rule for one vocabulary.

    Args:
        mask_id: id of [MASK].
        special_ids: never masked ([CLS], [SEP], [PAD], [UNK], [MASK]; transformers' rule).
        vocab_size: random replacements are uniform over all ids, as published.
        probability: share of tokens that get a label.
        seed: of the run.
    """

    mask_id: int
    special_ids: tuple[int, ...]
    vocab_size: int
    probability: float = 0.15
    seed: int = 42

    def __call__(self, input_ids: np.ndarray, keys: np.ndarray, passes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mask a padded batch.

        Args:
            input_ids: int64 [batch, length]; padding is a special id.
            keys: uint64 [batch], the documents' keys.
            passes: [batch], how often each document has been seen before.

        Returns:
            (masked ids, labels), int64 [batch, length]; labels are -100 where no loss is taken.
        """
        positions = np.arange(input_ids.shape[1])[None, :]
        # The pass enters through the key so that it can differ within a batch.
        keys = (np.asarray(keys, np.uint64) + _mix(np.asarray(passes, np.uint64) + _GOLDEN))[:, None]
        chosen = hashed_uniform(keys, positions, self.seed, 0) < self.probability
        chosen &= ~np.isin(input_ids, self.special_ids)
        labels = np.where(chosen, input_ids, IGNORED)
        kind = hashed_uniform(keys, positions, self.seed, 1)
        other = (hashed_uniform(keys, positions, self.seed, 2) * self.vocab_size).astype(np.int64)
        masked = np.where(chosen & (kind < 0.8), self.mask_id, input_ids)
        masked = np.where(chosen & (kind >= 0.9), other, masked)
        return masked, labels
