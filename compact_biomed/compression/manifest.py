"""The manifest of an exported folder: what its model takes and returns, and the sha256 of every other file.

A folder is used only as it was written. Whatever is read or run belongs to it: model, external data, tokenizer,
configuration, labels, run.py. A file that was changed, is missing or came later is refused, because transformers reads
files by their names alone: an added tokenizer file would change predictions without a word.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Required, TypedDict

from compact_biomed.checksums import SUMS
from compact_biomed.errors import UserError, no_file
from compact_biomed.files import sha256_file, sha256_json, write_json
from compact_biomed.records.shapes import AtLeastOne, Thresholds
from compact_biomed.settings import check, read_json

MODEL, MANIFEST, RUN, README = "model.onnx", "manifest.json", "run.py", "README.md"
FORMAT = "compact-biomed-onnx-2"
_UNSEALED = "compact-biomed-onnx-1"  # by earlier versions: nothing covers the manifest itself
_SEAL = "manifest_sha256"
_FAMILIES = ("mlm", "token", "sequence", "span")
_PRECISIONS = ("fp32", "int8")
_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_REMEDY = "export the model again"


class _Manifest(TypedDict, total=False):
    """Entries of a manifest that are read."""

    family: Required[str]
    labels: Required[list[str]]
    problem_type: Required[str | None]
    inputs: Required[list[str]]
    max_length: Required[AtLeastOne]
    precision: Required[str]
    sha256: Required[dict[str, str]]
    pairs: bool | None
    thresholds: Thresholds


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
    manifest = read_json(path, dict[str, Any], remedy=_REMEDY)
    _check(manifest, path)
    sums = manifest["sha256"]
    for name in {MODEL, "tokenizer.json", *sums} - {README}:
        if not (folder / name).is_file() or sha256_file(folder / name) != sums.get(name):
            raise UserError("not the file that was exported", where=folder / name, remedy=_REMEDY)
    for entry in sorted(folder.iterdir()):
        # run.py, imported, leaves a __pycache__; hidden files are the system's.
        if entry.name not in {MANIFEST, README, SUMS, "__pycache__", *sums} and not entry.name.startswith("."):
            raise UserError("not part of the export", where=entry, remedy="move it to another folder")
    return manifest


def _check(manifest: dict[str, Any], path: Path) -> None:
    """Raise a `UserError` if this is not a manifest as it was written."""
    if (form := manifest.get("format")) not in (FORMAT, _UNSEALED):
        raise UserError(f"not the manifest of an export: format {str(form)[:60]}", where=path, remedy=_REMEDY)
    check(manifest, _Manifest, where=path, remedy=_REMEDY)
    for name, known in {
        "family": manifest["family"] in _FAMILIES,
        "precision": manifest["precision"] in _PRECISIONS,
        "inputs": {"input_ids"} <= set(manifest["inputs"]) <= _INPUTS,
    }.items():
        if not known:
            raise UserError(f"unknown {name} {repr(manifest[name])[:60]}", where=path, remedy=_REMEDY)
    content = {name: value for name, value in manifest.items() if name != _SEAL}
    if form == FORMAT and manifest.get(_SEAL) != sha256_json(content):
        raise UserError("not the manifest of an export: it was changed", where=path, remedy=_REMEDY)
