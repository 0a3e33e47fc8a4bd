"""float32 ONNX -> int8: matrix products by onnxruntime's dynamic quantization, embeddings row by row.

Weights of matrix products become signed 8-bit integers, with a scale for each output column where that is
nearer to the original; activations are quantized when they come, by their own range. A table of embeddings
has a scale for each row: one for the whole table would be that of its largest row. The classifier stays in
float32: it is tiny, and its logits are the answer.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compact_biomed.compress.to_onnx import Difference, compare, quiet, run_onnx
from compact_biomed.console import say

_PRODUCTS = ("MatMul", "Gemm")
_SMALL_CLASSIFIER = 1024  # outputs; above, the last product is a vocabulary head, half of a small model


def quantize(
    source: Path, target: Path, inputs: Sequence[dict[str, np.ndarray]], expected: Sequence[np.ndarray]
) -> tuple[Difference, bool]:
    """Write the int8 model whose logits are nearest to the expected ones.

    Args:
        source, target: .onnx files.
        inputs, expected: batches and their logits in float32.

    Returns:
        How far it is from the expected logits, and whether the scales are per output column.
    """
    import onnx

    source_model = onnx.load(str(source))
    kept = _classifier_products(source_model)
    tables = target.with_suffix(".tables.onnx")
    quantize_tables(source_model)
    onnx.save(source_model, str(tables))
    tried = {}
    for per_channel in (True, False):
        candidate = target.with_suffix(f".{per_channel}.onnx")
        _quantize_products(tables, candidate, per_channel=per_channel, leave=kept)
        tried[per_channel] = compare(inputs, expected, run_onnx(candidate, inputs)), candidate
        each = "column" if per_channel else "matrix"
        say(f"  int8, one scale a {each}: relative error {tried[per_channel][0].relative:.2g}")
    best = min(tried, key=lambda which: tried[which][0].relative)
    tried[best][1].replace(target)
    tried[not best][1].unlink()
    tables.unlink()
    return tried[best][0], best


def _quantize_products(source: Path, target: Path, *, per_channel: bool, leave: list[str]) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():  # it advises a preparation that torch's exporter has done
        quantize_dynamic(
            str(source), str(target), op_types_to_quantize=list(_PRODUCTS), per_channel=per_channel,
            weight_type=QuantType.QInt8, nodes_to_exclude=leave,
        )  # fmt: skip


def _classifier_products(model) -> list[str]:
    """Names of the products whose weight has few outputs: the classifier."""
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    last = [node for node in model.graph.node if node.op_type in _PRODUCTS and node.input[1] in shapes][-1:]
    return [node.name for node in last if min(shapes[node.input[1]]) < _SMALL_CLASSIFIER and _ends(model, node)]


def _ends(model, node) -> bool:
    """Whether nothing but additions and reshaping stands between a node and the output."""
    reached = set(node.output)
    for other in model.graph.node:
        if reached & set(other.input):
            if other.op_type not in ("Add", "Reshape", "Squeeze", "Identity", "Slice", "Split", "Concat", "Unsqueeze"):
                return False
            reached |= set(other.output)
    return any(output.name in reached for output in model.graph.output)


def quantize_tables(model) -> None:
    """Make the tables that are looked up row by row 8-bit integers, in place: rows * scales of rows.

    A table that something else reads too (a vocabulary head that shares the embedding) stays as it is.
    """
    from onnx import helper, numpy_helper

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    readers: dict[str, list] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    nodes = []
    for node in model.graph.node:
        table = tensors.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or len(table.dims) != 2 or len(readers[table.name]) > 1 or _axis(node) != 0:
            nodes.append(node)
            continue
        rows = numpy_helper.to_array(table)
        if rows.dtype != np.float32:
            nodes.append(node)
            continue
        scales = np.maximum(np.abs(rows).max(1, keepdims=True) / 127, np.finfo(np.float32).tiny).astype(np.float32)
        whole = np.clip(np.round(rows / scales), -127, 127).astype(np.int8)
        name, result = table.name, node.output[0]
        model.graph.initializer.remove(table)
        model.graph.initializer.extend(
            [numpy_helper.from_array(whole, f"{name}_int8"), numpy_helper.from_array(scales, f"{name}_scales")]
        )
        nodes += [
            helper.make_node("Gather", [f"{name}_int8", node.input[1]], [f"{result}_int8"], axis=0),
            helper.make_node("Cast", [f"{result}_int8"], [f"{result}_whole"], to=1),
            helper.make_node("Gather", [f"{name}_scales", node.input[1]], [f"{result}_scales"], axis=0),
            helper.make_node("Mul", [f"{result}_whole", f"{result}_scales"], [result]),
        ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _axis(gather) -> int:
    return next((attribute.i for attribute in gather.attribute if attribute.name == "axis"), 0)
