"""The values of a loss's terms for the outputs of two models, and whether terms fit the models.

`objectives.terms` says what a term is; the losses themselves are in `objectives.losses`.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compact_biomed.engine.taps import Taps
from compact_biomed.errors import UserError
from compact_biomed.models.students import check_vocabularies
from compact_biomed.objectives import losses
from compact_biomed.objectives.relations import relation_kl
from compact_biomed.objectives.terms import RELATIONS, WITH_PADDING, Projection, Term

# A model's outputs for a batch, by feature:
#   logits     [rows, vocabulary], of the labeled positions
#   labels     [rows], int64 (the student's alone)
#   hidden     state -> [batch, length, width], or [real tokens, width]; state 0 is the embeddings' output
#   attention  layer -> probabilities [batch, heads, length, length]; scores serve in their place
#   scores     layer -> Q K^T / sqrt(head width), padding mask added, of the same shape
#   queries    layer -> [batch, heads, length, head width], not scaled; keys and values likewise
# A sequence or a mapping by number serves; only what the terms ask for need be there.
Outputs = Mapping[str, Any]


def build_projections(terms: Iterable[Term]) -> nn.ModuleDict:
    """Build the projections that the terms name (torch's initialization, as published): name -> `Linear`.

    Register them with the student before the optimizer is built, and leave them out of what is exported.
    """
    by_name: dict[str, Projection] = {}
    for projection in (term.projection for term in terms if term.projection is not None):
        if by_name.setdefault(projection.name, projection) != projection:
            raise UserError(f"two projections named {projection.name!r} differ in their widths")
    return nn.ModuleDict({name: nn.Linear(p.student_width, p.teacher_width) for name, p in by_name.items()})


def prepared_projections(projections: nn.ModuleDict, weights: Mapping[str, Tensor]) -> dict[str, Callable]:
    """Return the projections on weights prepared under `projections.<name>` (cast, or leaves of a micro-batch)."""

    def of(name: str) -> Callable[[Tensor], Tensor]:
        prefix = f"projections.{name}"
        return lambda x: F.linear(x, weights[f"{prefix}.weight"], weights[f"{prefix}.bias"])

    return {name: of(name) for name in projections}


def taps_of(terms: Iterable[Term], side: str, *, after_dropout: bool = False) -> Taps:
    """Return what the terms read inside one of the two models, besides its logits.

    Args:
        side: "layer_S" or "layer_T".
        after_dropout: compare attention probabilities after dropout.
    """

    def feature(term: Term) -> str:
        # Losses on probabilities are computed from the scores, unless dropout is applied between them.
        return "scores" if term.feature == "attention" and not after_dropout else term.feature

    pairs = {(feature(term), getattr(term, side)) for term in terms if term.feature != "logits"}
    return Taps.of(pairs, after_dropout=after_dropout)


def evaluate(
    terms: Iterable[Term],
    student: Outputs,
    teacher: Outputs,
    mask: Tensor,
    *,
    projections: Mapping[str, nn.Module] | None = None,
    reduction: losses.Reduction = "mean",
) -> dict[str, Tensor]:
    """Compute the unweighted value of each term, by name.

    Args:
        student, teacher: see `Outputs`; no gradient reaches the teacher's.
        mask: [batch, length], true (or 1) on real tokens.
        projections: by name (`build_projections`).
        reduction: "sum" for micro-batches: divide by `denominator` of the whole step.
    """
    return {
        term.name: _evaluate(term, student, teacher, mask, projections or {}, reduction=reduction) for term in terms
    }


def total(terms: Iterable[Term], values: Mapping[str, Tensor]) -> Tensor:
    """Return the loss: the weighted sum of the values that `evaluate` gives."""
    return torch.stack([term.weight * values[term.name] for term in terms]).sum()


def _evaluate(term: Term, student: Outputs, teacher: Outputs, mask: Tensor, projections, **options) -> Tensor:
    if term.loss == "mlm_cross_entropy":
        return losses.mlm_cross_entropy(student["logits"], student["labels"], **options)
    feature = term.feature
    if term.loss in RELATIONS:
        pairs = [(x, x) for x in (student[feature][term.layer_S], teacher[feature][term.layer_T])]
        return relation_kl(*pairs, mask, heads=term.heads, **options)
    loss = getattr(losses, term.loss)
    if feature == "logits":
        return loss(student["logits"], teacher["logits"], temperature=term.temperature, **options)
    if feature == "attention" and not student.get("attention"):
        loss, feature = getattr(losses, f"{term.loss}_from_scores"), "scores"
    of_student, of_teacher = student[feature][term.layer_S], teacher[feature][term.layer_T]
    if feature == "hidden" and of_student.dim() == 2:  # the states of real tokens alone
        mask = None
    if term.projection is not None:
        options["projection"] = projections[term.projection.name]
    if term.loss in WITH_PADDING:
        options["published"] = term.padding
    return loss(of_student, of_teacher, mask, **options)


def denominator(term: Term, mask: Tensor, *, rows: Tensor | int, heads: int, width: int) -> Tensor | int:
    """Return the divisor that turns a term's sum into its mean; it is known before any model runs.

    Args:
        mask: [batch, length] of the whole step, true (or 1) on real tokens.
        rows: labels of the whole step.
        heads: attention heads of the student, for terms that state no relation heads.
        width: hidden width of the teacher.
    """
    if term.feature == "logits":
        return rows
    rule = losses.DENOMINATORS[term.loss]
    count = rule.with_padding if term.padding else rule.count
    return count(mask) * {"heads": term.heads or heads, "width": width, "": 1}[rule.times]


def reads_padding(term: Term) -> bool:
    """Return whether states or maps of padding enter the term's sum (the published KL only counts padding)."""
    return term.padding and term.loss != "attention_kl"


def check_fit(terms: Iterable[Term], student, teacher) -> None:
    """Raise a `UserError` unless the terms can be computed for models with these configurations."""
    for term in terms:
        if term.feature == "logits":
            check_vocabularies(student, teacher)
            continue
        for whose, config, layer in (
            ("student", student, term.layer_S),
            ("teacher", teacher, term.layer_T),
        ):
            last = config.num_hidden_layers - (term.feature != "hidden")
            if not 0 <= layer <= last:
                raise UserError(
                    f"{term.name}: no {term.feature} {layer} in a {whose} of {config.num_hidden_layers} layers",
                    remedy=f"0 to {last} exist",
                )
        if term.feature == "hidden":
            _check_widths(term, student.hidden_size, teacher.hidden_size)
        elif term.heads is not None:
            _check_relation_heads(term, student, teacher)
        elif student.num_attention_heads != teacher.num_attention_heads:
            raise UserError(
                f"{term.name}: {student.num_attention_heads} heads of the student cannot be compared with "
                f"{teacher.num_attention_heads} of the teacher",
                remedy="relation heads (heads=12, say)"
                if term.loss in RELATIONS
                else f"give the student {teacher.num_attention_heads} heads, or leave the term out",
            )


def fitting_relation_heads(student, teacher) -> list[int]:
    """Return the numbers of relation heads that two models with these configurations can be compared by."""
    common = math.gcd(*map(_attention_width, (student, teacher)))
    return [n for n in range(1, common + 1) if common % n == 0]


def _check_relation_heads(term: Term, student, teacher) -> None:
    if term.heads not in (fitting := fitting_relation_heads(student, teacher)):
        raise UserError(
            f"{term.name}: {term.heads} relation heads do not divide the width of the queries, keys and values, "
            f"{_attention_width(student)} in the student and {_attention_width(teacher)} in the teacher",
            remedy=f"use one of these numbers of relation heads: {', '.join(map(str, fitting))}",
        )


def _attention_width(config) -> int:
    """Return the width of all queries of a token: the hidden width, in a MobileBERT that of its bottleneck."""
    return config.true_hidden_size if config.model_type == "mobilebert" else config.hidden_size


def _check_widths(term: Term, student: int, teacher: int) -> None:
    if term.projection is None and student != teacher:
        raise UserError(
            f"{term.name}: states of width {student} cannot be compared with {teacher}",
            remedy=f"give the term a projection {student} -> {teacher}",
        )
    if term.projection is not None:
        projected = (term.projection.student_width, term.projection.teacher_width)
        if projected != (student, teacher):
            raise UserError(
                f"{term.name}: its projection {projected[0]} -> {projected[1]} does not fit",
                remedy=f"the widths are {student} and {teacher}",
            )
