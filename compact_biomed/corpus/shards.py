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
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from compact_biomed.console import progress, say
from compact_biomed.corpus.document import Deletion, Document, read_jsonl, read_text
from compact_biomed.corpus.medline import read_medline
from compact_biomed.corpus.pool import check_stop, run_all
from compact_biomed.corpus.sources import Source
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file, atomic_folder, cache_folder, sha256_file, sha256_json, write_json

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


# ----------------------------------------------------------------------------------------------------
# One source file -> one shard of documents, several files at a time.


SCHEMA = pa.schema(
    [
        ("key", pa.uint64()),
        ("pmid", pa.int64()),  # null for text from elsewhere
        ("version", pa.int32()),
        ("deleted", pa.bool_()),  # an order to forget (pmid, version); the texts are then empty
        ("year", pa.int16()),  # null where unknown
        ("title", pa.string()),
        ("abstract", pa.string()),
    ]
)
# Rows in memory at a time, and the smallest stretch that can be read back: about 10 MB of abstracts.
ROW_GROUP = 4096


@dataclass(frozen=True)
class Shard:
    """Documents of one source file, in file order.

    Args:
        file: what it was made from.
        path: Parquet, columns `SCHEMA`, row groups of `ROW_GROUP` rows.
        counts: rows, citations, deletions, without_abstract.
    """

    file: SourceFile
    path: Path
    counts: dict[str, int]


def parse_files(
    files: Sequence[SourceFile], workers: int, skip_broken: bool = False
) -> tuple[list[Shard], dict[str, str]]:
    """Make the shard of every file, or find it made; in the order of `files`.

    Returns:
        The shards, and for each broken file that was skipped its sha256 -> the error's line.

    Raises:
        UserError: a broken file, unless `skip_broken`. Shards finished by then are
            kept, and the next run goes on from them.
    """
    made: dict[str, Shard] = {}
    broken: dict[str, str] = {}
    wanted = {file.shard_key: file for file in files}
    for key, file in wanted.items():
        if shard := find_shard(file):
            made[key] = shard
    missing = [file for key, file in wanted.items() if key not in made]
    if missing:
        sweep(corpus_cache("documents"))
    with progress(total=sum(file.size for file in missing), desc="reading", unit="B", unit_scale=True) as bar:
        with closing(run_all(make_shard, missing, min(workers, max(len(missing), 1)))) as results:
            for file, result in results:
                bar.update(file.size)
                if not isinstance(result, UserError):
                    made[file.shard_key] = result
                elif skip_broken:
                    say(f"skipped: {result}")
                    broken[file.sha256] = str(result)
                else:
                    raise result
    return [made[file.shard_key] for file in files if file.shard_key in made], broken


def find_shard(file: SourceFile) -> Shard | None:
    """The finished shard of a file, if there is one."""
    path = corpus_cache("documents") / f"{file.shard_key}.parquet"
    # The counts are written last: where they are, the documents are whole.
    counts = read_json(path.with_suffix(".json"))
    return Shard(file, path, counts) if counts and path.exists() else None


def make_shard(file: SourceFile) -> Shard:
    """Read one source file into its shard.

    Raises:
        UserError: the file is broken, or changed since it was hashed.
    """
    path = corpus_cache("documents") / f"{file.shard_key}.parquet"
    counts = {"rows": 0, "citations": 0, "deletions": 0, "without_abstract": 0}
    before = file.source.path.stat()
    with atomic_file(path) as temporary:
        with pq.ParquetWriter(temporary, SCHEMA, compression="zstd", use_dictionary=False) as writer:
            for rows in _row_groups(read_source(file), counts):
                check_stop()
                writer.write_table(pa.Table.from_pydict(rows, SCHEMA), row_group_size=ROW_GROUP)
        after = file.source.path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or after.st_size != file.size:
            raise UserError(
                "changed while it was read", where=file.source.path, remedy="run again when the file is complete"
            )
    write_json(path.with_suffix(".json"), counts)
    return Shard(file, path, counts)


def read_source(file: SourceFile) -> Iterator[Document | Deletion]:
    """The documents and deletions of a file, by the reader of its kind."""

    return {"xml": read_medline, "jsonl": read_jsonl, "text": read_text}[file.source.kind](file.source.path)


def _row_groups(items: Iterator[Document | Deletion], counts: dict[str, int]) -> Iterator[dict[str, list]]:
    rows: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for item in items:
        deleted = isinstance(item, Deletion)
        counts["rows"] += 1
        counts["deletions" if deleted else "citations"] += 1
        counts["without_abstract"] += not deleted and not item.abstract
        rows["key"].append(item.key)
        rows["pmid"].append(item.pmid)
        rows["version"].append(item.version)
        rows["deleted"].append(deleted)
        rows["year"].append(None if deleted else item.year)
        rows["title"].append("" if deleted else item.title)
        rows["abstract"].append("" if deleted else item.abstract)
        if len(rows["key"]) == ROW_GROUP:
            yield rows
            rows = {name: [] for name in SCHEMA.names}
    if rows["key"]:
        yield rows


# ----------------------------------------------------------------------------------------------------
# Which rows of many shards are kept: updates replace, deletions delete, the newest version wins.
#
# No shard is held in memory. The identifying columns of all rows (29 bytes a row) are
# dealt out to files by the leading bits of the key, so that all rows of one citation
# meet in one file; each file is then decided by one sort.


