"""Kept documents -> token ids in Arrow files, a stretch of a shard at a time."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from compact_biomed.console import progress
from compact_biomed.corpus.document import document_text, heldout_mask
from compact_biomed.corpus.merge import Merged
from compact_biomed.corpus.parse import ROW_GROUP, Shard
from compact_biomed.corpus.pool import check_stop, run_all
from compact_biomed.corpus.store import corpus_cache, read_json, sweep
from compact_biomed.corpus.vocabulary import Vocabulary, digest, load
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_folder, sha256_json, write_json

# Raise when the same documents would give other files.
TOKENS_VERSION = 1
SPLITS = ("train", "heldout")
# One task: half a minute at most, and one NLM file is one task.
_GROUPS_AT_ONCE = 8
_COUNTS = ("documents", "tokens", "text_tokens", "truncated")


@dataclass(frozen=True)
class Settings:
    """What decides the tokens besides the texts.

    Args:
        max_length: most tokens of a document, special tokens included.
        heldout_fraction: share of documents on the held-out side, by their key.
        require_abstract: drop documents that are a title alone.
    """

    max_length: int = 256
    heldout_fraction: float = 0.02
    require_abstract: bool = True


@dataclass(frozen=True)
class Stretch:
    """One task: some row groups of a shard, with the rows to keep in them.

    Args:
        kept: one bit a row (`np.packbits`), for `rows` rows.
    """

    shard: Path
    groups: range
    kept: bytes
    rows: int
    vocabulary: Vocabulary
    settings: Settings
    key: str

    @property
    def folder(self) -> Path:
        """Where its results lie: `train.arrow`, `heldout.arrow` (each only if it has documents),
        `unigram.npy`, `counts.json`."""
        return corpus_cache("tokens") / self.key[:2] / self.key


def schema(vocabulary: Vocabulary, settings: Settings) -> pa.Schema:
    """Columns of the tokenized set: `input_ids` (special tokens included), `length`, `key`, `pmid` (nullable)."""
    length = pa.uint16() if settings.max_length < 65536 else pa.int32()
    return pa.schema(
        [
            ("input_ids", pa.list_(pa.type_for_alias(vocabulary.id_type))),
            ("length", length),
            ("key", pa.uint64()),
            ("pmid", pa.int64()),
        ]
    )


def stretches(shards: Sequence[Shard], merged: Merged, vocabulary: Vocabulary, settings: Settings) -> Iterator[Stretch]:
    """The tasks in the order of the corpus.

    A task is named by the bits it keeps, not by the corpus it belongs to: when an
    update file replaces ten citations, only the stretches that lose one are done again.
    """
    common = [TOKENS_VERSION, digest(vocabulary), vars(settings)]
    start = 0
    for shard in shards:
        n_rows = shard.counts["rows"]
        n_groups = -(-n_rows // ROW_GROUP)
        for first in range(0, n_groups, _GROUPS_AT_ONCE):
            groups = range(first, min(first + _GROUPS_AT_ONCE, n_groups))
            rows = merged.keep[start + groups.start * ROW_GROUP : start + min(groups.stop * ROW_GROUP, n_rows)]
            kept = np.packbits(rows).tobytes()
            key = sha256_json([common, shard.file.shard_key, groups.start, groups.stop, kept.hex()])[:40]
            yield Stretch(shard.path, groups, kept, len(rows), vocabulary, settings, key)
        start += n_rows


def tokenize_all(tasks: Sequence[Stretch], workers: int) -> None:
    """Do every task that is not done yet; the results lie in each task's folder."""
    missing = [task for task in tasks if read_json(task.folder / "counts.json") is None]
    for parent in {task.folder.parent for task in missing}:
        sweep(parent)
    with progress(total=sum(task.rows for task in missing), desc="tokenizing", unit=" documents") as bar:
        with closing(run_all(tokenize_stretch, missing, min(workers, max(len(missing), 1)))) as results:
            for task, result in results:
                if isinstance(result, UserError):
                    raise result
                bar.update(task.rows)


