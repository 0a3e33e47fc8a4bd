"""TextBrewer (Yang et al. 2020) as the language in which a recipe states the terms of its loss.

Its `DistillationConfig` says which layers are compared, by which loss, with which weight. Our
losses stand in its tables under names that begin with "cb_"; `read_terms` turns a configuration
into our own terms; `TextBrewerEvaluation` lets its distiller compute the same loss, the yardstick
for our own evaluation.

Of its own losses four mean the same as ours and are read too (`_OWN_NAMES`). The others are
refused: `attention_ce` expects raw scores, masked `mmd` divides by a length where a width is due,
and the rest have no counterpart here.
"""

import copy
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from textbrewer import DistillationConfig
from torch import Tensor, nn

from compact_biomed.errors import UserError
from compact_biomed.models.layer_maps import layer_map, states_map
from compact_biomed.objectives import losses
from compact_biomed.objectives.terms import FEATURES, WITH_PADDING, Outputs, Projection, Term

_OUTPUT_KINDS = ("soft_kl", "soft_cross_entropy", "soft_binary_cross_entropy", "soft_mse")
_PUBLISHED = "_published"
_OWN_NAMES = {
    "ce": "soft_cross_entropy",
    "cos": "hidden_cosine",
    "hidden_mse": "hidden_mse",
    "attention_mse": "attention_mse",
}


@cache
def library():
    """The module textbrewer, with our losses and features in its tables."""
    with warnings.catch_warnings():
        # Its source compares with literals by `is`, which Python warns of when it compiles it.
        warnings.simplefilter("ignore")
        import textbrewer
    for kind in _OUTPUT_KINDS:
        textbrewer.register_new("kd_loss", f"cb_{kind}", _output_loss(kind))
    for kind, feature in FEATURES.items():
        if feature == "logits":
            continue
        textbrewer.register_new("match_Loss", f"cb_{kind}", _match_loss(kind))
        if kind in WITH_PADDING:
            textbrewer.register_new("match_Loss", f"cb_{kind}{_PUBLISHED}", partial(_match_loss(kind), published=True))
        if feature not in textbrewer.FEATURES:
            textbrewer.FEATURES.append(feature)
    return textbrewer


def _output_loss(kind: str) -> Callable[..., Tensor]:
    def loss(logits_S: Tensor, logits_T: Tensor, temperature: float = 1) -> Tensor:
        return getattr(losses, kind)(logits_S, logits_T, temperature=temperature)

    return loss


def _match_loss(kind: str) -> Callable[..., Tensor]:
    if kind == "value_relation_kl":
        return lambda student, teacher, mask: losses.relation_kl((student, student), (teacher, teacher), mask)
    return getattr(losses, kind)


def match(
    loss: str,
    student_layer: int,
    teacher_layer: int,
    weight: float,
    *,
    projection: Projection | None = None,
    published: bool = False,
) -> dict[str, Any]:
    """One entry of `intermediate_matches`.

    Args:
        loss: a key of `terms.FEATURES` other than those on logits.
        student_layer, teacher_layer, weight, projection, published: see `terms.Term`.
    """
    entry = {"layer_S": student_layer, "layer_T": teacher_layer, "feature": FEATURES[loss], "weight": weight}
    entry["loss"] = f"cb_{loss}{_PUBLISHED if published else ''}"
    if projection is not None:
        entry["proj"] = ["linear", projection.student_width, projection.teacher_width, {"name": projection.name}]
    return entry


def distillation_config(
    *,
    mlm_weight: float = 0.0,
    kd_loss: str = "soft_kl",
    kd_weight: float = 0.0,
    temperature: float = 1.0,
    matches: Sequence[Mapping[str, Any]] = (),
) -> "DistillationConfig":
    """TextBrewer's configuration of a loss.

    Args:
        mlm_weight: of the MLM cross-entropy (its "hard label"); of a task's loss where `read_terms` is told so.
        kd_loss: "soft_kl" or "soft_cross_entropy", on the masked positions; of task heads also
            "soft_binary_cross_entropy" or "soft_mse".
        kd_weight: of that loss, T^2 included.
        temperature: T.
        matches: entries of `intermediate_matches` (`match`); they are not changed.
    """
    return library().DistillationConfig(
        temperature=temperature,
        hard_label_weight=mlm_weight,
        kd_loss_type=f"cb_{kd_loss}",
        kd_loss_weight=kd_weight,
        intermediate_matches=copy.deepcopy(list(matches)),
    )


