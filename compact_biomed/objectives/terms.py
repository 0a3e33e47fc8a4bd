"""The terms of a distillation loss: what is compared with what, by which loss, with which weight.

The vocabulary is that of TextBrewer's `intermediate_matches` (Yang et al. 2020): feature, loss, layer_S, layer_T,
weight, projection. A recipe states its terms with symbolic layers ("each", "mapped", "last"); `expand` turns them into
one term per pair of layers once the depths of student and teacher are known. `objectives.evaluate` computes terms, and
`objectives.textbrewer` translates them to and from TextBrewer's configuration.

This module imports neither torch nor numpy, so that recipes answer `--help` at once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from compact_biomed.errors import UsageError, UserError
from compact_biomed.models.layer_maps import layer_map

# Loss -> the feature that it compares. To add a loss, add it here and to `objectives.losses`: its function, and if it
# compares layers its denominator.
FEATURES = {
    "mlm_cross_entropy": "logits",
    "soft_kl": "logits",
    "soft_cross_entropy": "logits",
    "soft_binary_cross_entropy": "logits",
    "soft_mse": "logits",
    "task_loss": "logits",  # hard labels, by the loss of a task's head (compression.distillation)
    "hidden_cosine": "hidden",
    "hidden_mse": "hidden",
    "attention_kl": "attention",
    "attention_mse": "attention",
    "attention_score_mse": "scores",
    "query_relation_kl": "queries",
    "key_relation_kl": "keys",
    "value_relation_kl": "values",
}
RELATIONS = tuple(loss for loss in FEATURES if loss.endswith("relation_kl"))
HARD_LOSSES = ("mlm_cross_entropy", "task_loss")  # against labels, not against the teacher
SOFT_LOSSES = tuple(loss for loss, feature in FEATURES.items() if feature == "logits" and loss not in HARD_LOSSES)
# Losses that can take padding into their mean, as the published scripts do.
WITH_PADDING = ("hidden_mse", "attention_kl", "attention_mse", "attention_score_mse")

# Symbolic layers of a recipe's terms.
EACH = "each"  # layer_S: every layer of the student (for states: the state behind it)
MAPPED = "mapped"  # layer_T: the teacher layer that the layer map gives; layer_S: see `expand`
EACH_STATE = "each state"  # layer_S: the embeddings' output and the state behind every layer
LAST = "last"
UPPER_MIDDLE = "upper-middle"  # layer_T: five sixths of the way up; of 24 layers, MiniLMv2 takes the 19th or the 21st
LINEAR = "linear"  # projection: one trained linear map from the student's width to the teacher's, shared by the terms

LayerIndex = int | str | None


@dataclass(frozen=True)
class Projection:
    """A trained linear map from the student's width to the teacher's; terms that name the same one share it."""

    name: str
    student_width: int
    teacher_width: int


@dataclass(frozen=True)
class Term:
    """One term of the loss: weight times the mean of a loss.

    Args:
        loss: a key of `FEATURES`.
        weight: of the mean. A factor of T^2 for soft targets is part of it.
        layer_S, layer_T: layers of student and teacher from 0, or, for hidden states, states (0 = the embeddings'
            output); None for logits. In a recipe also `EACH` or `EACH_STATE` with `MAPPED`, or `LAST`; layer_T also
            `UPPER_MIDDLE`.
        projection: of the student's hidden states; in a recipe `LINEAR`.
        temperature: of soft targets.
        padding: take padding into the mean, as the published scripts do.
        feature: what the loss compares: "logits", "hidden", "attention", "scores", "queries", "keys" or "values". It
            follows from the loss.
        heads: relation heads of a loss in `RELATIONS`, a divisor of both widths; None: the attention heads.

    Raises:
        UserError: an unknown loss, a feature that it does not compare, or relation heads that it does not have.
    """

    loss: str
    weight: float
    layer_S: LayerIndex = None
    layer_T: LayerIndex = None
    projection: Projection | str | None = None
    temperature: float = 1.0
    padding: bool = False
    feature: str = ""
    heads: int | None = None

    def __post_init__(self) -> None:
        if self.loss not in FEATURES:
            raise UserError(f"unknown loss {self.loss!r}", where="Term", remedy=f"one of {', '.join(FEATURES)}")
        compared = FEATURES[self.loss]
        if self.feature not in ("", compared):
            raise UserError(f"{self.loss} compares {compared}, not {self.feature}", where="Term")
        if self.heads is not None and (self.loss not in RELATIONS or self.heads < 1):
            raise UserError(
                f"{self.loss} with {self.heads} relation heads", where="Term", remedy=f"heads >= 1 of {RELATIONS}"
            )
        object.__setattr__(self, "feature", compared)

    @property
    def name(self) -> str:
        """The name under which the term is logged: "soft_kl", "attention_kl_0_1"."""
        return self.loss if self.layer_S is None else f"{self.loss}_{self.layer_S}_{self.layer_T}"

    @property
    def is_soft(self) -> bool:
        """Whether the term compares logits with the teacher's."""
        return self.loss in SOFT_LOSSES


