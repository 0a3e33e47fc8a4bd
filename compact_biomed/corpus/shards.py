"""The documents of a corpus on disk: one shard per source file, and which of its rows are kept.

`parse_files` reads every source file into a shard, several at a time. `merge_shards` then decides which
rows of all shards are kept: updates replace citations, deletions delete them, the newest version wins.
Worker processes import this module, so it must not import `datasets`, `transformers` or `torch`.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from compact_biomed.console import progress, say
from compact_biomed.corpus.cache import Counts, HashedFile, corpus_cache, read_cached_json
from compact_biomed.corpus.document import Deletion, Document, read_jsonl, read_text
from compact_biomed.corpus.medline import read_medline
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file, atomic_folder, sha256_json, temporary_beside, write_json
from compact_biomed.workers import check_stop, run_all

SCHEMA = pa.schema(
    [
        ("key", pa.uint64()),
        ("pmid", pa.int64()),  # null for text from elsewhere
        ("version", pa.int32()),
        ("deleted", pa.bool_()),  # an instruction to delete (pmid, version); its texts are empty
        ("year", pa.int16()),  # null where unknown
        ("title", pa.string()),
        ("abstract", pa.string()),
    ]
)
# Rows in memory at a time, and the smallest part that can be read back: about 10 MB of abstracts.
ROW_GROUP = 4096
_SHARD_COUNTS = ("rows", "citations", "deletions", "without_abstract")
READERS = {"xml": read_medline, "jsonl": read_jsonl, "text": read_text}


@dataclass(frozen=True)
class Shard:
    """The documents and deletions of one source file, in file order.

    Args:
        file: the source file.
        path: Parquet, columns `SCHEMA`, row groups of `ROW_GROUP` rows.
        counts: rows, citations, deletions, without_abstract.
    """

    file: HashedFile
    path: Path
    counts: dict[str, int]


def parse_files(
    files: Sequence[HashedFile], workers: int, skip_broken: bool = False
) -> tuple[list[Shard], dict[str, str]]:
    """Read every file into its shard, unless the shard exists.

    Returns:
        The shards in the order of `files`, and {sha256: error message} of the broken files that were skipped.

    Raises:
        UserError: a broken file, unless `skip_broken`. Shards finished by then are kept, and the next run
            continues from them.
    """
    distinct = {file.shard_key: file for file in files}
    shards = {key: shard for key, file in distinct.items() if (shard := find_shard(file))}
    missing = [file for key, file in distinct.items() if key not in shards]
    broken: dict[str, str] = {}
    with progress(total=sum(file.size for file in missing), desc="reading", unit="B", unit_scale=True) as bar:
        with closing(run_all(make_shard, missing, min(workers, max(len(missing), 1)))) as results:
            for file, result in results:
                bar.update(file.size)
                if not isinstance(result, UserError):
                    shards[file.shard_key] = result
                elif skip_broken:
                    say(f"skipped: {result}")
                    broken[file.sha256] = str(result)
                else:
                    raise result
    return [shards[file.shard_key] for file in files if file.shard_key in shards], broken


def find_shard(file: HashedFile) -> Shard | None:
    """Return the finished shard of a file, or None."""
    path = corpus_cache("documents") / f"{file.shard_key}.parquet"
    # The counts are written last: if they exist, the documents are complete.
    counts = read_cached_json(path.with_suffix(".json"), Counts)
    is_complete = counts is not None and {*_SHARD_COUNTS} <= counts.keys() and path.exists()
    return Shard(file, path, counts) if is_complete else None


def make_shard(file: HashedFile) -> Shard:
    """Read one source file into its shard.

    Raises:
        UserError: the file is broken, or has changed since it was hashed.
    """
    path = corpus_cache("documents") / f"{file.shard_key}.parquet"
    counts = dict.fromkeys(_SHARD_COUNTS, 0)
    before = file.source.path.stat()
    with atomic_file(path) as temporary:
        with pq.ParquetWriter(temporary, SCHEMA, compression="zstd", use_dictionary=False) as writer:
            for rows in _row_groups(READERS[file.source.kind](file.source.path), counts):
                check_stop()
                writer.write_table(pa.Table.from_pydict(rows, SCHEMA), row_group_size=ROW_GROUP)
        after = file.source.path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or after.st_size != file.size:
            raise UserError(
                "the file changed while it was read",
                where=file.source.path,
                remedy="run the command again when the file is complete",
            )
    write_json(path.with_suffix(".json"), counts)
    return Shard(file, path, counts)


def _row_groups(items: Iterator[Document | Deletion], counts: dict[str, int]) -> Iterator[dict[str, list]]:
    """Yield columns of up to `ROW_GROUP` rows; add to `counts`."""
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


# ---- Merging
# No shard is held in memory: the identifying columns of all rows (29 bytes per row) are written to bucket files
# by the leading bits of the key. All rows of a citation are in one bucket, and one sort per bucket then decides.


_ROW = np.dtype([("key", "<u8"), ("pmid", "<i8"), ("version", "<i4"), ("row", "<i8"), ("deleted", "?")])
# Rows sorted at a time: about 40 MB. All of PubMed takes about 170 bucket files.
ROWS_AT_ONCE = 1 << 18
_MOST_BITS = 8  # a process may open only so many files, often 1,024
_COUNTS = ("citations", "replaced", "deleted", "duplicates", "kept")


@dataclass(frozen=True)
class Merged:
    """Which rows of a list of shards are kept.

    Args:
        keep: boolean (rows of all shards,), mapped from disk: True where a row is a kept document.
        counts: citations read, and of these replaced by a newer one, deleted, duplicates (equal texts
            without PMID) and kept. The last four add up to the first.
    """

    keep: np.ndarray
    counts: dict[str, int]


def merge_shards(shards: Sequence[Shard], rows_at_once: int = ROWS_AT_ONCE) -> Merged:
    """Decide which rows are kept; the order of `shards` is the order in which they apply.

    Of the rows of one (PMID, version) the last one counts; if it is a deletion, the version is deleted. Of
    the remaining versions the highest is kept. Equal texts without a PMID are kept once. The decision is
    cached.
    """
    name = sha256_json([shard.file.shard_key for shard in shards])[:40]
    folder = corpus_cache("merged") / name
    counts = read_cached_json(folder / "counts.json", Counts)
    if counts is None or not {*_COUNTS} <= counts.keys():
        with atomic_folder(folder) as temporary:
            counts = _decide(shards, temporary, rows_at_once)
            write_json(temporary / "counts.json", counts)
    return Merged(np.load(folder / "keep.npy", mmap_mode="r"), counts)


def _decide(shards: Sequence[Shard], folder: Path, rows_at_once: int) -> dict[str, int]:
    total = sum(shard.counts["rows"] for shard in shards)
    keep = np.lib.format.open_memmap(folder / "keep.npy", mode="w+", dtype=np.bool_, shape=(total,))
    counts = dict.fromkeys(_COUNTS, 0)
    bits = min(_MOST_BITS, max(0, int(np.ceil(np.log2(max(total, 1) / rows_at_once)))))
    with temporary_beside(folder.parent / "merge", is_folder=True) as spill:
        paths = [spill / f"{bucket}.rows" for bucket in range(2**bits)]
        with ExitStack() as stack:
            files = [stack.enter_context(open(path, "wb")) for path in paths]
            for rows in progress(_rows(shards), desc="merging", unit=" row groups"):
                bucket = rows["key"] >> np.uint64(64 - bits) if bits else np.zeros(len(rows), np.uint64)
                for number in np.unique(bucket):
                    files[int(number)].write(rows[bucket == number].tobytes())
        for path in paths:
            check_stop()
            rows = np.fromfile(path, _ROW)
            kept_rows, bucket_counts = decide(rows)
            keep[kept_rows] = True
            for name, value in bucket_counts.items():
                counts[name] += value
    keep.flush()
    return counts


def decide(rows: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """Decide rows (n,) of dtype `_ROW` that include all rows of their citations; pmid -1 means none.

    Returns:
        The numbers of the rows that are kept, and the counts.
    """
    rows = rows[np.lexsort((rows["row"], rows["version"], rows["pmid"], rows["key"]))]
    same_citation = (rows["key"][1:] == rows["key"][:-1]) & (rows["pmid"][1:] == rows["pmid"][:-1])
    same_version = same_citation & (rows["version"][1:] == rows["version"][:-1])
    last_of_version = np.append(~same_version, np.ones(min(len(rows), 1), bool))
    alive = rows[last_of_version & ~rows["deleted"]]  # one row per version that is left after deletions
    replaced = (alive["key"][1:] == alive["key"][:-1]) & (alive["pmid"][1:] == alive["pmid"][:-1])
    newest = alive[np.append(~replaced, np.ones(min(len(alive), 1), bool))]

    citations = int((~rows["deleted"]).sum())
    # A citation row is deleted if the last row of its version is a deletion; the others were replaced.
    version_number = np.cumsum(np.append(0, ~same_version)) if len(rows) else np.zeros(0, int)
    ends_deleted = rows["deleted"][last_of_version]
    deleted = int((ends_deleted[version_number] & ~rows["deleted"]).sum()) if len(rows) else 0
    duplicates = int((rows["pmid"] < 0).sum() - (newest["pmid"] < 0).sum())
    counts = {"citations": citations, "deleted": deleted, "duplicates": duplicates, "kept": len(newest)}
    return newest["row"], {**counts, "replaced": citations - deleted - duplicates - len(newest)}


def _rows(shards: Sequence[Shard]) -> Iterator[np.ndarray]:
    """Yield the identifying columns of one row group at a time; rows are numbered across all shards."""
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