def read_terms(config: "DistillationConfig", *, hard: str = "mlm_cross_entropy") -> list[Term]:
    """The terms that a configuration states, in the order hard label, output, matches; those of weight 0 are left out.

    Matches whose `proj` carries the same {"name": ...} share one projection; without a name each has its own.

    Args:
        hard: the kind of the term on hard labels.

    Raises:
        UserError: what has no counterpart here: schedulers, shifted or cached logits, other
            losses, projections with activations, lists of layers, the same match twice.
    """
    for setting in ("temperature_scheduler", "hard_label_weight_scheduler", "kd_loss_weight_scheduler"):
        if getattr(config, setting) is not None:
            raise UserError(f"{setting} is not supported", where="DistillationConfig", remedy="leave it at 'none'")
    for setting in ("probability_shift", "is_caching_logits"):
        if getattr(config, setting):
            raise UserError(f"{setting} is not supported", where="DistillationConfig", remedy="leave it at False")
    terms = []
    if config.hard_label_weight:
        terms.append(Term(hard, config.hard_label_weight))
    if config.kd_loss_weight:
        kind, _ = _kind(config.kd_loss_type, _OUTPUT_KINDS)
        terms.append(Term(kind, config.kd_loss_weight, temperature=config.temperature))
    terms += [_read_match(entry) for entry in config.intermediate_matches if entry.weight]
    names = [term.name for term in terms]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"stated twice: {', '.join(sorted(twice))}", where="intermediate_matches")
    return terms


def _read_match(entry) -> Term:
    kinds = [kind for kind, feature in FEATURES.items() if feature != "logits"]
    kind, published = _kind(entry.loss, kinds)
    where = f"intermediate_matches: {entry.loss}"
    if entry.feature != FEATURES[kind]:
        raise UserError(f"compares {FEATURES[kind]}, not {entry.feature}", where=where)
    if not (isinstance(entry.layer_S, int) and isinstance(entry.layer_T, int)):
        raise UserError("layer_S and layer_T must be single numbers", where=where)
    term = Term(kind, entry.weight, entry.layer_S, entry.layer_T, published=published)
    if not entry.proj:
        return term
    form, student_width, teacher_width, options = entry.proj
    if form != "linear" or FEATURES[kind] != "hidden":
        raise UserError("only linear projections of hidden states are supported", where=where)
    projection = Projection(options.get("name", term.name), student_width, teacher_width)
    return Term(kind, entry.weight, entry.layer_S, entry.layer_T, projection, published=published)


def _kind(name: str, kinds: Sequence[str]) -> tuple[str, bool]:
    """Our kind of a loss in TextBrewer's tables, and whether it is the published form."""
    own = name.removeprefix("cb_") if name.startswith("cb_") else _OWN_NAMES.get(name, "")
    kind, published = own.removesuffix(_PUBLISHED), own.endswith(_PUBLISHED)
    if kind not in kinds or (published and kind not in WITH_PADDING):
        fitting = [f"cb_{kind}" for kind in kinds]
        fitting += [f"cb_{kind}{_PUBLISHED}" for kind in kinds if kind in WITH_PADDING]
        raise UserError(f"loss {name!r} is not supported", where="DistillationConfig", remedy=", ".join(fitting))
    return kind, published


