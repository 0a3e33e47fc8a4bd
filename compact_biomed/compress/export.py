"""`compact-biomed export`: a checkpoint becomes a folder that runs by itself."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compact_biomed.compress import to_onnx
from compact_biomed.compress.pruning.select import without_dead_heads
from compact_biomed.compress.quantize import quantize
from compact_biomed.compress.to_onnx import OPSET, batches, run_onnx, run_torch, write_onnx
from compact_biomed.console import say, size
from compact_biomed.errors import UserError
from compact_biomed.evaluation.runs import RECORD
from compact_biomed.files import atomic_folder, sha256_file, write_json
from compact_biomed.models.checkpoints import Checkpoint, input_names, load_with_head, longest_input
from compact_biomed.records import origin

# ----------------------------------------------------------------------------------------------------
# What lies beside model.onnx: tokenizer, labels, checksums, and how to run it without this package.


MODEL, MANIFEST, RUN = "model.onnx", "manifest.json", "run.py"
FORMAT = "compact-biomed-onnx-1"
_ASKED = {
    "mlm": ("what the masked words of a text are", '"Aspirin lowers [MASK]."'),
    "token": ("the entities of a text", '"She was treated for ovarian cancer."'),
    "sequence": ("the class of a text, or of a pair of texts", '"She was treated for ovarian cancer."'),
    "span": ("the answer to a question in a text", '"What was it?" "It was a fever."'),
}


def complete(folder: Path, checkpoint: "Checkpoint", made: dict[str, Any]) -> dict[str, Any]:
    """Write all that an exported model needs besides its weights.

    Args:
        folder: holds `MODEL`.
        made: how it was made, for the manifest.

    Returns:
        The manifest.
    """

    config = checkpoint.model.config
    checkpoint.tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)
    shutil.copyfile(Path(__file__).with_name("standalone") / f"{checkpoint.family}.py", folder / RUN)
    if (record := Path(checkpoint.name) / RECORD).is_file():
        shutil.copyfile(record, folder / RECORD)  # `compact-biomed score` asks it for the task
    manifest = {
        "format": FORMAT,
        "family": checkpoint.family,
        "labels": labels_of(config, checkpoint.family),
        "problem_type": config.problem_type,
        "inputs": input_names(checkpoint.model),
        "max_length": longest_input(config) or 512,
        "mask": checkpoint.tokenizer.mask_token,
        "parameters": sum(p.numel() for p in checkpoint.model.parameters()),
        **made,
        "from": origin(),
    }
    (folder / "README.md").write_text(_readme(checkpoint, manifest), encoding="utf-8")
    files = sorted(file for file in folder.iterdir() if file.is_file())
    manifest["sha256"] = {file.name: sha256_file(file) for file in files}
    write_json(folder / MANIFEST, manifest)
    return manifest


def labels_of(config, family: str) -> list[str]:
    """Names of the outputs in their order; none for a masked-LM, whose outputs are the vocabulary."""
    if family == "mlm":
        return []
    return ["start", "end"] if family == "span" else [config.id2label[i] for i in range(config.num_labels)]


def _readme(checkpoint: "Checkpoint", manifest: dict[str, Any]) -> str:
    asked, example = _ASKED[checkpoint.family]
    labels = f"Labels: {', '.join(manifest['labels'])}.\n" if manifest["labels"] else ""
    inputs = ", ".join(f"`{name}`" for name in manifest["inputs"])
    difference = manifest["difference"]
    return f"""# A {checkpoint.model.config.model_type} in ONNX, {manifest["precision"]}

Says {asked}. {labels}
```
pip install onnxruntime tokenizers numpy
python {RUN} {example}
```

`{RUN}` is all that is needed to use it; it reads `{MODEL}`, `tokenizer.json` and `{MANIFEST}`.
Inputs: {inputs}, int64 [batch, length], at most {manifest["max_length"]} long.
Output: `logits`, float32. Largest difference of a logit to the PyTorch model when it was made:
{difference["largest"]:.2g} (relative {difference["relative"]:.2g}). `{MANIFEST}` holds the sha256 of each file.

Long texts, character offsets, BRAT and CoNLL: `compact-biomed predict --model THIS_FOLDER FILE`.
{_ALONE if manifest["precision"] == "int8" else ""}"""


_ALONE = """
Run one text at a time, as `run.py` does: activations are quantized by the range of the whole batch, so in int8
an answer depends on its company.
"""


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
    checkpoint = load_with_head(name)
    if output.resolve() == Path(checkpoint.name).resolve():
        raise UserError("this is the checkpoint itself", where=output, remedy="name another folder with --output")
    if output.exists() and not _may_go(output):
        raise UserError("holds something else than an export", where=output, remedy="name another folder with --output")
    with atomic_folder(output) as temporary:
        made = _write_model(checkpoint, temporary / MODEL, int8=int8)
        manifest = complete(temporary, checkpoint, made)
    say(f"{output}: {size((output / MODEL).stat().st_size)}; try: python {output / RUN} ...")
    return manifest


def _may_go(output: Path) -> bool:
    """Whether nothing but an earlier export is lost with it."""
    return output.is_dir() and ((output / MANIFEST).is_file() or not any(output.iterdir()))


def _write_model(checkpoint: Checkpoint, path: Path, *, int8: bool) -> dict[str, Any]:
    """Write the .onnx file; what the manifest says of it. The model loses its dead heads."""

    inputs = batches(checkpoint.tokenizer, checkpoint.model.config, input_names(checkpoint.model))
    expected = run_torch(checkpoint, inputs)
    if heads := without_dead_heads(checkpoint.model):
        say(f"{heads} attention heads are pruned, as zeros, and are taken out")
    exporter = write_onnx(checkpoint, path, example=inputs[2])
    found = to_onnx.compare(inputs, expected, run_onnx(path, inputs))
    _tell(found, "fp32", exporter)
    to_onnx.require(found, "fp32", where=checkpoint.name)
    made = {"precision": "fp32", "exporter": exporter, "opset": OPSET, "removed_heads": heads}
    if int8:
        whole = path.with_name("fp32.onnx")
        path.replace(whole)
        found, per_channel = quantize(whole, path, inputs, expected)
        whole.unlink()
        _tell(found, "int8", exporter)
        to_onnx.require(found, "int8", where=checkpoint.name)
        made |= {"precision": "int8", "per_channel": per_channel}
    return made | {"difference": vars(found)}


def _tell(found: to_onnx.Difference, precision: str, exporter: str) -> None:
    shapes = ", ".join(f"{rows} x {length}" for rows, length in found.shapes)
    say(
        f"{precision} by {exporter}: largest difference to PyTorch {found.largest:.2g}, relative {found.relative:.2g} "
        f"(allowed {to_onnx.TOLERANCE[precision]:g}), inputs of {shapes}"
    )


def _need_libraries() -> None:
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UserError(f"export needs {', '.join(missing)}", remedy="python -m pip install 'compact-biomed[export]'")
