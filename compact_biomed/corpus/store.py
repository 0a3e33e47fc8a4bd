"""Where built things lie in the cache, and which bytes they were built from.

    <cache>/corpus/sums/        sha256 of source files, by path, size and times
    <cache>/corpus/documents/   one Parquet shard a source file, by the file's sha256
    <cache>/corpus/merged/      which rows of a list of shards are kept
    <cache>/corpus/tokens/      tokens of a stretch of a shard
    <cache>/corpus/sets/        whole tokenized sets

Everything is named by a hash of what it was made from, is written under another
name first, and may be deleted at any time.
"""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from compact_biomed.corpus.sources import Source
from compact_biomed.files import cache_folder, sha256_file, sha256_json, write_json

# Raise when the same bytes would give other documents, so that older shards are not taken for new ones.
READER_VERSION = 1


def corpus_cache(part: str) -> Path:
    return cache_folder() / "corpus" / part


@dataclass(frozen=True)
class SourceFile:
    """A source and the bytes that it had: sha256 (hex) and size."""

    source: Source
    sha256: str
    size: int

    @property
    def shard_key(self) -> str:
        return sha256_json([self.sha256, self.source.kind, READER_VERSION])[:40]


def identify(source: Source) -> SourceFile:
    """Hash a source file, or recall the hash: a file that stat() finds untouched is not read again."""
    path = source.path.resolve()
    stat = path.stat()
    state = {
        "path": str(path),
        "size": stat.st_size,
        "inode": stat.st_ino,
        "mtime_ns": stat.st_mtime_ns,
        "ctime_ns": stat.st_ctime_ns,  # copying a file's times onto another does not set this one
    }
    memo = corpus_cache("sums") / f"{sha256_json(str(path))[:40]}.json"
    known = read_json(memo)
    if known and {name: known.get(name) for name in state} == state:
        return SourceFile(source, known["sha256"], stat.st_size)
    sha256 = sha256_file(path)
    # A file written in this very instant may change again within one tick of the file
    # system's clock; such a hash is used and not remembered.
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > 100_000_000:
        write_json(memo, {**state, "sha256": sha256})
    return SourceFile(source, sha256, stat.st_size)


def read_json(path: Path) -> dict | None:
    """A JSON object of ours, None if it is absent or was damaged from outside (it is then made again)."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def sweep(folder: Path, older_than: float = 86_400) -> None:
    """Delete what killed runs left under temporary names more than a day (in seconds) ago."""
    for item in folder.glob(".*.tmp"):
        try:
            if time.time() - item.stat().st_mtime > older_than:
                shutil.rmtree(item) if item.is_dir() else item.unlink()
        except FileNotFoundError:
            pass  # another run swept it, or gave it its name
