"""Layer transfer: the student's hidden states or attention maps beside the teacher's, computed in each step.

Soft labels are made once; states and maps of every token would not fit into memory. So the teacher runs in the step,
on what the student reads, without gradient or dropout, and only as deep as a term looks.
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
    """What a step's layer terms read besides the student's micro-batch."""

    input_ids: Tensor  # [batch, length]; the student's may be numbered anew (`evaluation.vocabulary`)
    token_type_ids: Tensor | None  # [batch, length]; None where all are of type 0
    factors: Tensor  # [layer terms], float64: what makes of a sum over the micro-batch a sum over rows


class LayerTeacher:
    """A teacher's encoder, frozen; its weights are cast once.

    No module: so that it is not trained, saved, or put in train mode with the student.

    Args:
        model: of transformers, in eval mode.
        wanted: the layer terms.
        dtype: type of the computation.
        fast: use `models.encoders` where it knows the architecture.
    """

    def __init__(self, model: nn.Module, wanted: Sequence[Term], *, dtype: torch.dtype, fast: bool):
        self.config, self.dtype, self._base = model.config, dtype, model.base_model
        self._taps = evaluate.taps_of(wanted, "layer_T")
        self._weights: dict[str, Tensor] | None = None
        if fast and is_supported(model.config):
            deep = max([*self._taps.hidden, *(layer + 1 for layer in self._taps.scores)])
            self._encoder = FastEncoder(depth_changed(model.config, deep), "")
            needed = ("embeddings.", *self._encoder.prefixes)
            prepared = self._encoder.prepare(dict(self._base.named_parameters())).items()
            self._weights = {name: x.detach().to(dtype) for name, x in prepared if name.startswith(needed)}

    def to(self, device: torch.device) -> None:
        """Move what is computed with."""
        if self._weights is None:
            self._base.to(device)
        else:
            self._weights = {name: tensor.to(device) for name, tensor in self._weights.items()}

    @torch.no_grad()
    def __call__(self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> Tapped:
        """What the terms compare; hidden states are [real tokens, width].

        Args:
            input_ids, token_type_ids: of `TeacherInputs`.
            attention_mask: [batch, length], 0 on padding, or None if there is none.
        """
        if self._weights is not None:
            nothing = torch.zeros_like(input_ids, dtype=torch.bool)
            inputs = (input_ids, attention_mask, nothing)
            return self._encoder.with_taps(
                self._weights, *inputs, self._taps, training=False, token_type_ids=token_type_ids
            )[1]
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        inputs = {name: tensor for name, tensor in given.items() if tensor is not None}
        with torch.autocast(input_ids.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            tapped = call_with_taps(self._base, inputs, self._taps)[1]
        return packed_states(tapped, attention_mask)


class LayerTransfer(nn.Module):
    """The layer terms of a loss, with their projections, which are trained and not kept.

    Args:
        wanted: the layer terms.
        teacher: what they compare with.
        heads: attention heads of the student.
    """

    def __init__(self, wanted: Sequence[Term], teacher: LayerTeacher, heads: int):
        super().__init__()
        self.terms, self.teacher, self.heads = tuple(wanted), teacher, heads
        self.projections = evaluate.build_projections(wanted)
        self.taps = evaluate.taps_of(wanted, "layer_S")

    def prepared(self) -> dict[str, Tensor]:
        """The projections' weights under the names that `loss_sum` reads."""
        return {f"projections.{name}": parameter for name, parameter in self.projections.named_parameters()}

    def factors(self, lengths: Sequence[int], rows: int) -> Tensor:
        """`TeacherInputs.factors` of a whole step.

        Each layer term is a mean over the tokens of a step, and the summed loss is divided by rows.

        Args:
            lengths: tokens of each document.
            rows: that divide the summed loss.
        """
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        shape = {"rows": rows, "heads": self.heads, "width": self.teacher.config.hidden_size}
        counts = [int(evaluate.denominator(term, mask, **shape)) for term in self.terms]
        return torch.tensor([rows / max(count, 1) for count in counts], dtype=torch.float64)

    def loss_sum(
        self, ours: Tapped, theirs: TeacherInputs, mask: Tensor | None, weights: Mapping[str, Tensor] | None
    ) -> Tensor:
        """The weighted sum of the layer terms over a micro-batch, times their factors.

        Args:
            ours: the student's, as `TaskObjective.with_taps` gives them.
            mask: [batch, length], 0 on padding, or None if there is none.
            weights: prepared ones; None where the modules of transformers are used.
        """
        taught = self.teacher(theirs.input_ids, mask, theirs.token_type_ids)
        seen = torch.ones_like(theirs.input_ids) if mask is None else mask
        projections = self.projections if weights is None else evaluate.prepared_projections(self.projections, weights)
        sums = evaluate.evaluate(self.terms, ours, taught, seen, projections=projections, reduction="sum")
        factors = theirs.factors.tolist()
        each = [term.weight * n * sums[term.name] for term, n in zip(self.terms, factors, strict=True)]
        return torch.stack(each).sum()
