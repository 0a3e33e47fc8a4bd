"""TextBrewer (Yang et al. 2020): its configuration to and from our terms, and its distiller as a loss backend.

`to_textbrewer` and `from_textbrewer` translate between `objectives.terms.Term`, which is what training reads, and
TextBrewer's `DistillationConfig`, which users bring along. Our losses are registered in TextBrewer's tables under the
names of `NAMES`, which also say what its matches have no field for: "cb_value_relation_kl_heads_24". Four of
TextBrewer's losses equal ours and are read too; the others are refused: `attention_ce` expects raw scores, masked `mmd`
divides by a length where a width is due, and the rest have no counterpart here.

`TextBrewerLoss` lets TextBrewer's `GeneralDistiller.compute_loss` combine the same losses. Tests compare values
and gradients of both ways; `--loss-backend textbrewer` trains with it.
"""

import copy
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from compact_biomed.errors import UserError
from compact_biomed.objectives import losses
from compact_biomed.objectives.evaluate import Outputs
from compact_biomed.objectives.relations import relation_kl
from compact_biomed.objectives.terms import (
    FEATURES,
    HARD_LOSSES,
    RELATIONS,
    SOFT_LOSSES,
    WITH_PADDING,
    Projection,
    Term,
)
from compact_biomed.settings import read_json


class Form(NamedTuple):
    """A loss with the parameters that TextBrewer's matches have no field for; its name there spells them out."""

    loss: str
    padding: bool = False
    heads: int | None = None  # relation heads


_MOST_RELATION_HEADS = 128
# Form -> its name in TextBrewer's tables.
NAMES = {Form(loss): f"cb_{loss}" for loss in FEATURES if loss not in HARD_LOSSES}
NAMES |= {Form(loss, padding=True): f"cb_{loss}_published" for loss in WITH_PADDING}
NAMES |= {Form(loss, heads=n): f"cb_{loss}_heads_{n}" for loss in RELATIONS for n in range(1, _MOST_RELATION_HEADS + 1)}
# TextBrewer's own losses that are equivalent to one of ours.
_SAME_MEANING = {
    "ce": Form("soft_cross_entropy"),
    "cos": Form("hidden_cosine"),
    "hidden_mse": Form("hidden_mse"),
    "attention_mse": Form("attention_mse"),
}
_FORM_OF = {name: form for form, name in NAMES.items()} | _SAME_MEANING


def form_of(term: Term) -> Form:
    """Return the form of a term's loss."""
    return Form(term.loss, term.padding, term.heads)


def _name(term: Term) -> str:
    """Return the name of a term's loss in TextBrewer's tables."""
    if form_of(term) not in NAMES:
        raise UserError(
            f"{term.name} has {term.heads} relation heads",
            where="DistillationConfig",
            remedy=f"TextBrewer's tables have up to {_MOST_RELATION_HEADS}; train without --loss-backend textbrewer",
        )
    return NAMES[form_of(term)]


@cache
def library():
    """Import textbrewer and put our losses and features into its tables; return the module."""
    with warnings.catch_warnings():
        # Its source compares with literals by `is`, which Python warns of when it compiles it.
        warnings.simplefilter("ignore")
        import textbrewer
    for form, name in NAMES.items():
        if form.loss in SOFT_LOSSES:
            textbrewer.register_new("kd_loss", name, _output_loss(form))
            continue
        textbrewer.register_new("match_Loss", name, _match_loss(form))
        if FEATURES[form.loss] not in textbrewer.FEATURES:
            textbrewer.FEATURES.append(FEATURES[form.loss])
    return textbrewer


def to_textbrewer(terms: Iterable[Term]):
    """Return TextBrewer's `DistillationConfig` of concrete terms (see `terms.expand`).

    Raises:
        UserError: two terms on hard labels or two on soft targets: TextBrewer has one of each; or more relation heads
            than are registered.
    """
    settings: dict[str, Any] = {"temperature": 1.0, "hard_label_weight": 0.0, "kd_loss_weight": 0.0}
    settings |= {"kd_loss_type": NAMES[Form("soft_kl")], "intermediate_matches": []}
    seen: set[str] = set()
    for term in terms:
        if term.feature == "logits":
            kind = "soft targets" if term.is_soft else "hard labels"
            if kind in seen:
                raise UserError(f"two terms on {kind}", where="DistillationConfig", remedy="TextBrewer has one of each")
            seen.add(kind)
        if term.is_soft:
            settings["kd_loss_type"] = _name(term)
            settings |= {"kd_loss_weight": term.weight, "temperature": term.temperature}
        elif term.feature == "logits":
            settings["hard_label_weight"] = term.weight
        else:
            settings["intermediate_matches"].append(_match(term))
    return library().DistillationConfig(**settings)


