"""Quantize a float32 ONNX model to int8: matrix products by onnxruntime, embedding tables row by row."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compact_biomed.compression.graph import PRODUCTS, classifier_products
from compact_biomed.compression.to_onnx import Difference, compare, quiet, run_onnx
from compact_biomed.console import say


def quantize(
    source: Path, target: Path, inputs: Sequence[dict[str, np.ndarray]], expected: Sequence[np.ndarray]
) -> tuple[Difference, bool]:
    """Write the int8 model whose logits are closest to the expected ones.

    Args:
        source, target: .onnx files.
        inputs, expected: batches and their logits in float32.

    Returns:
        The difference to the expected logits, and whether the scales are per output column.
    """
    import onnx

    model = onnx.load(str(source))
    classifier = classifier_products(model)
    tables = target.with_suffix(".tables.onnx")
    quantize_tables(model)
    onnx.save(model, str(tables))
    candidates = {}
    for per_channel in (True, False):
        path = target.with_suffix(f".{per_channel}.onnx")
        _quantize_products(tables, path, per_channel=per_channel, excluded=classifier)
        difference = compare(inputs, expected, run_onnx(path, inputs))
        candidates[per_channel] = difference, path
        say(f"  int8, one scale per {'column' if per_channel else 'matrix'}: relative error {difference.relative:.2g}")
    best = min(candidates, key=lambda per_channel: candidates[per_channel][0].relative)
    candidates[best][1].replace(target)
    candidates[not best][1].unlink()
    tables.unlink()
    return candidates[best][0], best


def _quantize_products(source: Path, target: Path, *, per_channel: bool, excluded: list[str]) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    options = {"op_types_to_quantize": list(PRODUCTS), "weight_type": QuantType.QInt8, "nodes_to_exclude": excluded}
    with quiet():  # it advises a preparation that torch's exporter has already done
        quantize_dynamic(str(source), str(target), per_channel=per_channel, **options)


def quantize_tables(model) -> None:
    """Replace tables that are looked up row by row with 8-bit integers, in place: row = integers * scale of the row.

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
        integers = np.clip(np.round(rows / scales), -127, 127).astype(np.int8)
        name, result = table.name, node.output[0]
        model.graph.initializer.remove(table)
        model.graph.initializer.extend(
            [numpy_helper.from_array(integers, f"{name}_int8"), numpy_helper.from_array(scales, f"{name}_scales")]
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
