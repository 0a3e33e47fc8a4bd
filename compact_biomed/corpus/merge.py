"""Which rows of many shards are kept: updates replace, deletions delete, the newest version wins.

No shard is held in memory. The identifying columns of all rows (29 bytes a row) are
dealt out to files by the leading bits of the key, so that all rows of one citation
meet in one file; each file is then decided by one sort.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from compact_biomed.console import progress
from compact_biomed.corpus.parse import Shard
from compact_biomed.corpus.pool import check_stop
from compact_biomed.corpus.store import corpus_cache, read_json, sweep
from compact_biomed.files import atomic_folder, sha256_json, write_json

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
