"""Find the classifier and the encoder's last states in an exported graph, whose only output is the logits of a task."""

from pathlib import Path

from compact_biomed.errors import UserError

PRODUCTS = ("MatMul", "Gemm")
_SMALL_CLASSIFIER = 1024  # outputs; a larger last product is a vocabulary head, half of a small model
_PASS_THROUGH = {"Add", "Reshape", "Squeeze", "Identity", "Slice", "Split", "Concat", "Unsqueeze"}
_REMEDY = "embed with the checkpoint that was exported"


def classifier_products(model) -> list[str]:
    """Return the names of the products whose weight has few outputs: the classifier."""
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    last = [node for node in model.graph.node if node.op_type in PRODUCTS and node.input[1] in shapes][-1:]
    small = [node for node in last if min(shapes[node.input[1]]) < _SMALL_CLASSIFIER]
    return [node.name for node in small if _reaches_output(model, node)]


def _reaches_output(model, node) -> bool:
    """Return whether only additions and reshaping separate a node from the output."""
    reached = set(node.output)
    for other in model.graph.node:
        if reached & set(other.input):
            if other.op_type not in _PASS_THROUGH:
                return False
            reached |= set(other.output)
    return any(output.name in reached for output in model.graph.output)


def graph_with_states(path: Path, family: str) -> bytes:
    """Return an ONNX model whose output is the encoder's last states [batch, length, hidden] in place of the logits.

    A head for tokens or answers multiplies the states by a matrix. One for whole texts first picks a token's state.

    Args:
        path: model.onnx of an export.
        family: "token", "sequence" or "span".

    Raises:
        UserError: onnx is missing, or the graph has no such place.
    """
    try:
        import onnx
    except ImportError as error:
        remedy = f"python -m pip install 'compact-biomed[export]', or {_REMEDY}"
        raise UserError("the vectors of an export need the package onnx", where=path, remedy=remedy) from error
    model = onnx.load(str(path))
    name = _input_of_choice(model) if family == "sequence" else _input_of_product(model)
    if name is None:
        raise UserError("its graph does not show where the encoder ends", where=path, remedy=_REMEDY)
    del model.graph.output[:]
    output = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, None, None])
    model.graph.output.append(output)
    return model.SerializeToString()


def _input_of_product(model) -> str | None:
    """Return what the classifier multiplies by its matrix."""
    names = classifier_products(model)
    return next((node.input[0] for node in model.graph.node if node.name in names), None)


def _input_of_choice(model) -> str | None:
    """Return what the last node reads that chooses one position of each text on the way to the output."""
    producers = {output: node for node in model.graph.node for output in node.output}
    waiting, seen = [output.name for output in model.graph.output], set()
    while waiting:
        name = waiting.pop(0)
        node = producers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type == "Gather" and any(each.name == "axis" and each.i == 1 for each in node.attribute):
            return node.input[0]
        waiting += node.input
    return None
