"""A folder that `datasets.load_from_disk` opens, put together from finished pieces."""

import os
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from compact_biomed.corpus.documents import DocumentStore
from compact_biomed.corpus.store import READER_VERSION, read_json
from compact_biomed.corpus.tokenize import SPLITS, TOKENS_VERSION, Settings, Stretch, schema
from compact_biomed.corpus.vocabulary import Vocabulary
from compact_biomed.errors import UserError
from compact_biomed.files import write_json

RECORD = "corpus.json"
UNIGRAM = "unigram.npy"


def assemble(
    folder: Path,
    store: DocumentStore,
    tasks: Sequence[Stretch],
    vocabulary: Vocabulary,
    settings: Settings,
    fingerprint: str,
) -> None:
    """Fill an empty folder with `train/`, `heldout/`, `unigram.npy` and `corpus.json`.

    Raises:
        UserError: no abstract in the whole corpus, or a split without documents.
    """
    counts = _add_up(tasks)
    _check_counts(counts, store, settings)
    files: dict[str, int] = {}
    for split in SPLITS:
        if counts[split]["documents"]:
            files |= _write_split(folder, split, tasks, vocabulary, settings, fingerprint)
    unigram = np.zeros(vocabulary.size, np.int64)
    for task in tasks:
        unigram += np.load(task.folder / UNIGRAM)
    np.save(folder / UNIGRAM, unigram)
    record = {
        "fingerprint": fingerprint,
        "documents": {**store.merged.counts, **counts["dropped"]},
        "train": counts["train"],
        "heldout": counts["heldout"],
        **({"decontamination": store.screened.record} if store.screened else {}),
        "settings": dict(vars(settings)),
        "tokenizer": {"sha256": vocabulary.sha256, "size": vocabulary.size},
        "sources": [_source(file, store) for file in store.files],
        "versions": {
            "reader": READER_VERSION,
            "tokens": TOKENS_VERSION,
            **{package: version(package) for package in ("lxml", "tokenizers", "pyarrow")},
        },
        "files": files,
    }
    write_json(folder / RECORD, record)


def is_made(folder: Path, fingerprint: str) -> bool:
    """Whether this very set stands in the folder, none of its files missing or cut off."""
    record = read_json(folder / RECORD) if folder.is_dir() else None
    if record is None or record.get("fingerprint") != fingerprint:
        return False
    try:
        return all((folder / name).stat().st_size == size for name, size in record["files"].items())
    except OSError:
        return False


def check_replaceable(folder: Path) -> None:
    """Stop before anything is overwritten that is not a tokenized set.

    Raises:
        UserError: `folder` is a file, or a folder with anything else in it.
    """
    if folder.is_dir():
        others = {item.name for item in folder.iterdir()} - {*SPLITS, UNIGRAM, RECORD}
        if others or (any(folder.iterdir()) and not (folder / RECORD).exists()):
            raise UserError("the folder holds something else", where=folder, remedy="name a new or empty folder")
    elif folder.exists():
        raise UserError("a file stands where a folder is needed", where=folder, remedy="name a new or empty folder")


def _add_up(tasks: Sequence[Stretch]) -> dict[str, dict[str, int]]:
    total: dict[str, dict[str, int]] = {}
    for task in tasks:
        for part, counts in (read_json(task.folder / "counts.json") or {}).items():
            into = total.setdefault(part, dict.fromkeys(counts, 0))
            for name, value in counts.items():
                into[name] += value
    return total


def _check_counts(counts: dict[str, dict[str, int]], store: DocumentStore, settings: Settings) -> None:
    where = ", ".join(file.source.name for file in store.files[:3])
    train, heldout = counts["train"]["documents"], counts["heldout"]["documents"]
    if train + heldout == 0:
        if settings.require_abstract and counts["dropped"]["without_abstract"]:
            raise UserError(
                f"none of {len(store)} documents has an abstract", where=where, remedy="--keep-title-only keeps titles"
            )
        raise UserError("no document has any text", where=where, remedy="are these the right files?")
    for split, found in (("train", train), ("held-out", heldout)):
        if found == 0 and (split == "train" or settings.heldout_fraction > 0):
            raise UserError(
                f"no {split} document among {train + heldout} at a held-out share of {settings.heldout_fraction}",
                where=where,
                remedy="bring more documents, or choose another --heldout",
            )


def _write_split(
    folder: Path, split: str, tasks: Sequence[Stretch], vocabulary: Vocabulary, settings: Settings, fingerprint: str
) -> dict[str, int]:
    import datasets

    target = folder / split
    target.mkdir()
    pieces = [piece for task in tasks if (piece := task.folder / f"{split}.arrow").exists()]
    names = [f"data-{number:05d}-of-{len(pieces):05d}.arrow" for number in range(len(pieces))]
    for piece, name in zip(pieces, names, strict=True):
        _link(piece, target / name)
    features = datasets.Features.from_arrow_schema(schema(vocabulary, settings))
    datasets.DatasetInfo(features=features).write_to_directory(str(target))
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": fingerprint[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    write_json(target / "state.json", state)
    return {f"{split}/{name}": (target / name).stat().st_size for name in names}


def _link(piece: Path, target: Path) -> None:
    """Give a finished piece a second name, so that a set costs no disk beyond its pieces; copy across disks."""
    try:
        os.link(piece, target)
    except OSError:
        shutil.copyfile(piece, target)


def _source(file, store: DocumentStore) -> dict[str, Any]:
    entry = {"name": file.source.name, "kind": file.source.kind, "sha256": file.sha256, "bytes": file.size}
    if file.sha256 in store.broken:
        entry["skipped"] = store.broken[file.sha256]
    return entry
