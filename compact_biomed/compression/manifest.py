"""The manifest of an exported folder: what its model takes and returns, and the sha256 of every other file.

A folder is used only as it was written. Whatever is read or run belongs to it: model, external data, tokenizer,
configuration, labels, run.py. A file that was changed, is missing or came later is refused, because transformers reads
files by their names alone: an added tokenizer file would change predictions without a word.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compact_biomed.checksums import SUMS
from compact_biomed.errors import UserError, no_file
from compact_biomed.files import sha256_file, sha256_json, write_json
from compact_biomed.record_shapes import Thresholds
from compact_biomed.settings import check

MODEL, MANIFEST, RUN, README = "model.onnx", "manifest.json", "run.py", "README.md"
FORMAT = "compact-biomed-onnx-2"
_UNSEALED = "compact-biomed-onnx-1"  # by earlier versions: nothing covers the manifest itself
_SEAL = "manifest_sha256"
_FAMILIES = ("mlm", "token", "sequence", "span")
_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_REMEDY = "export the model again"


def is_exported(folder: Path | str) -> bool:
    """Return whether this is a folder of `compact-biomed export`, if only by a model that no checkpoint explains."""
    folder = Path(folder)
    if (folder / MANIFEST).exists():
        return True
    return (folder / MODEL).exists() and not any(folder.glob("*.safetensors"))


def write_manifest(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write the manifest of a folder whose other files are all there; return it.

    Args:
        content: what `read_manifest` checks, and whatever else should be known of the model.
    """
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name != SUMS)
    manifest = {"format": FORMAT, **content, "sha256": {file.name: sha256_file(file) for file in files}}
    manifest[_SEAL] = sha256_json(manifest)
    write_json(folder / MANIFEST, manifest)
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of an exported folder, and check it and all files of the folder.

    Returns:
        The manifest, with `family`, `labels`, `problem_type`, `inputs`, `max_length` and `precision`; `thresholds` if
        some were chosen on dev; `pairs` if it is known whether the model reads one text or two.

    Raises:
        UserError: it is not what was written, or a file of the folder was changed, removed or added.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise no_file(path, _REMEDY)
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        _check(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"not the manifest of an export: {error}", where=path, remedy=_REMEDY) from error
    if "thresholds" in manifest:
        check(manifest["thresholds"], Thresholds, where=f"{path}: thresholds", remedy=_REMEDY)
    sums = manifest["sha256"]
    for name in {MODEL, "tokenizer.json", *sums} - {README}:
        if not (folder / name).is_file() or sha256_file(folder / name) != sums.get(name):
            raise UserError("not the file that was exported", where=folder / name, remedy=_REMEDY)
    for entry in sorted(folder.iterdir()):
        # run.py, imported, leaves a __pycache__; hidden files are the system's.
        if entry.name not in {MANIFEST, README, SUMS, "__pycache__", *sums} and not entry.name.startswith("."):
            raise UserError("not part of the export", where=entry, remedy="move it to another folder")
    return manifest


def _check(manifest: dict[str, Any]) -> None:
    """Raise an error of any kind if this is not a manifest."""
    if manifest["format"] not in (FORMAT, _UNSEALED):
        raise ValueError(f"format {manifest['format']}")
    missing = {"labels", "problem_type", "inputs", "max_length", "precision", "sha256"} - manifest.keys()
    if missing:
        raise ValueError(f"lacks {', '.join(sorted(missing))}")
    if manifest["family"] not in _FAMILIES:
        raise ValueError(f"unknown family {manifest['family']!r}")
    for name, right in {
        "labels": _is_texts(manifest["labels"]),
        "problem_type": isinstance(manifest["problem_type"], str | None),
        "inputs": _is_texts(manifest["inputs"]) and {"input_ids"} <= set(manifest["inputs"]) <= _INPUTS,
        "max_length": type(manifest["max_length"]) is int and manifest["max_length"] > 0,
        "precision": manifest["precision"] in ("fp32", "int8"),
        "pairs": isinstance(manifest.get("pairs"), bool | None),
        "sha256": _is_texts([*manifest["sha256"].keys(), *manifest["sha256"].values()]),
    }.items():
        if not right:
            raise ValueError(f"unknown {name} {str(manifest.get(name))[:60]}")
    if manifest["format"] == FORMAT and manifest.get(_SEAL) != sha256_json(
        {name: value for name, value in manifest.items() if name != _SEAL}
    ):
        raise ValueError("it was changed")


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