def expand(
    terms: Iterable[Term],
    *,
    student_layers: int,
    teacher_layers: int,
    widths: tuple[int, int],
    layers: str | Sequence[int],
) -> tuple[Term, ...]:
    """Return the terms with one concrete term per pair of layers.

    Args:
        terms: as a recipe states them; concrete ones stay as they are.
        student_layers, teacher_layers: the depths.
        widths: hidden widths of student and teacher.
        layers: the layer map, see `models.layer_maps.layer_map`. `MAPPED` layers of the student, in a student that is
            deeper than its teacher, are the last of equal blocks, one block per teacher layer (`EACH`, `EACH_STATE`).

    Raises:
        UserError: a layer map that does not fit the depths, or symbols that do not go together.
    """
    depths = {"student_layers": student_layers, "teacher_layers": teacher_layers}
    expanded = []
    for term in terms:
        if term.projection == LINEAR:
            term = replace(term, projection=Projection("states", *widths))
        first = 1 if term.feature == "hidden" else 0  # state k + 1 is the output of layer k
        states = [(0, 0)] if EACH_STATE in (term.layer_S, term.layer_T) else []  # embeddings with embeddings
        match term.layer_S, term.layer_T:
            case None, None:
                pairs = [(None, None)]
            case (("each" | "each state"), "mapped"):
                pairs = [*states, *((s + first, t + first) for s, t in enumerate(layer_map(layers, **depths)))]
            case "mapped", ("each" | "each state"):  # a student that is deeper than its teacher
                reverse = layer_map("spaced", student_layers=teacher_layers, teacher_layers=student_layers)
                pairs = [*states, *((s + first, t + first) for t, s in enumerate(reverse))]
            case (int() | "last", int() | "last" | "upper-middle"):
                single = (term.layer_S, student_layers), (term.layer_T, teacher_layers)
                pairs = [tuple(layer_number(layer, depth, first) for layer, depth in single)]
            case _:
                raise UserError(
                    f"layers {term.layer_S!r} of the student and {term.layer_T!r} of the teacher do not go together",
                    where=f"Term {term.loss}",
                    remedy=f"{EACH!r} or {EACH_STATE!r} with {MAPPED!r}, or a number or {LAST!r} for each, the "
                    f"teacher's also {UPPER_MIDDLE!r}",
                )
        expanded += [replace(term, layer_S=s, layer_T=t) for s, t in pairs]
    return tuple(expanded)


def expand_between(terms: Iterable[Term], student, teacher, *, layers: str | Sequence[int]) -> tuple[Term, ...]:
    """Return the terms with one concrete term per pair of layers of models with these configurations.

    Raises:
        UserError: as `expand`.
    """
    return expand(
        terms,
        student_layers=student.num_hidden_layers,
        teacher_layers=teacher.num_hidden_layers,
        widths=(student.hidden_size, teacher.hidden_size),
        layers=layers,
    )


def relation_terms(weight: float, layer_S: LayerIndex, layer_T: LayerIndex, heads: int | None) -> tuple[Term, ...]:
    """Return the terms of MiniLMv2: the relations of queries, of keys and of values, each with this weight."""
    return tuple(Term(loss, weight, layer_S, layer_T, heads=heads) for loss in RELATIONS)


def relation_layer(value: int | str) -> int | str:
    """Return a teacher layer of relations as the user names it: a number from 0, `LAST` or `UPPER_MIDDLE`.

    Raises:
        UsageError: anything else.
    """
    if value in (LAST, UPPER_MIDDLE):
        return value
    if not str(value).isdecimal():
        raise UsageError(f"--relation-layer {value} must be a number from 0, {LAST} or {UPPER_MIDDLE}")
    return int(value)


def layer_number(layer: int | str, depth: int, first: int = 0) -> int:
    """Return the number of one layer, or of the state behind it where `first` is 1; numbers stay as they are."""
    if isinstance(layer, int):
        return layer
    return first + (depth if layer == LAST else (5 * depth + 3) // 6) - 1


def with_temperature(terms: Iterable[Term], temperature: float) -> tuple[Term, ...]:
    """Return the terms with another temperature of the soft targets; weights keep their ratio to T^2."""
    return tuple(
        replace(term, temperature=temperature, weight=term.weight / term.temperature**2 * temperature**2)
        if term.is_soft
        else term
        for term in terms
    )


def as_json(term: Term) -> dict[str, Any]:
    """Return the term as JSON values, without what is at its default."""
    defaults = Term(term.loss, 0.0)
    return {
        name: asdict(value) if isinstance(value, Projection) else value
        for name, value in vars(term).items()
        if name in ("loss", "weight", "feature") or value != getattr(defaults, name)
    }
