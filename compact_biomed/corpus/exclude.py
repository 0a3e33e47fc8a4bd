"""Documents that a corpus shall lack: those of benchmarks, by key."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from compact_biomed.corpus.documents import DocumentStore
from compact_biomed.corpus.parse import Shard
from compact_biomed.corpus.pool import check_stop

Excluded = Mapping[str, np.ndarray]
"""Why (the name of a benchmark) -> keys (`Document.key`), uint64 (n,)."""


def digests(exclude: Excluded) -> dict[str, str]:
    """Name -> hex sha256 of its sorted keys: what a corpus' fingerprint takes in."""
    return {name: hashlib.sha256(_sorted(keys).astype("<u8").tobytes()).hexdigest() for name, keys in exclude.items()}


def without(store: DocumentStore, exclude: Excluded) -> DocumentStore:
    """The store less the documents with the given keys.

    `excluded` of the result tells for each name how many keys it lists, their sha256, and how many kept
    documents have one; a document that two names list is counted by both. `merged.counts` moves the
    documents dropped from "kept" to "excluded".
    """
    listed = {name: _sorted(keys) for name, keys in exclude.items()}
    found = dict.fromkeys(listed, 0)
    keep = np.array(store.merged.keep)
    before, start = int(keep.sum()), 0
    for keys in _keys(store.shards):
        here = keep[start : start + len(keys)]
        for name, wanted in listed.items():
            hit = np.isin(keys, wanted)
            found[name] += int((hit & store.merged.keep[start : start + len(keys)]).sum())
            here &= ~hit
        start += len(keys)
    kept = int(keep.sum())
    counts = {**store.merged.counts, "kept": kept, "excluded": before - kept}
    sums = digests(exclude)
    record: dict[str, Any] = {
        name: {"listed": len(keys), "sha256": sums[name], "documents": found[name]} for name, keys in listed.items()
    }
    return replace(store, merged=replace(store.merged, keep=keep, counts=counts), excluded=record)


def _sorted(keys: np.ndarray) -> np.ndarray:
    return np.unique(np.asarray(keys, np.uint64))


def _keys(shards: Sequence[Shard]) -> Iterator[np.ndarray]:
    for shard in shards:
        with pq.ParquetFile(shard.path) as file:
            for group in range(file.num_row_groups):
                check_stop()
                yield file.read_row_group(group, columns=["key"])["key"].to_numpy()
