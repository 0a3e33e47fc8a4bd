"""Kept documents less those that touch a benchmark's test set, with the counts for the record."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from compact_biomed.console import progress
from compact_biomed.corpus.decontaminate import Blocklist
from compact_biomed.corpus.document import document_text
from compact_biomed.corpus.merge import Merged
from compact_biomed.corpus.parse import Shard
from compact_biomed.corpus.pool import check_stop, run_all
from compact_biomed.corpus.store import corpus_cache, sweep
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file, sha256_json

# A run in more documents than this is a formula of the trade ("the aim of the present study ..."), a journal's
# notice, a compound's name; not the test set. The number is that of Brown et al. 2020, appendix C.
MOST_DOCUMENTS = 10
_LISTS = "blocklists"


@dataclass(frozen=True)
class Screened:
    """Args:
    merged: the rows that are left, and the counts; new there is `contaminated`, and `kept` is less by it.
    record: what was compared and how many documents each benchmark cost (some cost is shared).
    rows: the rows that were dropped, int64 (dropped,), over all shards.
    benchmarks: one bit a benchmark for each of them, uint64 (dropped,).
    """

    merged: Merged
    record: dict[str, Any]
    rows: np.ndarray
    benchmarks: np.ndarray


def screen(shards: Sequence[Shard], merged: Merged, blocklist: Blocklist, workers: int) -> Screened:
    """Drop the kept documents that touch a test set. What is found in a shard is cached.

    Runs of words that stand in more than `MOST_DOCUMENTS` kept documents drop none.
    """
    path = corpus_cache(_LISTS) / f"{blocklist.sha256[:40]}.npz"
    if not path.exists():
        sweep(path.parent)
        blocklist.save(path)
    rows, runs = _find_all([ShardToScreen(shard, path, blocklist.sha256) for shard in shards], workers)
    kept = np.asarray(merged.keep[rows])
    rows, runs = rows[kept], runs[kept]
    documents = np.bincount(runs, minlength=len(blocklist.bits))
    telling = documents[runs] <= MOST_DOCUMENTS
    bits = blocklist.bits[runs[telling]]
    dropped, first = np.unique(rows[telling], return_index=True)
    benchmarks = np.bitwise_or.reduceat(bits, first) if len(first) else np.zeros(0, np.uint64)
    keep = np.load(merged.keep.filename, mmap_mode="c")  # private pages: only what changes is held in memory
    keep[dropped] = False
    counts = {**merged.counts, "kept": merged.counts["kept"] - len(dropped), "contaminated": len(dropped)}
    per_benchmark = {
        name: {"texts": texts, "documents": int(((benchmarks >> np.uint64(bit)) & np.uint64(1)).sum())}
        for bit, (name, texts) in enumerate(zip(blocklist.benchmarks, blocklist.texts, strict=True))
    }
    record = {
        "documents": len(dropped),
        "benchmarks": per_benchmark,
        "n_words": blocklist.n_words,
        "shortest_text": blocklist.shortest_text,
        "most_documents": MOST_DOCUMENTS,
        "common_runs": int((documents > MOST_DOCUMENTS).sum()),
        "sha256": blocklist.sha256,
    }
    return Screened(Merged(keep, counts), record, dropped, benchmarks)


@dataclass(frozen=True)
class ShardToScreen:
    """One task: a shard and the file of the blocklist."""

    shard: Shard
    blocklist: Path
    sha256: str

    @property
    def result(self) -> Path:
        """Where its pairs (row of the shard, run) lie: int64 (2, pairs)."""
        name = sha256_json([self.shard.file.shard_key, self.sha256])[:40]
        return corpus_cache("screened") / f"{name}.npy"


def screen_shard(task: ShardToScreen) -> None:
    """Find the test runs in every document of a shard, kept or not."""
    blocklist = _loaded(task.blocklist)
    pairs, start = [np.empty((2, 0), np.int64)], 0
    with pq.ParquetFile(task.shard.path) as file:
        for group in range(file.num_row_groups):
            check_stop()
            table = file.read_row_group(group, columns=["title", "abstract"])
            columns = zip(table["title"].to_pylist(), table["abstract"].to_pylist(), strict=True)
            rows, runs = blocklist.find([document_text(title, abstract) for title, abstract in columns])
            pairs.append(np.stack([rows + start, runs]))
            start += len(table)
    with atomic_file(task.result) as temporary, open(temporary, "wb") as out:
        np.save(out, np.concatenate(pairs, axis=1))


@lru_cache(maxsize=1)
def _loaded(path: Path) -> Blocklist:
    return Blocklist.load(path)


def _find_all(tasks: Sequence[ShardToScreen], workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (row over all shards, run) of all tasks, sorted; made where they are missing."""
    missing = list({task.result: task for task in tasks if not task.result.exists()}.values())
    with progress(total=sum(task.shard.counts["rows"] for task in missing), desc="decontaminating", unit="rows") as bar:
        with closing(run_all(screen_shard, missing, min(workers, max(len(missing), 1)))) as results:
            for task, result in results:
                if isinstance(result, UserError):
                    raise result
                bar.update(task.shard.counts["rows"])
    rows, runs, start = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    for task in tasks:
        found = np.load(task.result)
        rows.append(found[0] + start)
        runs.append(found[1])
        start += task.shard.counts["rows"]
    return np.concatenate(rows), np.concatenate(runs)
