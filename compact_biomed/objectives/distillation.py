"""A student, its teacher, and the terms of the loss between them, as one objective.

Only what the terms compare is computed of the teacher: no graph, no vocabulary head outside
the masked rows, attention maps of matched layers alone. It is kept out of the module's
children, so that it is not trained, not saved, not wrapped for data parallelism, and not put
in train mode with the student.
"""

from collections import namedtuple
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compact_biomed.engine.encoders import is_supported
from compact_biomed.engine.taps import Tapped, Taps
from compact_biomed.objectives import IGNORED, evaluate
from compact_biomed.objectives.mlm import MaskedLM
from compact_biomed.objectives.terms import Term
from compact_biomed.objectives.textbrewer import TextBrewerLoss, form_of

_RIDGE = 1e-3  # of fitted projections, as a share of the states' mean variance


@dataclass(frozen=True)
class Fidelity:
    """How student and teacher are run; each field is a quirk of the published scripts.

    Args:
        teacher_dropout: the teacher's dropout is on (there it was put in train mode with the wrapper).
        maps_after_dropout: attention probabilities are compared after dropout, as eager modules return them.
        keep_padding: states of padding are computed, which only means over padding read.
    """

    teacher_dropout: bool = False
    maps_after_dropout: bool = False
    keep_padding: bool = False


