"""Build a tokenized corpus that `datasets` opens: sources -> documents -> token ids, with a held-out split.

Every finished step is cached, so that an interrupted build continues where it stopped.
"""

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

import datasets
import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from compact_biomed.corpus.cache import (
    READER_VERSION,
    Counts,
    HashedFile,
    corpus_cache,
    read_cached_json,
    remove_leftovers,
)
from compact_biomed.corpus.decontaminate import Blocklist
from compact_biomed.corpus.documents import DocumentStore, identify_all, name_files, no_abstract, read_documents
from compact_biomed.corpus.sources import Sources
from compact_biomed.corpus.tokenize import (
    SPLITS,
    TOKENS_VERSION,
    TokenSettings,
    TokenTask,
    Vocabulary,
    plan_tasks,
    schema,
    tokenize_all,
)
from compact_biomed.errors import UsageError, UserError
from compact_biomed.files import atomic_folder, sha256_json, write_json
from compact_biomed.workers import worker_count

_RECORD = "corpus.json"
_UNIGRAM = "unigram.npy"


class CorpusRecord(TypedDict):
    """The parts of `corpus.json` that are read back."""

    fingerprint: str
    documents: Counts
    train: Counts
    heldout: Counts
    files: Counts


@dataclass(frozen=True)
class TokenizedCorpus:
    """A tokenized set in a folder.

    Args:
        folder: contains `train/` and `heldout/` (for `datasets.load_from_disk`), `unigram.npy` and
            `corpus.json`.
        seconds: how long this call took.
        parsed: citations read from sources in this call; 0 if the set was already built.
    """

    folder: Path
    seconds: float = 0.0
    parsed: int = 0

    @cached_property
    def record(self) -> dict[str, Any]:
        """The content of `corpus.json`: sources, settings and counts."""
        record = read_cached_json(self.folder / _RECORD, CorpusRecord)
        if record is None:
            raise UserError(
                "not a tokenized corpus", where=self.folder, remedy="build it: compact-biomed corpus build SOURCE"
            )
        return record

    @cached_property
    def train(self) -> datasets.Dataset:
        """The training documents; columns `input_ids`, `length`, `key`, `pmid`; mapped from disk, not loaded."""
        return self._split("train")

    @cached_property
    def heldout(self) -> datasets.Dataset:
        """The held-out documents, with the same columns."""
        return self._split("heldout")

    @cached_property
    def unigram(self) -> np.ndarray:
        """How often each id occurs in the training texts, int64 (vocabulary,); 0 for special tokens."""
        return np.load(self.folder / _UNIGRAM)

    def _split(self, name: str) -> datasets.Dataset:
        if not (self.folder / name).is_dir():
            raise UserError(
                "this corpus has no held-out documents", where=self.folder, remedy="build it again with --heldout 0.02"
            )
        return datasets.load_from_disk(str(self.folder / name))


def prepare(
    sources: Sources,
    tokenizer: PreTrainedTokenizerFast,
    *,
    max_length: int = 256,
    heldout_fraction: float = 0.02,
    require_abstract: bool = True,
    workers: int | None = None,
    skip_broken: bool = False,
    out: str | os.PathLike | None = None,
    minimum_vocabulary: int = 1000,
    blocklist: Blocklist | None = None,
) -> TokenizedCorpus:
    """Build the tokenized set of some sources, unless it exists.

    Args:
        sources: one or several names, see `expand_sources`.
        tokenizer: the start checkpoint's, loaded with `AutoTokenizer.from_pretrained`.
        max_length: maximum tokens per document, special tokens included; the rest is cut off.
        heldout_fraction: share of documents held out, 0 for none. Which ones depends on their PMID alone
            (on their text, for documents without PMID).
        require_abstract: drop citations that have only a title; the paper keeps them.
        workers: number of processes, by default one per processor; the result does not depend on it.
        skip_broken: skip broken files and list them in the record.
        out: folder for the set, by default one in the cache.
        minimum_vocabulary: smallest plausible number of the tokenizer's entries.
        blocklist: drop the documents that repeat these test sets, on both sides of the split.

    Raises:
        UserError: a broken or missing source, an unsuitable tokenizer, no document, no abstract, an empty
            split, or an `out` folder with other content.
    """
    start = time.monotonic()
    remove_leftovers()
    workers = worker_count(workers)
    vocabulary = Vocabulary.from_tokenizer(tokenizer, minimum_vocabulary)
    settings = _settings(max_length, heldout_fraction, require_abstract, vocabulary)
    files = identify_all(sources)
    fingerprint = sha256_json(
        {
            "versions": [READER_VERSION, TOKENS_VERSION],
            # Names too, because the record contains them. A file that moved costs new links, no new tokens.
            "files": [[file.source.name, file.shard_key] for file in files],
            "vocabulary": vocabulary.digest,
            "settings": vars(settings),
            "skip_broken": skip_broken,
            **({"blocklist": blocklist.sha256} if blocklist else {}),
        }
    )
    folder = corpus_cache("sets") / fingerprint[:40] if out is None else Path(out).expanduser()
    if _is_complete(folder, fingerprint):
        return TokenizedCorpus(folder, time.monotonic() - start)
    if out is not None:
        _check_replaceable(folder)
    store = read_documents(files, workers, skip_broken, blocklist)
    tasks = list(plan_tasks(store.shards, store.merged, vocabulary, settings))
    tokenize_all(tasks, workers)
    with atomic_folder(folder) as temporary:
        _write_corpus(temporary, store, tasks, vocabulary, settings, fingerprint)
    return TokenizedCorpus(folder, time.monotonic() - start, store.parsed)


