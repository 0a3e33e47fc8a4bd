"""How far an exported model is from the PyTorch model that it was made from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compact_biomed.errors import UserError

# Relative error of the logits that an export may have. float32 differs by the order of sums alone. The
# int8 bound tells a broken quantization from a working one; what int8 costs a task, its test set tells.
TOLERANCE = {"fp32": 1e-4, "int8": 0.25}


@dataclass(frozen=True)
class Difference:
    """Logits of real tokens, compared.

    Args:
        largest: absolute difference of two logits.
        relative: norm of all differences over the norm of all logits.
        shapes: [batch, length] of the inputs.
    """

    largest: float
    relative: float
    shapes: list[list[int]]


def compare(
    inputs: Sequence[dict[str, np.ndarray]], expected: Sequence[np.ndarray], found: Sequence[np.ndarray]
) -> Difference:
    """Compare the logits of each batch, padding left out.

    Args:
        inputs: with `attention_mask`, [batch, length].
        expected, found: [batch, length, labels], or [batch, labels] where a text has one answer.
    """
    largest = error = norm = 0.0
    for batch, right, mine in zip(inputs, expected, found, strict=True):
        if right.shape != mine.shape:
            raise UserError(f"the export gives logits of shape {mine.shape}, the model {right.shape}")
        if right.ndim == 3:
            real = batch["attention_mask"].astype(bool)
            right, mine = right[real], mine[real]
        gap = mine.astype(np.float64) - right
        largest = max(largest, float(np.abs(gap).max()))
        error += float(np.square(gap).sum())
        norm += float(np.square(right, dtype=np.float64).sum())
    shapes = [list(batch["attention_mask"].shape) for batch in inputs]
    return Difference(largest, float(np.sqrt(error / max(norm, 1e-30))), shapes)


def require(difference: Difference, precision: str, *, where: object) -> None:
    """Raise a `UserError` where the logits differ by more than `TOLERANCE`, or are no numbers."""
    if not difference.relative <= TOLERANCE[precision]:
        raise UserError(
            f"the {precision} export is off by {difference.relative:.2g} of the logits' norm (largest difference "
            f"{difference.largest:.2g}); {TOLERANCE[precision]:g} is allowed, and nothing was written", where=where,
            remedy="export without --int8" if precision == "int8" else "report it with the versions of torch and onnx",
        )  # fmt: skip
