"""The losses of the three distilled models, in TextBrewer's language, at any depth and width.

Weights, layers and reductions are those of the published scripts. Where a script takes padding
into a mean, that is an option of its own (off by default).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from compact_biomed.models.layer_maps import layer_map, states_map
from compact_biomed.objectives.terms import Projection
from compact_biomed.objectives.textbrewer_terms import distillation_config, match

if TYPE_CHECKING:
    from textbrewer import DistillationConfig


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