class Distillation(nn.Module):
    """A distillation loss: the weighted sum of terms between a student and its teacher.

    Args:
        student: a masked-LM of transformers; the only one that is trained, with the projections.
        teacher: another, of the same vocabulary; its weights are cast to `dtype` once and for all.
        terms: the terms.
        fidelity: see `Fidelity`.
        dtype, fast: as for `MaskedLM`.
        loss_backend: "own", or "textbrewer": its distiller combines the same losses, to the same values and gradients.

    Raises:
        UserError: terms that do not fit the two models.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        terms: Sequence[Term],
        *,
        fidelity: Fidelity = Fidelity(),
        dtype: torch.dtype = torch.float32,
        fast: bool = True,
        loss_backend: str = "own",
    ):
        super().__init__()
        evaluate.check_fit(terms, student.config, teacher.config)
        if not fidelity.keep_padding and any(map(evaluate.reads_padding, terms)):
            raise ValueError("means over padding need the states of padding: Fidelity(keep_padding=True)")
        self.terms, self.fidelity, self.dtype = tuple(terms), fidelity, dtype
        self.model = student
        self.projections = evaluate.build_projections(terms)
        self._textbrewer = TextBrewerLoss(terms, self.projections) if loss_backend == "textbrewer" else None
        # Both or neither: packed states of the one cannot be compared with padded states of the other.
        self.fast = fast and all(is_supported(model.config) for model in (student, teacher))
        self.masked_lm = MaskedLM(student, dtype=dtype, fast=self.fast)
        teacher = teacher.requires_grad_(False).eval()
        self._teacher = (MaskedLM(teacher, dtype=dtype, fast=self.fast).eval(),)  # in a tuple: not a child
        self._teacher_weights = None
        if self.fast:
            self._teacher_weights = self.teacher.cast(self.teacher.prepare())
            teacher.to("meta")  # the cast weights are all that is read from now on
        logits = any(term.feature == "logits" for term in terms)
        self._student_logits, self._teacher_logits = (
            logits,
            any(term.feature == "logits" and term.loss != "mlm_cross_entropy" for term in terms),
        )
        self._student_taps, self._teacher_taps = (
            evaluate.taps_of(terms, side, after_dropout=fidelity.maps_after_dropout) for side in ("layer_S", "layer_T")
        )
        self._output = namedtuple("DistillationOutput", ["loss_sum", *(term.name for term in terms)])

    @property
    def teacher(self) -> MaskedLM:
        return self._teacher[0]

    @property
    def asks_teacher(self) -> bool:
        """Whether a step runs the teacher: not if all terms that read it are left out."""
        return any(term.loss != "mlm_cross_entropy" for term in self.terms)

    @property
    def reads_logits(self) -> bool:
        """Whether a term reads the student's logits; if none does, its vocabulary head learns nothing."""
        return self._student_logits

    @property
    def result(self) -> nn.Module:
        """What was trained, to be saved: the student, or its encoder alone if no term trained its vocabulary head."""
        return self.model if self.reads_logits else self.model.base_model

    @property
    def keep_padding(self) -> bool:
        """Whether micro-batches must be as wide as the batch."""
        return self.fidelity.keep_padding

    def teacher_logits(self, input_ids: Tensor, attention_mask: Tensor | None, scored: Tensor) -> Tensor:
        """Return the teacher's logits [rows, vocabulary] of the scored positions, without dropout."""
        return self.teacher.logits(input_ids, attention_mask, scored, prepared=self._teacher_weights)

    def _apply(self, function, recurse: bool = True):
        super()._apply(function, recurse)
        if self._teacher_weights is None:
            self.teacher._apply(function)
        else:
            self._teacher_weights = {name: function(tensor) for name, tensor in self._teacher_weights.items()}
        return self

    @torch.no_grad()
    def fit_projections(self, input_ids: Tensor, attention_mask: Tensor) -> None:
        """Set each projection to its least squares on a text, over all terms that share it.

        A student that starts near its teacher would otherwise first be pulled towards a random projection.

        Args:
            input_ids, attention_mask: [batch, length].
        """
        training = self.training
        self.eval()
        nothing_scored = torch.full_like(input_ids, IGNORED)
        of_student, of_teacher, mask, _ = self._compared(input_ids, attention_mask, nothing_scored, None)
        self.train(training)

        def real(states: Tensor) -> Tensor:  # [real tokens, width]
            return (states if states.dim() == 2 else states[mask.bool()]).float()

        for name, projection in self.projections.items():
            terms = [term for term in self.terms if term.projection is not None and term.projection.name == name]
            x = torch.cat([real(of_student[term.feature][term.layer_S]) for term in terms])
            y = torch.cat([real(of_teacher[term.feature][term.layer_T]) for term in terms])
            mean_x, mean_y = x.mean(0), y.mean(0)
            x, y = x - mean_x, y - mean_y
            moments = (x.T @ x).double()
            moments.diagonal().add_(_RIDGE * moments.diagonal().mean())
            weight = torch.linalg.solve(moments, (x.T @ y).double()).T.float()
            projection.weight.copy_(weight)
            projection.bias.copy_(mean_y - weight @ mean_x)

    def counts(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return what divides each term's sum to give its mean, float64 [terms]; the counts of batches add up."""
        mask, rows = batch["attention_mask"], batch["labels"].ne(IGNORED).sum()
        heads, width = self.model.config.num_attention_heads, self.teacher.model.config.hidden_size
        each = [evaluate.denominator(term, mask, rows=rows, heads=heads, width=width) for term in self.terms]
        return torch.stack([torch.as_tensor(n, dtype=torch.float64, device=mask.device) for n in each])

    def with_divisor(self, parts: Sequence[tuple], counts: Tensor) -> tuple[Sequence[tuple], float]:
        """Return the micro-batches of a step with its counts; their losses add up to the step's."""
        return [(*part, counts) for part in parts], 1.0

    def prepare(self) -> dict[str, Tensor]:
        """Return the student's weights as the fast encoder wants them, and the projections'."""
        projections = {f"projections.{name}": p for name, p in self.projections.named_parameters()}
        return self.masked_lm.prepare() | projections

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        labels: Tensor,
        counts: Tensor,
        *,
        prepared: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, ...]:
        """Compute the weighted sum of the terms on a micro-batch, and the sum of each.

        Args:
            input_ids, attention_mask, labels: as for `MaskedLM`.
            counts: of the whole step.
            prepared: as for `MaskedLM`.

        Returns:
            A NamedTuple: this micro-batch's share of the loss, and of each term's unweighted mean.
        """
        divisors = counts.clamp(min=1).tolist()
        if self._textbrewer is not None:
            return self._by_textbrewer(self._compared(input_ids, attention_mask, labels, prepared), divisors)
        values = self.values(input_ids, attention_mask, labels, prepared=prepared)
        shares = [values[term.name] / n for term, n in zip(self.terms, divisors, strict=True)]
        loss = torch.stack([term.weight * share for term, share in zip(self.terms, shares, strict=True)]).sum()
        return self._output(loss, *(share.detach() for share in shares))

    def values(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        labels: Tensor,
        *,
        prepared: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return the sum of each term over a micro-batch, by name, unweighted."""
        of_student, of_teacher, mask, projections = self._compared(input_ids, attention_mask, labels, prepared)
        return evaluate.evaluate(self.terms, of_student, of_teacher, mask, projections=projections, reduction="sum")

    def _by_textbrewer(self, compared: tuple, divisors: Sequence[float]) -> tuple[Tensor, ...]:
        of_student, of_teacher, mask, projections = compared
        counts = {form_of(term): n for term, n in zip(self.terms, divisors, strict=True)}
        loss, shares = self._textbrewer(of_student, of_teacher, mask, counts=counts, projections=projections)
        return self._output(loss, *(shares[term.name].detach() for term in self.terms))

    def _compared(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        labels: Tensor,
        prepared: Mapping[str, Tensor] | None,
    ) -> tuple[Tapped, Tapped, Tensor, Mapping]:
        """Return what the terms read: the student's and the teacher's outputs, the padding mask, the projections."""
        scored = labels != IGNORED
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        weights = prepared
        if self.fast and weights is None:
            weights = self.masked_lm.cast(self.prepare())
        of_teacher: Tapped = {}
        if self.asks_teacher:
            of_teacher = self._teacher_outputs((input_ids, attention_mask, scored))
        of_student = self._outputs(
            self.masked_lm,
            (input_ids, attention_mask, scored),
            self._student_taps,
            weights=weights,
            logits=self._student_logits,
            training=self.training,
        )
        of_student["labels"] = labels[scored]
        projections = self.projections if weights is None else evaluate.prepared_projections(self.projections, weights)
        return of_student, of_teacher, mask, projections

    @torch.no_grad()
    def _teacher_outputs(self, inputs) -> Tapped:
        """Return what the terms read of the teacher."""
        return self._outputs(
            self.teacher,
            inputs,
            self._teacher_taps,
            weights=self._teacher_weights,
            logits=self._teacher_logits,
            training=self.training and self.fidelity.teacher_dropout,
        )

    def _outputs(self, masked_lm: MaskedLM, inputs, taps: Taps, *, weights, logits: bool, training: bool) -> Tapped:
        ids, mask, scored = inputs
        options = {"prepared": weights, "training": training, "keep_padding": self.fidelity.keep_padding}
        states, outputs = masked_lm.with_taps(ids, mask, scored if logits else None, taps, **options)
        if logits:
            outputs["logits"] = masked_lm.head(states, prepared=weights)
        return outputs
