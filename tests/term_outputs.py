"""Random outputs of a student and a teacher, as the terms of a loss compare them."""

import torch
from torch import Tensor

from compact_biomed.objectives.terms import Term, expand
from compact_biomed.training.recipe import load_recipe
from compact_biomed.training.resolve import resolve

VOCABULARY, HEADS = 13, 2


def leaves(outputs: dict) -> list[Tensor]:
    """All tensors that may have a gradient."""
    found = []
    for value in outputs.values():
        found += [x for x in (value if isinstance(value, list) else [value]) if x.is_floating_point()]
    return found


def random_outputs(layers: int, width: int, mask: Tensor, *, rows: int, seed: int) -> dict:
    """Float64 leaves with gradients; 1 + layers hidden states, maps of every layer."""
    generator = torch.Generator().manual_seed(seed)
    batch, length = mask.shape

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    padded = ~mask.bool()[:, None, None, :]
    scores = [normal(batch, HEADS, length, length).masked_fill(padded, -1e4) for _ in range(layers)]
    outputs = {
        "logits": normal(rows, VOCABULARY),
        "labels": torch.randint(VOCABULARY, (rows,), generator=generator),
        "hidden": [normal(batch, length, width) for _ in range(layers + 1)],
        "attention": [x.softmax(-1) for x in scores],
        "scores": scores,
    }
    for vectors in ("queries", "keys", "values"):
        outputs[vectors] = [normal(batch, HEADS, length, width // HEADS) for _ in range(layers)]
    for x in leaves(outputs):
        x.requires_grad_()
    return outputs


def terms_of(
    recipe: str, student_layers: int, teacher_layers: int, widths: tuple[int, int] = (8, 8), **changes
) -> tuple[Term, ...]:
    """The terms of a recipe at any depth and width.

    Args:
        changes: hyperparameters in place of the recipe's: fidelity, raw_scores, temperature, leave_out, ...
    """
    hyperparameters = resolve(load_recipe(recipe), "paper", changes=changes).hyperparameters
    depths = {"student_layers": student_layers, "teacher_layers": teacher_layers}
    return expand(hyperparameters.terms, **depths, widths=widths, layers=hyperparameters.layer_map)
