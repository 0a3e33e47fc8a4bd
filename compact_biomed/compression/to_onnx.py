"""Write a PyTorch model as one ONNX file with dynamic batch and length, and measure how far its logits are off."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from compact_biomed.errors import UserError, full_disk
from compact_biomed.models.checkpoints import Checkpoint, input_names, logits_module
from compact_biomed.models.positions import longest_input

OPSET = 20  # the first with Gelu as one operation
OUTPUT = "logits"
EXPORTERS = {"torch.export": True, "TorchScript": False}  # name -> torch's `dynamo` flag; the better exporter first
# onnxruntime's kernel that fuses an addition with the norm after it takes eight times as long as the two
# (onnxruntime 1.32, docs/log.md).
SLOWER = ["SkipLayerNormFusion"]
# Relative error of the logits that an export may have. float32 differs by the order of sums alone. The int8 bound
# separates a broken quantization from a working one; what int8 costs on a task is measured on its test set.
TOLERANCE = {"fp32": 1e-4, "int8": 0.25}


def write_onnx(checkpoint: Checkpoint, path: Path, example: dict[str, np.ndarray]) -> str:
    """Export a checkpoint; try the exporters in the order of `EXPORTERS`.

    Args:
        path: the .onnx file.
        example: inputs of at least two rows; the file does not depend on their sizes.

    Returns:
        The name of the exporter that succeeded.

    Raises:
        UserError: no exporter succeeds.
    """
    module = logits_module(checkpoint.model, checkpoint.family)
    names = input_names(checkpoint.model)
    inputs = tuple(torch.from_numpy(example[name]) for name in names)
    reasons = []
    for exporter, dynamo in EXPORTERS.items():
        try:
            with quiet(), _plain_attention(checkpoint.model), torch.inference_mode(False), torch.no_grad():
                _export(module, inputs, path, names, checkpoint, dynamo=dynamo)
                _strip_traces(path)
            return exporter
        except Exception as error:  # exporters have many error classes
            if full_disk(error):
                raise
            reasons.append(f"{exporter}: {(str(error).strip() or type(error).__name__).splitlines()[0]}")
    raise UserError(f"cannot be exported: {'; '.join(reasons)}", where=checkpoint.name)


def _export(
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    path: Path,
    names: list[str],
    checkpoint: Checkpoint,
    *,
    dynamo: bool,
) -> None:
    axes = {0: "batch", 1: "length"}
    if dynamo:
        limit = longest_input(checkpoint.model.config)
        sizes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("length", min=2, max=limit)}
        options = {"dynamic_shapes": (tuple(dict(sizes) for _ in names),), "verbose": False, "external_data": False}
    else:
        output = {0: "batch"} if checkpoint.family == "sequence" else axes
        options = {"dynamic_axes": {**{name: axes for name in names}, OUTPUT: output}}
    options |= {"input_names": names, "output_names": [OUTPUT], "opset_version": OPSET, "dynamo": dynamo}
    torch.onnx.export(module, inputs, str(path), **options)


def _strip_traces(path: Path) -> None:
    """Remove the stack traces that torch.export writes for each node: they hold paths of this machine."""
    import onnx

    model = onnx.load(str(path))
    graphs = [model.graph, *model.functions]
    for part in (*graphs, *(node for graph in graphs for node in graph.node), *model.graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, str(path))


@contextmanager
def _plain_attention(model: PreTrainedModel) -> Iterator[None]:
    """Compute attention in elementary operations: the fused one is exported with guards against fully masked rows."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the warnings of exporters and quantizers; callers report what fails."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


# ---- the logits of both models, compared


def run_onnx(path: Path, inputs: Sequence[dict[str, np.ndarray]]) -> list[np.ndarray]:
    """Return the logits of each batch by onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"], disabled_optimizers=SLOWER)
    return [session.run([OUTPUT], batch)[0] for batch in inputs]


def run_torch(checkpoint: Checkpoint, inputs: Sequence[dict[str, np.ndarray]]) -> list[np.ndarray]:
    """Return the logits of each batch by PyTorch."""
    module = logits_module(checkpoint.model, checkpoint.family)
    names = input_names(checkpoint.model)
    with torch.inference_mode():
        return [module(*(torch.from_numpy(batch[name]) for name in names)).numpy() for batch in inputs]


@dataclass(frozen=True)
class Difference:
    """The difference of two models' logits on real tokens.

    Args:
        largest: absolute difference of two logits.
        relative: norm of all differences over the norm of all logits.
        shapes: [batch, length] of the inputs.
    """

    largest: float
    relative: float
    shapes: list[list[int]]


def compare(
    inputs: Sequence[dict[str, np.ndarray]], expected: Sequence[np.ndarray], exported: Sequence[np.ndarray]
) -> Difference:
    """Compare the logits of each batch, without those of padding.

    Args:
        inputs: with `attention_mask`, [batch, length].
        expected, exported: [batch, length, labels], or [batch, labels] where a text has one answer.

    Raises:
        UserError: the shapes differ.
    """
    largest = error = norm = 0.0
    for batch, right, ours in zip(inputs, expected, exported, strict=True):
        if right.shape != ours.shape:
            raise UserError(f"the export gives logits of shape {ours.shape}, the model {right.shape}")
        if right.ndim == 3:
            real = batch["attention_mask"].astype(bool)
            right, ours = right[real], ours[real]
        gap = ours.astype(np.float64) - right
        largest = max(largest, float(np.abs(gap).max()))
        error += float(np.square(gap).sum())
        norm += float(np.square(right, dtype=np.float64).sum())
    shapes = [list(batch["attention_mask"].shape) for batch in inputs]
    return Difference(largest, float(np.sqrt(error / max(norm, 1e-30))), shapes)


def require(difference: Difference, precision: str, *, where: object) -> None:
    """Raise a `UserError` where the logits differ by more than `TOLERANCE`, or are NaN."""
    if difference.relative <= TOLERANCE[precision]:
        return
    remedy = "report it with the versions of torch and onnx"
    if precision == "int8":
        remedy = "export without --int8"
    raise UserError(
        f"the logits of the {precision} export are off by {difference.relative:.2g} of their norm (largest difference "
        f"{difference.largest:.2g}); {TOLERANCE[precision]:g} is allowed, and nothing was written",
        where=where,
        remedy=remedy,
    )


# Sentences made up for the comparison.
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


def check_inputs(tokenizer: PreTrainedTokenizerFast, config, names: list[str]) -> list[dict[str, np.ndarray]]:
    """Build inputs of several shapes: two short texts, a padded batch, pairs, and a text as long as the model reads.

    Args:
        config: of the model, for its limit.
        names: of the inputs, see `checkpoints.input_names`.

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