_ROW = np.dtype([("key", "<u8"), ("pmid", "<i8"), ("version", "<i4"), ("row", "<i8"), ("deleted", "?")])
# Rows sorted at a time: about 40 MB. All of PubMed is dealt out to some 170 files.
ROWS_AT_ONCE = 1 << 18
_MOST_BITS = 8  # open files are scarce, often 1,024 a process
_COUNTS = ("citations", "replaced", "deleted", "duplicates", "kept")


@dataclass(frozen=True)
class Merged:
    """Args:
    keep: boolean (rows of all shards,), mapped from disk: True where a row is a kept document.
    counts: citations read; of these replaced by a newer one, deleted, duplicates (equal
        texts without PMID), kept. The last four add up to the first.
    """

    keep: np.ndarray
    counts: dict[str, int]


def merge_shards(shards: Sequence[Shard], rows_at_once: int = ROWS_AT_ONCE) -> Merged:
    """Decide every row of `shards`, whose order is the order in which they apply.

    Of the rows of one (PMID, version) the last one holds, and if that is a deletion
    the version is gone; of the versions that are left the highest is kept. Equal
    texts without a PMID are kept once. The decision is cached.
    """
    name = sha256_json([shard.file.shard_key for shard in shards])[:40]
    folder = corpus_cache("merged") / name
    counts = read_json(folder / "counts.json")
    if counts is None:
        sweep(folder.parent)
        with atomic_folder(folder) as temporary:
            counts = _decide(shards, temporary, rows_at_once)
            write_json(temporary / "counts.json", counts)
    return Merged(np.load(folder / "keep.npy", mmap_mode="r"), counts)


def _decide(shards: Sequence[Shard], folder: Path, rows_at_once: int) -> dict[str, int]:
    total = sum(shard.counts["rows"] for shard in shards)
    keep = np.lib.format.open_memmap(folder / "keep.npy", mode="w+", dtype=np.bool_, shape=(total,))
    counts = dict.fromkeys(_COUNTS, 0)
    bits = min(_MOST_BITS, max(0, int(np.ceil(np.log2(max(total, 1) / rows_at_once)))))
    with tempfile.TemporaryDirectory(prefix=".merge.", suffix=".tmp", dir=folder.parent) as spill:
        paths = [Path(spill) / f"{bucket}.rows" for bucket in range(2**bits)]
        with ExitStack() as stack:
            files = [stack.enter_context(open(path, "wb")) for path in paths]
            for rows in progress(_rows(shards), desc="merging", unit=" row groups"):
                bucket = rows["key"] >> np.uint64(64 - bits) if bits else np.zeros(len(rows), np.uint64)
                for number in np.unique(bucket):
                    files[int(number)].write(rows[bucket == number].tobytes())
        for path in paths:
            check_stop()
            rows = np.fromfile(path, _ROW)
            kept, found = decide(rows)
            keep[kept] = True
            for name, value in found.items():
                counts[name] += value
    keep.flush()
    return counts


def decide(rows: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """Decide rows (n,) of dtype `_ROW` that hold whole citations; pmid -1 stands for none.

    Returns:
        The row numbers that are kept, and the counts.
    """
    rows = rows[np.lexsort((rows["row"], rows["version"], rows["pmid"], rows["key"]))]
    same_citation = (rows["key"][1:] == rows["key"][:-1]) & (rows["pmid"][1:] == rows["pmid"][:-1])
    same_version = same_citation & (rows["version"][1:] == rows["version"][:-1])
    last_of_version = np.append(~same_version, np.ones(min(len(rows), 1), bool))
    alive = rows[last_of_version & ~rows["deleted"]]  # what each version came to, deletions applied
    newer = (alive["key"][1:] == alive["key"][:-1]) & (alive["pmid"][1:] == alive["pmid"][:-1])
    kept = alive[np.append(~newer, np.ones(min(len(alive), 1), bool))]

    citations = int((~rows["deleted"]).sum())
    # A citation row is deleted if the row that ends its version is a deletion; the rest were replaced.
    version_number = np.cumsum(np.append(0, ~same_version)) if len(rows) else np.zeros(0, int)
    ends_deleted = rows["deleted"][last_of_version]
    deleted = int((ends_deleted[version_number] & ~rows["deleted"]).sum()) if len(rows) else 0
    duplicates = int((rows["pmid"] < 0).sum() - (kept["pmid"] < 0).sum())
    counts = {"citations": citations, "deleted": deleted, "duplicates": duplicates, "kept": len(kept)}
    return kept["row"], {**counts, "replaced": citations - deleted - duplicates - len(kept)}


def _rows(shards: Sequence[Shard]) -> Iterator[np.ndarray]:
    """The identifying columns of all shards, one row group at a time, rows numbered through."""
    start = 0
    for shard in shards:
        with pq.ParquetFile(shard.path) as file:
            for group in range(file.num_row_groups):
                check_stop()
                table = file.read_row_group(group, columns=["key", "pmid", "version", "deleted"])
                rows = np.empty(len(table), _ROW)
                rows["key"] = table["key"].to_numpy()
                rows["pmid"] = table["pmid"].fill_null(-1).to_numpy()
                rows["version"] = table["version"].to_numpy()
                rows["deleted"] = table["deleted"].to_numpy()
                rows["row"] = np.arange(start, start + len(table))
                start += len(table)
                yield rows