class TextBrewerEvaluation:
    """A configuration's loss as TextBrewer's own `GeneralDistiller.compute_loss` computes it.

    Args:
        config: see `distillation_config`.
        projections: by name (`terms.build_projections`), in place of TextBrewer's own, which it
            would keep in a plain list, neither moved nor trained nor saved.
    """

    def __init__(self, config: "DistillationConfig", projections: Mapping[str, nn.Module] | None = None):
        self.terms, textbrewer = read_terms(config), library()
        # A folder that exists: it would create ./saved_models otherwise. Its own projections
        # would draw from torch's generator.
        training = textbrewer.TrainingConfig(output_dir=os.curdir, device="cpu")
        with torch.random.fork_rng(devices=[]):
            self._distiller = textbrewer.GeneralDistiller(training, copy.copy(config), None, None, None, None)
        # What TextBrewer calls the value of each term.
        self._names = {"mlm_cross_entropy": "unweighted_hard_label_loss"}
        self._names |= dict.fromkeys(_OUTPUT_KINDS, "unweighted_kd_loss")
        for i, entry in enumerate(config.intermediate_matches):
            term = _read_match(entry)
            self._names[term.name] = f"unweighted_{entry.feature}_{entry.loss}_{entry.layer_S}_{entry.layer_T}"
            if term.projection is not None:
                self._distiller.projs[i] = projections[term.projection.name]

    def __call__(self, student: Outputs, teacher: Outputs, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the unweighted value of each term by name; arguments as for `terms.evaluate`."""
        results_s, results_t = dict(student), {key: _detached(value) for key, value in teacher.items()}
        results_s["inputs_mask"] = mask
        if "logits" in student:
            # Rows are selected already: its own selection by mask is 125 times slower.
            results_s["logits"], results_t["logits"] = [student["logits"]], [results_t["logits"]]
            results_s["losses"] = [losses.mlm_cross_entropy(student["logits"], student["labels"])]
        loss, values = self._distiller.compute_loss(results_s, results_t)
        return loss, {term.name: values[self._names[term.name]] for term in self.terms}


def _detached(value):
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {key: x.detach() for key, x in value.items()}
    return [x.detach() for x in value]


# ----------------------------------------------------------------------------------------------------
# The losses of the three distilled models, in TextBrewer's language, at any depth and width.
#
# Weights, layers and reductions are those of the published scripts. Where a script takes padding
# into a mean, that is an option of its own (off by default).


def distilbiobert(*, student_layers: int, teacher_layers: int, temperature: float = 2.0) -> "DistillationConfig":
    """2 MLM + 5 T^2 KL at temperature T = 2 + 1 cosine of the last hidden states."""
    return distillation_config(
        mlm_weight=2.0,
        kd_weight=5.0 * temperature**2,
        temperature=temperature,
        matches=[match("hidden_cosine", student_layers, teacher_layers, 1.0)],
    )


def compactbiobert(*, layers: Sequence[int], cell_average: bool = False) -> "DistillationConfig":
    """1 MLM + 5 KL at temperature 1 + 3 (KL of attention maps + cosine of hidden states, summed over layers).

    Args:
        layers: teacher layer of each student layer; the paper's are 1, 3, 5, 7, 9, 11.
        cell_average: as published, average the attention KL over cells, padded columns included,
            where a mean over rows is due. It makes the term smaller by the padded length of the
            batch (256 times at 256 tokens), and so its share in the loss.
    """
    maps = [match("attention_kl", s, t, 3.0, published=cell_average) for s, t in enumerate(layers)]
    states = [match("hidden_cosine", s + 1, t + 1, 3.0) for s, t in enumerate(layers)]
    return distillation_config(mlm_weight=1.0, kd_weight=5.0, matches=maps + states)


def tinybiobert(
    *,
    student_layers: int,
    teacher_layers: int,
    student_width: int,
    teacher_width: int,
    padding: bool = False,
    raw_scores: bool = False,
) -> "DistillationConfig":
    """Cross-entropy with soft labels at temperature 1 + MSE of attention maps + MSE of all hidden states.

    The states go through one shared projection, which is trained and not exported. There is no
    MLM term.

    Args:
        student_layers, teacher_layers, student_width, teacher_width: of the two models.
        padding: as published, take padding into both MSEs.
        raw_scores: compare scores before the softmax, as TinyBERT's own script does, where the
            published script compares probabilities.
    """
    projection = Projection("states", student_width, teacher_width)
    layers = layer_map("spaced", student_layers=student_layers, teacher_layers=teacher_layers)
    states = states_map(student_layers=student_layers, teacher_layers=teacher_layers)
    kind = "attention_score_mse" if raw_scores else "attention_mse"
    matches = [match(kind, s, t, 1.0, published=padding) for s, t in enumerate(layers)]
    for s, t in enumerate(states):
        matches.append(match("hidden_mse", s, t, 1.0, projection=projection, published=padding))
    return distillation_config(kd_loss="soft_cross_entropy", kd_weight=1.0, matches=matches)


# ----------------------------------------------------------------------------------------------------
# The loss of task distillation in TextBrewer's language.


# The loss on soft labels under each head of `evaluation.heads`.
SOFT_LOSSES = {
    "token": "soft_kl",
    "sequence": "soft_kl",
    "span": "soft_kl",
    "multilabel": "soft_binary_cross_entropy",
    "regression": "soft_mse",
}
HARD_LOSS = "task_loss"


@dataclass(frozen=True)
class Transfer:
    """What of the layers is compared, by the losses of CompactBioBERT (`objectives.published_terms`).

    Args:
        of: "hidden" (1 - cosine of the states behind two layers), "attention" (KL of their maps), or both.
        layers: teacher layer of each student layer.
        widths: of the student's and of the teacher's states.
        weight: of each layer's term.
    """

    of: Sequence[str]
    layers: Sequence[int]
    widths: tuple[int, int]
    weight: float = 1.0

    def matches(self) -> list[dict[str, Any]]:
        """TextBrewer's `intermediate_matches`; states of another width go through one shared projection."""
        found = []
        projection = Projection("states", *self.widths) if len(set(self.widths)) > 1 else None
        if "attention" in self.of:
            found += [match("attention_kl", s, t, self.weight) for s, t in enumerate(self.layers)]
        if "hidden" in self.of:
            given = {"weight": self.weight, "projection": projection}
            found += [match("hidden_cosine", s + 1, t + 1, **given) for s, t in enumerate(self.layers)]
        return found


def task_config(
    head: str, *, temperature: float, soft_weight: float, matches: Sequence[Mapping[str, Any]] = ()
) -> "DistillationConfig":
    """1 hard-label loss + `soft_weight` T^2 soft-label loss at temperature T (Hinton et al. 2015, section 2) + matches.

    Args:
        head: a name in `evaluation.heads.HEADS`.
        temperature: T. In a regression it cancels.
        soft_weight: 0 leaves the soft labels out.
        matches: `Transfer.matches`.
    """
    return distillation_config(
        mlm_weight=1.0,
        kd_loss=SOFT_LOSSES[head],
        kd_weight=soft_weight * temperature**2,
        temperature=temperature,
        matches=matches,
    )