def from_textbrewer(config, *, hard_loss: str = "mlm_cross_entropy") -> tuple[Term, ...]:
    """Return the terms of a `DistillationConfig`: hard labels, soft targets, matches; terms of weight 0 are left out.

    Matches whose `proj` carries the same {"name": ...} share one projection; without a name each has its own.

    Args:
        config: a `DistillationConfig`, or a list of entries of `intermediate_matches` (then only matches).
        hard_loss: the loss on hard labels.

    Raises:
        UserError: what has no counterpart here: schedulers, shifted or cached logits, other losses, projections with
            activations, lists of layers, the same match twice.
    """
    if isinstance(config, Sequence):
        return _checked([_read_match(entry) for entry in config])
    for setting in ("temperature_scheduler", "hard_label_weight_scheduler", "kd_loss_weight_scheduler"):
        if getattr(config, setting) is not None:
            raise UserError(f"{setting} is not supported", where="DistillationConfig", remedy="leave it at 'none'")
    for setting in ("probability_shift", "is_caching_logits"):
        if getattr(config, setting):
            raise UserError(f"{setting} is not supported", where="DistillationConfig", remedy="leave it at False")
    terms = []
    if config.hard_label_weight:
        terms.append(Term(hard_loss, config.hard_label_weight))
    if config.kd_loss_weight:
        loss = _read_form(config.kd_loss_type, SOFT_LOSSES).loss
        terms.append(Term(loss, config.kd_loss_weight, temperature=config.temperature))
    return _checked([*terms, *(_read_match(vars(entry)) for entry in config.intermediate_matches)])


def read_textbrewer_file(path: Path, on_logits: Iterable[Term]) -> tuple[Term, ...]:
    """Read terms from a JSON file: the fields of a `DistillationConfig`, or a list of `intermediate_matches`.

    Args:
        on_logits: terms that stay beside a mere list of matches.

    Raises:
        UserError: no JSON, or what `from_textbrewer` refuses; the file is named.
    """
    try:
        content = read_json(path, remedy="correct the JSON")
        if isinstance(content, list):
            return (*on_logits, *from_textbrewer(content))
        return from_textbrewer(library().DistillationConfig(**content))
    except UserError as error:
        if str(error.where).startswith(str(path)):
            raise
        raise UserError(str(error), where=path, remedy="correct the entry") from error
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        raise UserError(
            f"not a TextBrewer configuration: {type(error).__name__}: {error}",
            where=path,
            remedy="give the fields of DistillationConfig, or a list of intermediate_matches, as JSON",
        ) from error


def _match(term: Term) -> dict[str, Any]:
    entry = {"layer_S": term.layer_S, "layer_T": term.layer_T, "feature": term.feature, "weight": term.weight}
    entry["loss"] = _name(term)
    if isinstance(term.projection, Projection):
        widths = term.projection.student_width, term.projection.teacher_width
        entry["proj"] = ["linear", *widths, {"name": term.projection.name}]
    return entry


def _read_match(entry: Mapping[str, Any]) -> Term:
    where = f"intermediate_matches: {entry['loss']}"
    form = _read_form(entry["loss"], [loss for loss, feature in FEATURES.items() if feature != "logits"])
    if entry["feature"] != FEATURES[form.loss]:
        raise UserError(f"compares {FEATURES[form.loss]}, not {entry['feature']}", where=where)
    if not (isinstance(entry["layer_S"], int) and isinstance(entry["layer_T"], int)):
        raise UserError("layer_S and layer_T must be single numbers", where=where)
    layers = entry["layer_S"], entry["layer_T"]
    term = Term(form.loss, entry["weight"], *layers, padding=form.padding, heads=form.heads)
    if not entry.get("proj"):
        return term
    form, *widths = entry["proj"]
    options = widths.pop() if isinstance(widths[-1], dict) else {}
    if form != "linear" or term.feature != "hidden":
        raise UserError("only linear projections of hidden states are supported", where=where)
    projection = Projection(options.get("name", term.name), *widths)
    return replace(term, projection=projection)


def _checked(terms: Sequence[Term]) -> tuple[Term, ...]:
    terms = tuple(term for term in terms if term.weight)
    names = [term.name for term in terms]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"stated twice: {', '.join(sorted(twice))}", where="intermediate_matches")
    return terms


def _read_form(name: str, allowed: Iterable[str]) -> Form:
    """Return our loss of a name in TextBrewer's tables."""
    allowed = set(allowed)
    form = _FORM_OF.get(name, Form(""))
    if form.loss not in allowed:
        known = [known for known, form in _FORM_OF.items() if form.loss in allowed and form.heads is None]
        raise UserError(f"loss {name!r} is not supported", where="DistillationConfig", remedy=", ".join(known))
    return form


# What the losses below divide their sums by while `TextBrewerLoss` computes a micro-batch; one per thread.
_step = threading.local()


def _reduced(form: Form, compute: Callable[..., Tensor]) -> Tensor:
    counts = getattr(_step, "counts", None)
    return compute(reduction="mean") if counts is None else compute(reduction="sum") / counts[form]


