"""Export a checkpoint to ONNX: a folder that runs without this package.

The folder holds the model (`model.onnx`), its tokenizer and configuration, a manifest with labels and checksums, a
script that uses the model (`run.py`), and a README. It is written only if the exported model computes what the PyTorch
model computes.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compact_biomed.benchmarks.expected import has_pairs
from compact_biomed.benchmarks.tags import check_labels
from compact_biomed.checksums import SUMS, write_sums
from compact_biomed.compression import to_onnx, vocabulary
from compact_biomed.compression.manifest import MANIFEST, MODEL, README, RUN, write_manifest
from compact_biomed.compression.pruning.select import without_dead_heads
from compact_biomed.compression.quantize import quantize
from compact_biomed.compression.to_onnx import OPSET, Difference, check_inputs, run_onnx, run_torch
from compact_biomed.console import markdown_table, say, size
from compact_biomed.corpus import pieces, sentences
from compact_biomed.corpus.sources import Sources
from compact_biomed.errors import UserError
from compact_biomed.evaluation.analysis import thresholds
from compact_biomed.evaluation.cards import card_fields, license_words, measured
from compact_biomed.evaluation.saved import saved_record
from compact_biomed.files import atomic_folder, require_writable_at
from compact_biomed.models.cards import base_model_of, check_license, front_matter, read_front_matter
from compact_biomed.models.checkpoints import Checkpoint, input_names, load_with_head
from compact_biomed.models.locate import find_checkpoint
from compact_biomed.models.positions import longest_input
from compact_biomed.records.lines import RECORD_FILE
from compact_biomed.records.provenance import origin


@dataclass(frozen=True)
class Exported:
    """An exported model.

    Args:
        path: the folder.
        size: bytes of its model.onnx.
        difference: of its logits to those of the PyTorch model; `difference.largest` is the largest of one logit.
        manifest: what manifest.json says: labels, inputs, precision, checksums.
    """

    path: Path
    size: int
    difference: Difference
    manifest: dict[str, Any]


def export(
    model: str | Path,
    output: str | Path,
    *,
    int8: bool = False,
    trim_vocabulary: Sources | None = None,
    vocabulary_size: int | None = None,
    license: str | None = None,
) -> Exported:
    """Export a checkpoint to ONNX, compare it with the PyTorch model, and write the folder if the two agree.

    This is what `compact-biomed export` does.

    Args:
        model: a folder or hub name; masked-LM, token or sequence classification, or question answering.
        output: the folder to write; an earlier export there is replaced as a whole.
        int8: quantize weights to 8 bits.
        trim_vocabulary: keep only the entries of the vocabulary that occur in these texts, see `vocabulary.trim`.
        vocabulary_size: keep at most so many of them, the most frequent ones.
        license: of the exported weights, for the card: an identifier such as "apache-2.0" (default: that of the
            checkpoint's card, if it states one).

    Raises:
        UserError: the model cannot be exported or differs by more than `to_onnx.TOLERANCE`, or `output` holds
            something other than an export.
    """
    require_libraries()
    output = Path(output)
    if license is not None:
        check_license(license)
    if os.path.realpath(output) == os.path.realpath(find_checkpoint(str(model))):  # Path.resolve fails on a loop
        raise UserError("this is the checkpoint itself", where=output, remedy="name another folder with --output")
    if output.exists() and not _is_replaceable(output):
        raise UserError("holds something else than an export", where=output, remedy="name another folder with --output")
    require_writable_at(output)
    checkpoint, trimmed = exportable(model), None
    if trim_vocabulary is not None:
        checkpoint, trimmed = vocabulary.trim(checkpoint, trim_vocabulary, size=vocabulary_size)
        vocabulary.report(trimmed)
    exported = write_export(checkpoint, output, int8=int8, trimmed=trimmed, license=license)
    whole = f" (with the whole vocabulary {size(_untrimmed_size(output / MODEL, trimmed))})" if trimmed else ""
    say(f"{output}: {size(exported.size)}{whole}")
    say(f"Next: python {output / RUN} {_use(exported.manifest)[1]}")
    if (output / RECORD_FILE).is_file():
        say(f"Its score on the test set: compact-biomed score --model {output}")
    return exported


def exportable(model: str | Path) -> Checkpoint:
    """Open a checkpoint that is to be exported.

    Raises:
        UserError: it cannot be opened, or has labels that an export cannot name.
    """
    checkpoint = load_with_head(str(model))
    if checkpoint.family == "token":
        check_labels(checkpoint.labels, where=checkpoint.name)
    return checkpoint


def write_export(
    checkpoint: Checkpoint,
    output: Path,
    *,
    int8: bool,
    trimmed: vocabulary.Trimmed | None = None,
    license: str | None = None,
) -> Exported:
    """Write the folder of an export, if it agrees with the PyTorch model; dead heads are removed from that in place.

    Args:
        trimmed: what was cut off the checkpoint's vocabulary.
        license: see `export`.
    """
    with atomic_folder(output) as temporary:
        summary, difference = _write_model(checkpoint, temporary / MODEL, int8=int8)
        if trimmed:
            summary["vocabulary"] = trimmed.recorded()
        manifest = _write_companions(temporary, checkpoint, summary, license)
        write_sums(temporary)
    return Exported(output, (output / MODEL).stat().st_size, difference, manifest)


def require_libraries() -> None:
    """Raise a `UserError` unless the packages that an export needs are installed."""
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UserError(f"export needs {', '.join(missing)}", remedy="python -m pip install 'compact-biomed[export]'")


def _is_replaceable(output: Path) -> bool:
    """Return whether the folder holds nothing but an earlier export."""
    return output.is_dir() and ((output / MANIFEST).is_file() or not any(output.iterdir()))


def _write_model(checkpoint: Checkpoint, path: Path, *, int8: bool) -> tuple[dict[str, Any], Difference]:
    """Write the .onnx file and return what the manifest says about it. Removes dead heads from the model in place."""
    inputs = check_inputs(checkpoint.tokenizer, checkpoint.model.config, input_names(checkpoint.model))
    expected = run_torch(checkpoint, inputs)
    removed_heads = without_dead_heads(checkpoint.model)
    if removed_heads:
        say(f"Removed {removed_heads} pruned attention heads, whose weights are zeros")
    exporter = to_onnx.write_onnx(checkpoint, path, example=inputs[2])
    difference = to_onnx.compare(inputs, expected, run_onnx(path, inputs))
    _accept(difference, "fp32", exporter, checkpoint.name)
    summary = {"precision": "fp32", "exporter": exporter, "opset": OPSET, "removed_heads": removed_heads}
    if int8:
        fp32 = path.with_name("fp32.onnx")
        path.replace(fp32)
        difference, per_channel = quantize(fp32, path, inputs, expected)
        fp32.unlink()
        _accept(difference, "int8", exporter, checkpoint.name)
        summary |= {"precision": "int8", "per_channel": per_channel}
    return summary | {"difference": asdict(difference)}, difference


def _untrimmed_size(path: Path, trimmed: vocabulary.Trimmed) -> int:
    """Return the bytes that a model.onnx would have if no row of its vocabulary had been cut."""
    import onnx

    kept = len(trimmed.kept)
    tensors = [tensor for tensor in onnx.load(str(path)).graph.initializer if kept in tensor.dims]
    rows = sum(len(tensor.raw_data) for tensor in tensors) / kept
    return path.stat().st_size + round(rows * (trimmed.of - kept))


def _accept(difference: Difference, precision: str, exporter: str, checkpoint: str) -> None:
    """Report a difference and raise a `UserError` if it is too large."""
    shapes = ", ".join(f"{rows} x {length}" for rows, length in difference.shapes)
    say(
        f"{precision} by {exporter}: largest difference to PyTorch {difference.largest:.2g}, relative "
        f"{difference.relative:.2g} (allowed {to_onnx.TOLERANCE[precision]:g}), inputs of {shapes}"
    )
    to_onnx.require(difference, precision, where=checkpoint)


# ---- files next to model.onnx

_USES = {  # family, or "pair" -> what the model returns, and arguments of run.py to try
    "mlm": ("the masked words of a text", '"Aspirin lowers [MASK]."'),
    "token": ("the entities of a text", '"She was treated for ovarian cancer."'),
    "sequence": ("the class of a text", '"She was treated for ovarian cancer."'),
    "pair": ("the class of a pair of texts", '"Zinc shortens a cold." "A cold lasts less long with zinc."'),
    "span": ("the answer to a question about a text", '"What was it?" "It was a fever."'),
}


def _use(manifest: Mapping[str, Any]) -> tuple[str, str]:
    return _USES["pair" if manifest.get("pairs") else manifest["family"]]


def _write_companions(
    folder: Path, checkpoint: Checkpoint, summary: dict[str, Any], license: str | None
) -> dict[str, Any]:
    """Write everything that an exported model needs besides its weights, and return the manifest.

    Args:
        folder: holds `MODEL`.
        summary: of `_write_model`, for the manifest.
        license: see `export`.
    """
    config = checkpoint.model.config
    checkpoint.tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)
    (folder / RUN).write_text(run_script(), encoding="utf-8")
    record = saved_record(Path(checkpoint.name))
    if "task" in record:
        shutil.copyfile(Path(checkpoint.name) / RECORD_FILE, folder / RECORD_FILE)  # `score` reads the task from it
    pairs = has_pairs(record.get("task", {}))
    content = {
        "family": checkpoint.family,
        "labels": checkpoint.labels,
        "problem_type": config.problem_type,
        "inputs": input_names(checkpoint.model),
        "max_length": longest_input(config) or 512,
        "mask": checkpoint.tokenizer.mask_token,
        "unknown": checkpoint.tokenizer.unk_token_id,
        "parameters": sum(p.numel() for p in checkpoint.model.parameters()),
        **summary,
        **({"thresholds": record["thresholds"]} if "thresholds" in record else {}),
        **({"pairs": pairs} if pairs is not None and checkpoint.family == "sequence" else {}),
        "from": origin(),
    }
    (folder / README).write_text(_readme(checkpoint, content, record, license), encoding="utf-8")
    return write_manifest(folder, content)


def run_script() -> str:
    """Return run.py of an exported folder: in place of its imports from this package stand the modules themselves."""
    lines = (Path(__file__).with_name("standalone") / RUN).read_text(encoding="utf-8").splitlines(keepends=True)
    modules = (pieces, sentences, thresholds)
    shared = {f"from {each.__name__} ": Path(each.__file__).read_text(encoding="utf-8") for each in modules}
    return "".join(next((shared[name] for name in shared if line.startswith(name)), line) for line in lines)


def _readme(checkpoint: Checkpoint, manifest: dict[str, Any], record: Mapping[str, Any], license: str | None) -> str:
    returns, example = _use(manifest)
    labels = f"Labels: {', '.join(manifest['labels'])}.\n" if manifest["labels"] else ""
    if cut := manifest.get("vocabulary"):
        labels += (
            f"Its vocabulary was cut to {cut['kept']:,} of {cut['of']:,} entries, those that occur in {cut['texts']:,} "
            "texts:\nother words are read in smaller pieces.\n"
        )
    inputs = ", ".join(f"`{name}`" for name in manifest["inputs"])
    difference = manifest["difference"]
    source = read_front_matter(checkpoint.name) if Path(checkpoint.name).is_dir() else {}
    license = license or source.get("license")
    title = f"A {checkpoint.model.config.model_type} in ONNX, {manifest['precision']}"
    return f"""{_front_matter(checkpoint, manifest, record, license)}
# {title}

Returns {returns}. {labels}
```
pip install onnxruntime tokenizers numpy
python {RUN} {example}
```

`{RUN}` is the only code you need; it reads `{MODEL}`, `tokenizer.json` and `{MANIFEST}`.
Inputs: {inputs}, int64 [batch, length], at most {manifest["max_length"]} tokens long.
Output: `logits`, float32. Largest difference of a logit to the PyTorch model at export:
{difference["largest"]:.2g} (relative {difference["relative"]:.2g}). `{MANIFEST}` holds the sha256 of each file.

For long texts, character offsets, BRAT and CoNLL: `compact-biomed predict --model THIS_FOLDER FILE`.
{_INT8_NOTE if manifest["precision"] == "int8" else ""}{_scores(record)}
License: {license_words(license)}
`sha256sum -c {SUMS}` checks the files.
"""


def _front_matter(
    checkpoint: Checkpoint, manifest: dict[str, Any], record: Mapping[str, Any], license: str | None
) -> str:
    scored = "task" in record and "metrics" in record
    fields = card_fields(record) if scored else {"base_model": base_model_of(checkpoint.name), "tags": []}
    tags = [*fields["tags"], "onnx", manifest["precision"]]
    name = record["model"]["name"] if scored else None
    scores = measured([record], "before the export") if scored else []
    fields |= {"library_name": "onnx", "license": license, "tags": tags}
    return front_matter(**fields, name=name, measured=scores)


def _scores(record: Mapping[str, Any]) -> str:
    """Return what is known of the scores: those of the checkpoint, and how to measure those of the export."""
    if "task" not in record or "metrics" not in record:
        return ""
    rows = [(name, f"{value:.2f}") for name, value in record["metrics"].items()]
    table = markdown_table((f"{record['task']['name']}, test set, before the export", "percent"), rows)
    return f"\n{table}\n`compact-biomed score --model THIS_FOLDER` measures those of the export.\n"


_INT8_NOTE = """
Run one text at a time, as `run.py` does: in int8, activations are quantized by the range of the whole batch, so an
answer depends on the texts that are computed with it.
"""
