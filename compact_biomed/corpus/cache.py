"""The cache of corpus builds: where each intermediate result is stored, and which bytes it was built from.

    <cache>/corpus/sums/        sha256 of source files, by path, size and times
    <cache>/corpus/hub/         data sets of the Hugging Face hub as JSON lines
    <cache>/corpus/documents/   one Parquet shard per source file, by the file's sha256
    <cache>/corpus/merged/      which rows of a list of shards are kept
    <cache>/corpus/blocklists/  hashed runs of words of test sets
    <cache>/corpus/screened/    which documents of a shard share such runs
    <cache>/corpus/tokenizers/  tokenizers as JSON, by their sha256
    <cache>/corpus/tokens/      tokens of a few row groups of a shard
    <cache>/corpus/sets/        complete tokenized corpora

Everything is named by a hash of its inputs, is written under a temporary name first, and may be
deleted at any time.

Worker processes import this module, so it must not import `datasets`, `transformers` or `torch`.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from compact_biomed.errors import UserError
from compact_biomed.files import cache_folder, sha256_file, sha256_json, sweep, write_json
from compact_biomed.settings import read_json

# Raise when the same bytes would give other documents, so that old shards are not reused.
READER_VERSION = 2


def corpus_cache(part: str) -> Path:
    """Return the folder of one kind of result, "documents" for instance."""
    return cache_folder() / "corpus" / part


@dataclass(frozen=True)
class SourceFile:
    """A file to read.

    Args:
        path: the file.
        kind: "xml", "jsonl" or "text".
        name: what records and messages call it.
    """

    path: Path
    kind: str
    name: str


@dataclass(frozen=True)
class HashedFile:
    """A source file together with its content's sha256 (hex) and size in bytes."""

    source: SourceFile
    sha256: str
    size: int

    @property
    def shard_key(self) -> str:
        """The name of this file's shard in the cache."""
        return sha256_json([self.sha256, self.source.kind, READER_VERSION])[:40]


def identify(source: SourceFile) -> HashedFile:
    """Hash a source file, or recall its hash if `stat` shows that the file has not changed since."""
    path = source.path.resolve()
    stat = path.stat()
    state = {
        "path": str(path),
        "size": stat.st_size,
        "inode": stat.st_ino,
        "mtime_ns": stat.st_mtime_ns,
        "ctime_ns": stat.st_ctime_ns,  # unlike mtime, copying another file's times does not set this one
    }
    memo = corpus_cache("sums") / f"{sha256_json(str(path))[:40]}.json"
    known = read_cached_json(memo, _Memo)
    if known and {name: known.get(name) for name in state} == state:
        return HashedFile(source, known["sha256"], stat.st_size)
    sha256 = sha256_file(path)
    # A file written this very instant may change again within one tick of the file system's clock:
    # such a hash is used but not remembered.
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > 100_000_000:
        write_json(memo, {**state, "sha256": sha256})
    return HashedFile(source, sha256, stat.st_size)


Counts = dict[str, int]


class _Memo(TypedDict):
    sha256: str


def read_cached_json(path: Path, schema: Any) -> Any:
    """Return a JSON value from the cache; None if it is missing or damaged, so that the caller rebuilds it.

    Args:
        schema: as `settings.read_json` takes it.
    """
    try:
        return read_json(path, schema, remedy="")
    except (UserError, NotADirectoryError):
        return None


def remove_leftovers() -> None:
    """Delete the temporary files and folders that killed processes left in the whole cache."""
    cache = cache_folder()
    for folder in (cache, *cache.glob("*/"), *cache.glob("corpus/*/"), *cache.glob("corpus/tokens/*/")):
        sweep(folder)