def _output_loss(form: Form) -> Callable[..., Tensor]:
    def compute(logits_S: Tensor, logits_T: Tensor, temperature: float = 1) -> Tensor:
        own = getattr(losses, form.loss)
        return _reduced(form, lambda **reduction: own(logits_S, logits_T, temperature=temperature, **reduction))

    return compute


def _match_loss(form: Form) -> Callable[..., Tensor]:
    def compute(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
        if form.loss in RELATIONS:
            pairs = (student, student), (teacher, teacher)
            return _reduced(form, lambda **reduction: relation_kl(*pairs, mask, heads=form.heads, **reduction))
        options: dict[str, Any] = {"published": form.padding} if form.loss in WITH_PADDING else {}
        from_scores = FEATURES[form.loss] == "attention" and getattr(_step, "scores", False)
        own = getattr(losses, f"{form.loss}_from_scores" if from_scores else form.loss)
        if FEATURES[form.loss] == "hidden" and student.dim() == 2:  # the states of real tokens alone
            mask = None
        return _reduced(form, lambda **reduction: own(student, teacher, mask, **options, **reduction))

    return compute


class TextBrewerLoss:
    """The loss of some terms as TextBrewer's own `GeneralDistiller.compute_loss` combines it.

    Args:
        terms: concrete terms.
        projections: by name (`evaluate.build_projections`), in place of TextBrewer's own, which it would keep in a
            plain
            list, neither moved nor trained nor saved.
        config: a user's `DistillationConfig` of these terms, computed by the losses that it names itself.
    """

    def __init__(self, terms: Sequence[Term], projections: Mapping[str, nn.Module] | None = None, *, config=None):
        self.terms, textbrewer = tuple(terms), library()
        config = to_textbrewer(terms) if config is None else config
        # A folder that exists: TextBrewer would create ./saved_models otherwise. Its own projections would draw from
        # torch's generator.
        training = textbrewer.TrainingConfig(output_dir=os.curdir, device="cpu")
        with torch.random.fork_rng(devices=[]):
            self._distiller = textbrewer.GeneralDistiller(training, copy.copy(config), None, None, None, None)
        self._soft = any(term.is_soft for term in self.terms)
        self._hard = any(term.loss in HARD_LOSSES for term in self.terms)
        # Under which name TextBrewer gives the value of each term.
        self._names = dict.fromkeys(HARD_LOSSES, "unweighted_hard_label_loss")
        self._names |= dict.fromkeys(SOFT_LOSSES, "unweighted_kd_loss")
        matched = [term for term in self.terms if term.feature != "logits"]
        self._projected = {i: term.projection.name for i, term in enumerate(matched) if term.projection is not None}
        for term, entry in zip(matched, config.intermediate_matches, strict=True):
            self._names[term.name] = f"unweighted_{term.feature}_{entry.loss}_{term.layer_S}_{term.layer_T}"
        for i, name in self._projected.items():
            self._distiller.projs[i] = projections[name]

    def __call__(
        self,
        student: Outputs,
        teacher: Outputs,
        mask: Tensor,
        *,
        counts: Mapping[Form, Any] | None = None,
        projections: Mapping[str, Callable] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, and the unweighted value of each term by name.

        Args:
            student, teacher, mask: as for `evaluate.evaluate`.
            counts: what divides the sum of each form of a loss over the whole step; None: this batch is the step.
            projections: in place of those given at first (prepared weights of a micro-batch).
        """
        distiller = self._distiller
        if projections is not None:
            distiller = copy.copy(distiller)  # threads compute micro-batches with weights of their own
            distiller.projs = [
                projections[self._projected[i]] if i in self._projected else own
                for i, own in enumerate(distiller.projs)
            ]
        of_student, of_teacher = dict(student), {key: _detached(value) for key, value in teacher.items()}
        of_student["inputs_mask"] = mask
        _step.counts, _step.scores = counts, not of_student.get("attention") and bool(of_student.get("scores"))
        try:
            if _step.scores:
                of_student["attention"], of_teacher["attention"] = of_student["scores"], of_teacher.get("scores")
            logits = of_student.pop("logits", None), of_teacher.pop("logits", None)
            if self._soft:  # rows are selected already: its own selection by mask is 125 times slower
                of_student["logits"], of_teacher["logits"] = [logits[0]], [logits[1]]
            if self._hard:
                of_student["losses"] = [self._hard_loss(student)]
            loss, values = distiller.compute_loss(of_student, of_teacher)
        finally:
            _step.counts, _step.scores = None, False
        return loss, {term.name: values[self._names.get(term.name) or self._names[term.loss]] for term in self.terms}

    def _hard_loss(self, student: Outputs) -> Tensor:
        def compute(**reduction: Any) -> Tensor:
            return losses.mlm_cross_entropy(student["logits"], student["labels"], **reduction)

        return _reduced(Form("mlm_cross_entropy"), compute)


def _detached(value):
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {key: x.detach() for key, x in value.items()}
    return [x.detach() for x in value]
