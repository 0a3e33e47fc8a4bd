"""`compact-biomed export`: a checkpoint becomes a folder that runs by itself."""

from pathlib import Path
from typing import Any

from compact_biomed.compress import check, folder
from compact_biomed.compress.checkpoint import Checkpoint, input_names, load
from compact_biomed.compress.inputs import batches
from compact_biomed.console import say, size
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_folder


def export(name: str, output: Path | str, *, int8: bool = False) -> dict[str, Any]:
    """Export a checkpoint to ONNX, hold it to the PyTorch model, and write the folder if it agrees.

    Args:
        name: a folder or hub name; masked-LM, token or sequence classification, or question answering.
        output: the folder; an export that stands there is replaced as a whole.
        int8: quantize.

    Returns:
        The manifest.

    Raises:
        UserError: it cannot be exported, differs by more than `check.TOLERANCE`, or something else stands there.
    """
    _need_libraries()
    output = Path(output)
    checkpoint = load(name)
    if output.resolve() == Path(checkpoint.name).resolve():
        raise UserError("this is the checkpoint itself", where=output, remedy="name another folder with --output")
    if output.exists() and not _may_go(output):
        raise UserError("holds something else than an export", where=output, remedy="name another folder with --output")
    with atomic_folder(output) as temporary:
        made = _write_model(checkpoint, temporary / folder.MODEL, int8=int8)
        manifest = folder.complete(temporary, checkpoint, made)
    say(f"{output}: {size((output / folder.MODEL).stat().st_size)}; try: python {output / folder.RUN} ...")
    return manifest


def _may_go(output: Path) -> bool:
    """Whether nothing but an earlier export is lost with it."""
    return output.is_dir() and ((output / folder.MANIFEST).is_file() or not any(output.iterdir()))


def _write_model(checkpoint: Checkpoint, path: Path, *, int8: bool) -> dict[str, Any]:
    """Write the .onnx file; what the manifest says of it. The model loses its dead heads."""
    from compact_biomed.compress.pruning.structured import without_dead_heads
    from compact_biomed.compress.quantize import quantize
    from compact_biomed.compress.to_onnx import OPSET, run_onnx, run_torch, write_onnx

    inputs = batches(checkpoint.tokenizer, checkpoint.model.config, input_names(checkpoint.model))
    expected = run_torch(checkpoint, inputs)
    if heads := without_dead_heads(checkpoint.model):
        say(f"{heads} attention heads are pruned, as zeros, and are taken out")
    exporter = write_onnx(checkpoint, path, example=inputs[2])
    found = check.compare(inputs, expected, run_onnx(path, inputs))
    _tell(found, "fp32", exporter)
    check.require(found, "fp32", where=checkpoint.name)
    made = {"precision": "fp32", "exporter": exporter, "opset": OPSET, "removed_heads": heads}
    if int8:
        whole = path.with_name("fp32.onnx")
        path.replace(whole)
        found, per_channel = quantize(whole, path, inputs, expected)
        whole.unlink()
        _tell(found, "int8", exporter)
        check.require(found, "int8", where=checkpoint.name)
        made |= {"precision": "int8", "per_channel": per_channel}
    return made | {"difference": vars(found)}


def _tell(found: check.Difference, precision: str, exporter: str) -> None:
    shapes = ", ".join(f"{rows} x {length}" for rows, length in found.shapes)
    say(
        f"{precision} by {exporter}: largest difference to PyTorch {found.largest:.2g}, relative {found.relative:.2g} "
        f"(allowed {check.TOLERANCE[precision]:g}), inputs of {shapes}"
    )


def _need_libraries() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UserError(f"export needs {', '.join(missing)}", remedy="python -m pip install 'compact-biomed[export]'")