def _settings(
    max_length: int, heldout_fraction: float, require_abstract: bool, vocabulary: Vocabulary
) -> TokenSettings:
    n_special = len(vocabulary.prefix) + len(vocabulary.suffix)
    if max_length <= n_special:
        raise UsageError(
            f"{max_length} tokens leave no room for text", where="--max-length", remedy=f"use more than {n_special}"
        )
    if not 0 <= heldout_fraction < 1:
        raise UsageError(
            f"{heldout_fraction} is not a share", where="--heldout", remedy="use a number from 0 to less than 1"
        )
    return TokenSettings(max_length, heldout_fraction, require_abstract)


def _is_complete(folder: Path, fingerprint: str) -> bool:
    """Return whether the folder holds this very set, with every file present and of the recorded size."""
    record = read_cached_json(folder / _RECORD, CorpusRecord) if folder.is_dir() else None
    if record is None or record.get("fingerprint") != fingerprint:
        return False
    try:
        return all((folder / name).stat().st_size == size for name, size in record["files"].items())
    except OSError:
        return False


def _check_replaceable(folder: Path) -> None:
    """Refuse to overwrite anything but a tokenized set.

    Raises:
        UserError: `folder` is a file, or a folder with other content.
    """
    if folder.is_dir():
        others = {item.name for item in folder.iterdir()} - {*SPLITS, _UNIGRAM, _RECORD}
        if others or (any(folder.iterdir()) and not (folder / _RECORD).exists()):
            raise UserError("the folder contains other files", where=folder, remedy="name a new or empty folder")
    elif folder.exists():
        raise UserError("this is a file, not a folder", where=folder, remedy="name a new or empty folder")


def _write_corpus(
    folder: Path,
    store: DocumentStore,
    tasks: Sequence[TokenTask],
    vocabulary: Vocabulary,
    settings: TokenSettings,
    fingerprint: str,
) -> None:
    """Write `train/`, `heldout/`, `unigram.npy` and `corpus.json` into an empty folder.

    Raises:
        UserError: no abstract in the whole corpus, or a split without documents.
    """
    counts = _sum_counts(tasks)
    _check_counts(counts, store, settings)
    files: dict[str, int] = {}
    for split in SPLITS:
        if counts[split]["documents"]:
            files |= _write_split(folder, split, tasks, schema(vocabulary, settings), fingerprint)
    unigram = np.zeros(vocabulary.size, np.int64)
    for task in tasks:
        unigram += np.load(task.folder / _UNIGRAM)
    np.save(folder / _UNIGRAM, unigram)
    record = {
        "fingerprint": fingerprint,
        "documents": {**store.merged.counts, **counts["dropped"]},
        "train": counts["train"],
        "heldout": counts["heldout"],
        **({"decontamination": store.screened.record} if store.screened else {}),
        "settings": dict(vars(settings)),
        "tokenizer": {"sha256": vocabulary.sha256, "size": vocabulary.size},
        "sources": [_source_entry(file, store.broken) for file in store.files],
        "versions": {
            "reader": READER_VERSION,
            "tokens": TOKENS_VERSION,
            **{package: version(package) for package in ("lxml", "tokenizers", "pyarrow")},
        },
        "files": files,
    }
    write_json(folder / _RECORD, record)


def _sum_counts(tasks: Sequence[TokenTask]) -> dict[str, dict[str, int]]:
    total: dict[str, dict[str, int]] = {}
    for task in tasks:
        for part, counts in (read_cached_json(task.folder / "counts.json", dict[str, Counts]) or {}).items():
            sums = total.setdefault(part, dict.fromkeys(counts, 0))
            for name, value in counts.items():
                sums[name] += value
    return total


def _check_counts(counts: dict[str, dict[str, int]], store: DocumentStore, settings: TokenSettings) -> None:
    where = name_files(store.files)
    train, heldout = counts["train"]["documents"], counts["heldout"]["documents"]
    if train + heldout == 0:
        if settings.require_abstract and counts["dropped"]["without_abstract"]:
            raise no_abstract(store)
        raise UserError(
            "no document has any text", where=where, remedy="name files that contain titles, abstracts or texts"
        )
    for split, n_documents in (("train", train), ("held-out", heldout)):
        if n_documents == 0 and (split == "train" or settings.heldout_fraction > 0):
            raise UserError(
                f"no {split} document among {train + heldout} at a held-out share of {settings.heldout_fraction}",
                where=where,
                remedy="add more documents, or choose another --heldout",
            )


def _write_split(
    folder: Path, split: str, tasks: Sequence[TokenTask], columns: pa.Schema, fingerprint: str
) -> dict[str, int]:
    """Write a split as `Dataset.save_to_disk` would; return {file name: size in bytes}."""
    target = folder / split
    target.mkdir()
    arrow_files = [path for task in tasks if (path := task.folder / f"{split}.arrow").exists()]
    names = [f"data-{number:05d}-of-{len(arrow_files):05d}.arrow" for number in range(len(arrow_files))]
    for path, name in zip(arrow_files, names, strict=True):
        _link(path, target / name)
    features = datasets.Features.from_arrow_schema(columns)
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


def _link(path: Path, target: Path) -> None:
    """Link a cached file into the set, so that the set takes no further disk space; copy across disks."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def _source_entry(file: HashedFile, broken: dict[str, str]) -> dict[str, Any]:
    entry = {"name": file.source.name, "kind": file.source.kind, "sha256": file.sha256, "bytes": file.size}
    if file.sha256 in broken:
        entry["skipped"] = broken[file.sha256]
    return entry
