"""A PyTorch model -> one ONNX file with dynamic batch and length."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from compact_biomed.errors import UserError
from compact_biomed.models.checkpoints import Checkpoint, input_names, logits_module, longest_input

# Its kernel takes eight times as long as the addition and the norm that it replaces (onnxruntime 1.32, docs/log.md).
SLOWER = ["SkipLayerNormFusion"]


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


# ----------------------------------------------------------------------------------------------------
# How far an exported model is from the PyTorch model that it was made from.


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


# ----------------------------------------------------------------------------------------------------
# Texts on which an exported model is held to the one that it was made from.
#
# All sentences are made up here.


SENTENCES = (
    "Fever.",
    "Two brothers with early-onset ataxia carried the same deletion in exon 7.",
    "Oral zinc (20 mg/day) shortened diarrhoea by about a day in our ward, but not the hospital stay.",
    "We saw no change of IL-6, TGF-β or C-reactive protein after four weeks (p = 0.41).",
    "Is the loss of one copy of this kinase enough to cause kidney failure in zebrafish?",
    "A 63-year-old woman came with chest pain; her troponin was high and the left ventricle hardly moved.",
    "Mice that lacked the receptor gained weight, slept longer, and did not answer to leptin.",
    "Cisplatin damaged hearing in nine of thirty children with hepatoblastoma, mostly at 4 kHz and above.",
)
_LONGEST = 512


def batches(tokenizer: "PreTrainedTokenizerFast", config, names: list[str]) -> list[dict[str, np.ndarray]]:
    """Inputs of several shapes: one short text, a padded batch, pairs, and one text as long as the model reads.

    Args:
        config: of the model, for its limit.
        names: `checkpoint.input_names`.

    Returns:
        For each batch its arrays [batch, length], int64.
    """
    limit = min(longest_input(config) or _LONGEST, _LONGEST)
    halves = SENTENCES[: len(SENTENCES) // 2], SENTENCES[len(SENTENCES) // 2 :]
    texts = [
        ([SENTENCES[0]], None),
        ([SENTENCES[1]], None),
        (list(SENTENCES), None),
        (list(halves[0]), list(halves[1])),
        ([" ".join(SENTENCES * 20)], None),
    ]
    options = {"truncation": True, "max_length": limit, "padding": True, "return_token_type_ids": True}
    encoded = [tokenizer(first, second, return_tensors="np", **options) for first, second in texts]
    return [{name: batch[name].astype(np.int64) for name in names} for batch in encoded]