def tokenize_stretch(task: Stretch) -> None:
    """Write one task's results, whole or not at all."""
    tokenizer = load(task.vocabulary.path)
    columns = schema(task.vocabulary, task.settings)
    unigram = np.zeros(task.vocabulary.size, np.int64)
    counts = {split: dict.fromkeys(_COUNTS, 0) for split in SPLITS}
    dropped = {"without_abstract": 0, "without_text": 0}
    keep = np.unpackbits(np.frombuffer(task.kept, np.uint8), count=task.rows).astype(bool)
    body = task.settings.max_length - len(task.vocabulary.prefix) - len(task.vocabulary.suffix)
    with atomic_folder(task.folder) as folder, pq.ParquetFile(task.shard) as shard:
        writers: dict[str, pa.ipc.RecordBatchStreamWriter] = {}
        start = 0
        for group in task.groups:
            check_stop()
            table = shard.read_row_group(group, columns=["key", "pmid", "title", "abstract"])
            keep_here, start = keep[start : start + len(table)], start + len(table)
            keys, pmids, ids = _encode(table.filter(pa.array(keep_here)), tokenizer, task.settings, dropped)
            heldout = heldout_mask(keys, task.settings.heldout_fraction)
            for split, side in zip(SPLITS, (~heldout, heldout), strict=True):
                chosen = np.flatnonzero(side)
                if len(chosen) == 0:
                    continue
                if split not in writers:
                    writers[split] = pa.ipc.new_stream(folder / f"{split}.arrow", columns)
                cut = [ids[row][:body] for row in chosen]
                writers[split].write_batch(_batch(cut, keys[chosen], pmids.take(pa.array(chosen)), task, columns))
                found = counts[split]
                text_tokens = sum(map(len, cut))
                found["documents"] += len(cut)
                found["text_tokens"] += text_tokens
                found["tokens"] += text_tokens + len(cut) * (task.settings.max_length - body)
                found["truncated"] += sum(len(ids[row]) > body for row in chosen)
                if split == "train":
                    unigram += np.bincount(np.concatenate(cut), minlength=len(unigram))
        for writer in writers.values():
            writer.close()
        unigram[list(task.vocabulary.special)] = 0
        np.save(folder / "unigram.npy", unigram)
        write_json(folder / "counts.json", {**counts, "dropped": dropped})


def _encode(table: pa.Table, tokenizer, settings: Settings, dropped: dict[str, int]):
    """Ids of the text of each document that has any, uncut and without special tokens."""
    texts, rows = [], []
    columns = zip(table["title"].to_pylist(), table["abstract"].to_pylist(), strict=True)
    for row, (title, abstract) in enumerate(columns):
        if settings.require_abstract and not abstract:
            dropped["without_abstract"] += 1
        else:
            rows.append(row)
            texts.append(document_text(title, abstract))
    encoded = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    full = [number for number, ids in enumerate(encoded) if ids]
    dropped["without_text"] += len(encoded) - len(full)
    chosen = pa.array([rows[number] for number in full], pa.int64())
    return (
        table["key"].take(chosen).to_numpy(),
        table["pmid"].take(chosen).combine_chunks(),
        [np.asarray(encoded[number], np.int64) for number in full],
    )


def _batch(
    ids: list[np.ndarray], keys: np.ndarray, pmids: pa.Array, task: Stretch, columns: pa.Schema
) -> pa.RecordBatch:
    """One record batch: each document framed by the special tokens."""
    prefix, suffix = (np.asarray(frame, np.int64) for frame in (task.vocabulary.prefix, task.vocabulary.suffix))
    values = np.concatenate([part for document in ids for part in (prefix, document, suffix)])
    lengths = np.array([len(document) for document in ids], np.int64) + len(prefix) + len(suffix)
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
    width = task.vocabulary.id_type
    return pa.record_batch(
        [
            pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.astype(width))),
            pa.array(lengths, columns.field("length").type),
            pa.array(keys, pa.uint64()),
            pmids,
        ],
        schema=columns,
    )
