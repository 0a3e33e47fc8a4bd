"""A PyTorch model -> one ONNX file with dynamic batch and length."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compact_biomed.compress.checkpoint import Checkpoint, input_names, logits_module
from compact_biomed.compress.folder import SLOWER
from compact_biomed.errors import UserError
from compact_biomed.evaluation.model import longest_input

if TYPE_CHECKING:
    import torch

OPSET = 20  # the first with Gelu as one operation
OUTPUT = "logits"
# torch's exporters, the better one first.
EXPORTERS = {"torch.export": True, "TorchScript": False}


def write_onnx(checkpoint: Checkpoint, path: Path, example: dict[str, np.ndarray]) -> str:
    """Export a checkpoint.

    Args:
        path: the .onnx file.
        example: inputs of at least two rows; their sizes are not taken over.

    Returns:
        Which of `EXPORTERS` made it: the second is tried where the first fails.

    Raises:
        UserError: neither can.
    """
    import torch

    module = logits_module(checkpoint.model, checkpoint.family)
    names = input_names(checkpoint.model)
    inputs = tuple(torch.from_numpy(example[name]) for name in names)
    reasons = []
    for exporter, dynamo in EXPORTERS.items():
        try:
            with quiet(), _plain_attention(checkpoint.model), torch.inference_mode(False), torch.no_grad():
                _export(module, inputs, path, names, checkpoint, dynamo=dynamo)
            return exporter
        except Exception as error:  # exporters have many error classes
            reasons.append(f"{exporter}: {(str(error).strip() or type(error).__name__).splitlines()[0]}")
    raise UserError(f"cannot be exported: {'; '.join(reasons)}", where=checkpoint.name)


def _export(module, inputs: tuple["torch.Tensor", ...], path: Path, names, checkpoint: Checkpoint, *, dynamo: bool):
    import torch

    axes = {0: "batch", 1: "length"}
    if dynamo:
        limit = longest_input(checkpoint.model.config)
        sizes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("length", min=2, max=limit)}
        how = {"dynamic_shapes": (tuple(dict(sizes) for _ in names),), "verbose": False, "external_data": False}
    else:
        output = {0: "batch"} if checkpoint.family == "sequence" else axes
        how = {"dynamic_axes": {**{name: axes for name in names}, OUTPUT: output}}
    torch.onnx.export(
        module, inputs, str(path), input_names=names, output_names=[OUTPUT], opset_version=OPSET, dynamo=dynamo, **how
    )


@contextmanager
def _plain_attention(model) -> Iterator[None]:
    """Attention in elementary operations: the fused one would be written with guards against rows that see nothing."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def run_onnx(path: Path, batches: Sequence[dict[str, np.ndarray]]) -> list[np.ndarray]:
    """The logits of each batch by onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"], disabled_optimizers=SLOWER)
    return [session.run([OUTPUT], batch)[0] for batch in batches]


def run_torch(checkpoint: Checkpoint, batches: Sequence[dict[str, np.ndarray]]) -> list[np.ndarray]:
    """The logits of each batch by PyTorch."""
    import torch

    module = logits_module(checkpoint.model, checkpoint.family)
    names = input_names(checkpoint.model)
    with torch.inference_mode():
        return [module(*(torch.from_numpy(batch[name]) for name in names)).numpy() for batch in batches]


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters and quantizers tell of their own inner life; what went wrong is told by those who call them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
