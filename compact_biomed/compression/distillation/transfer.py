"""Layer transfer: compare the student's hidden states, attention maps or relations with the teacher's in each step.

Soft labels are computed once; states and maps of every token would not fit into memory. So the teacher runs within the
step, on what the student reads, without gradient or dropout, and only up to the deepest layer that a term compares.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from compact_biomed.engine.encoders import FastEncoder, is_supported
from compact_biomed.engine.taps import Tapped, call_with_taps, packed_states
from compact_biomed.models.students import depth_changed
from compact_biomed.objectives import evaluate
from compact_biomed.objectives.terms import Term


class TeacherInputs(NamedTuple):
    """What the layer terms of a step read besides the student's micro-batch."""

    input_ids: Tensor  # [batch, length]; the student's may be renumbered (`engine.flat_weights.ActiveVocabulary`)
    token_type_ids: Tensor | None  # [batch, length]; None where all are of type 0
    factors: Tensor  # [layer terms], float64: turn a sum over the micro-batch into a sum over rows


class LayerTeacher:
    """The frozen encoder of a teacher, its weights cast once.

    It is no module, so that it is not trained, saved, or put in train mode with the student.

    Args:
        model: of transformers, in eval mode.
        terms: the layer terms.
        dtype: type of the computation.
        fast: use `engine.encoders` where it knows the architecture.
    """

    def __init__(self, model: nn.Module, terms: Sequence[Term], *, dtype: torch.dtype, fast: bool):
        self.config, self.dtype, self._base = model.config, dtype, model.base_model
        self._taps = evaluate.taps_of(terms, "layer_T")
        self._weights: dict[str, Tensor] | None = None
        if fast and is_supported(model.config):
            self._encoder = FastEncoder(depth_changed(model.config, self._taps.depth), "")
            needed = ("embeddings.", *self._encoder.prefixes)
            prepared = self._encoder.prepare(dict(self._base.named_parameters())).items()
            self._weights = {name: x.detach().to(dtype) for name, x in prepared if name.startswith(needed)}

    def to(self, device: torch.device) -> None:
        """Move the weights to a device."""
        if self._weights is None:
            self._base.to(device)
        else:
            self._weights = {name: tensor.to(device) for name, tensor in self._weights.items()}

    @torch.no_grad()
    def __call__(self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> Tapped:
        """Return what the terms compare; hidden states are [real tokens, width].

        Args:
            input_ids, token_type_ids: of `TeacherInputs`.
            attention_mask: [batch, length], 0 on padding, or None if there is none.
        """
        if self._weights is not None:
            inputs = (input_ids, attention_mask, None)
            return self._encoder.with_taps(
                self._weights, *inputs, self._taps, training=False, token_type_ids=token_type_ids
            )[1]
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        inputs = {name: tensor for name, tensor in inputs.items() if tensor is not None}
        with torch.autocast(input_ids.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            tapped = call_with_taps(self._base, inputs, self._taps)[1]
        return packed_states(tapped, attention_mask)


class LayerTransfer(nn.Module):
    """The layer terms of a loss, with their projections, which are trained and not saved.

    Args:
        terms: the layer terms.
        teacher: computes what they compare with.
        heads: attention heads of the student.
    """

    def __init__(self, terms: Sequence[Term], teacher: LayerTeacher, heads: int):
        super().__init__()
        self.terms, self.teacher, self.heads = tuple(terms), teacher, heads
        self.projections = evaluate.build_projections(terms)
        self.taps = evaluate.taps_of(terms, "layer_S")

    def prepared(self) -> dict[str, Tensor]:
        """Return the weights of the projections under the names that `loss_sum` reads."""
        return {f"projections.{name}": parameter for name, parameter in self.projections.named_parameters()}

    def factors(self, lengths: Sequence[int], rows: int) -> Tensor:
        """Return `TeacherInputs.factors` of a whole step.

        Each layer term is a mean over the tokens of a step, and the summed loss is divided by rows.

        Args:
            lengths: tokens of each document.
            rows: the divisor of the summed loss.
        """
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        shape = {"rows": rows, "heads": self.heads, "width": self.teacher.config.hidden_size}
        counts = [int(evaluate.denominator(term, mask, **shape)) for term in self.terms]
        return torch.tensor([rows / max(count, 1) for count in counts], dtype=torch.float64)

    def loss_sum(
        self, student: Tapped, inputs: TeacherInputs, mask: Tensor | None, weights: Mapping[str, Tensor] | None
    ) -> Tensor:
        """Return the weighted sum of the layer terms over a micro-batch, times their factors.

        Args:
            student: its states and maps, as `TaskObjective.with_taps` returns them.
            mask: [batch, length], 0 on padding, or None if there is none.
            weights: prepared ones; None where the modules of transformers are used.
        """
        teacher = self.teacher(inputs.input_ids, mask, inputs.token_type_ids)
        real = torch.ones_like(inputs.input_ids) if mask is None else mask
        projections = self.projections
        if weights is not None:
            projections = evaluate.prepared_projections(self.projections, weights)
        sums = evaluate.evaluate(self.terms, student, teacher, real, projections=projections, reduction="sum")
        factors = inputs.factors.tolist()
        weighted = [term.weight * n * sums[term.name] for term, n in zip(self.terms, factors, strict=True)]
        return torch.stack(weighted).sum()
