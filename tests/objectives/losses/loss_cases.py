"""Every loss with random inputs of its shape, so that what must hold of all is tested on all."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import naive_losses as naive
import torch
from torch import Tensor

from compact_biomed.objectives import losses
from compact_biomed.objectives.relations import relation_kl

HEADS, WIDTH, TEACHER_WIDTH, VOCABULARY = 2, 4, 6, 11
PROJECTION = torch.nn.Linear(WIDTH, TEACHER_WIDTH, dtype=torch.float64)


def mask_of(lengths: list[int], padded: int) -> Tensor:
    return torch.arange(padded) < torch.tensor(lengths)[:, None]


@dataclass(frozen=True)
class Case:
    """A loss, its inputs and its oracle.

    Args:
        loss: (student, teacher, mask, reduction=) -> scalar.
        inputs: (mask, generator) -> (student, teacher), random, float64; each a tensor or a pair.
        oracle: (student, teacher, mask) -> (sum, denominator of the mean).
        padding: axes of the inputs that have the padded length.
    """

    loss: Callable[..., Tensor]
    inputs: Callable[[Tensor, torch.Generator], tuple[Any, Any]]
    oracle: Callable[[Any, Any, Tensor], tuple[float, int]]
    padding: tuple[int, ...] = field(default=(1,))


def tensors_of(x: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (x,) if isinstance(x, Tensor) else x


def each(function: Callable[[Tensor], Tensor], x):
    """The function of a tensor or of each of a pair."""
    return function(x) if isinstance(x, Tensor) else tuple(function(y) for y in x)


def _random(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _states(mask: Tensor, generator: torch.Generator, student: int, teacher: int):
    return _random(generator, *mask.shape, student), _random(generator, *mask.shape, teacher)


def _logits(mask: Tensor, generator: torch.Generator):
    return tuple(2 * x for x in _states(mask, generator, VOCABULARY, VOCABULARY))


def _scores(mask: Tensor, generator: torch.Generator):
    """Raw scores with the padding mask added, as a model gives them."""
    shape = (mask.shape[0], HEADS, mask.shape[1], mask.shape[1])
    return tuple((3 * _random(generator, *shape)).masked_fill(~mask[:, None, None, :], -1e4) for _ in range(2))


def _maps(mask: Tensor, generator: torch.Generator):
    return tuple(x.softmax(-1) for x in _scores(mask, generator))


def _vectors(mask: Tensor, generator: torch.Generator):
    batch, length = mask.shape
    widths = (WIDTH, WIDTH), (TEACHER_WIDTH, TEACHER_WIDTH)
    return tuple(tuple(_random(generator, batch, HEADS, length, width) for width in pair) for pair in widths)


def _regrouped(mask: Tensor, generator: torch.Generator):
    """Queries of unequal attention heads and widths: 2 of width 6, and 3 of width 8."""
    batch, length = mask.shape
    return tuple((_random(generator, batch, *shape),) for shape in ((2, length, 6), (3, length, 8)))


def _relations(heads: int) -> Case:
    def loss(student, teacher, mask, **options):
        return relation_kl(2 * student, 2 * teacher, mask, heads=heads, **options)

    def oracle(student, teacher, mask):
        return naive.self_relations(student[0], teacher[0], mask, heads=heads)

    return Case(loss, _regrouped, oracle, padding=(2,))


def _soft(kl: bool, temperature: float) -> Case:
    def loss(student, teacher, mask, **options):
        return (losses.soft_kl if kl else losses.soft_cross_entropy)(
            student, teacher, mask, temperature=temperature, **options
        )

    def oracle(student, teacher, mask):
        flat = (student.flatten(0, 1), teacher.flatten(0, 1), mask.flatten())
        return naive.soft(*flat, temperature=temperature, kl=kl)

    return Case(loss, _logits, oracle)


def _labels(mask: Tensor, generator: torch.Generator):
    labels = torch.randint(VOCABULARY, mask.shape, generator=generator)
    return 2 * _random(generator, *mask.shape, VOCABULARY), labels


def _mlm() -> Case:
    def loss(student, labels, mask, **options):
        return losses.mlm_cross_entropy(student, labels.masked_fill(~mask, -100), **options)

    def oracle(student, labels, mask):
        return naive.mlm(student.flatten(0, 1), labels.masked_fill(~mask, -100).flatten())

    return Case(loss, _labels, oracle)


def _mse(published: bool) -> Case:
    def loss(student, teacher, mask, **options):
        project = PROJECTION.to(student.dtype)
        return losses.hidden_mse(student, teacher, mask, projection=project, published=published, **options)

    def oracle(student, teacher, mask):
        weights = {"weight": PROJECTION.weight.tolist(), "bias": PROJECTION.bias.tolist()}
        return naive.hidden_squares(student, teacher, mask, **weights, published=published)

    return Case(loss, lambda mask, generator: _states(mask, generator, WIDTH, TEACHER_WIDTH), oracle)


def _on_maps(loss, inputs, oracle, published: bool, **oracle_options) -> Case:
    return Case(
        lambda *args, **options: loss(*args, published=published, **options),
        inputs,
        lambda *args: oracle(*args, published=published, **oracle_options),
        padding=(2, 3),
    )


CORRECTED = {
    "soft_kl": _soft(kl=True, temperature=2.0),
    "soft_cross_entropy": _soft(kl=False, temperature=1.5),
    "mlm_cross_entropy": _mlm(),
    "hidden_cosine": Case(
        losses.hidden_cosine, lambda mask, generator: _states(mask, generator, WIDTH, WIDTH), naive.cosine
    ),
    "hidden_mse": _mse(published=False),
    "attention_kl": _on_maps(losses.attention_kl, _maps, naive.attention_kl, False),
    "attention_mse": _on_maps(losses.attention_mse, _maps, naive.map_squares, False),
    "attention_score_mse": _on_maps(losses.attention_score_mse, _scores, naive.map_squares, False),
    "relation_kl": Case(relation_kl, _vectors, naive.relation_kl, padding=(2,)),
    "relation_kl, 4 relation heads": _relations(4),
    "relation_kl, 1 relation head": _relations(1),
}
PUBLISHED = {
    "hidden_mse": _mse(published=True),
    "attention_kl": _on_maps(losses.attention_kl, _maps, naive.attention_kl, True),
    "attention_mse": _on_maps(losses.attention_mse, _maps, naive.map_squares, True),
    "attention_score_mse": _on_maps(losses.attention_score_mse, _scores, naive.map_squares, True, threshold=-1e2),
}
ALL = CORRECTED | {f"{name}, published": case for name, case in PUBLISHED.items()}
