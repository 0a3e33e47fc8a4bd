"""Tokenize the kept documents into Arrow files, a few row groups of a shard per task.

A `Vocabulary` is what a worker needs of a tokenizer; `plan_tasks` divides a corpus into tasks, and
`tokenize_all` does those that are not in the cache yet.
Worker processes import this module, so it must not import `datasets`, `transformers` or `torch`.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from compact_biomed.console import progress
from compact_biomed.corpus.cache import Counts, corpus_cache, read_cached_json
from compact_biomed.corpus.document import document_text, heldout_mask
from compact_biomed.corpus.pieces import Pieces, frame
from compact_biomed.corpus.shards import ROW_GROUP, Merged, Shard
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file, atomic_folder, sha256_json, write_json
from compact_biomed.workers import check_stop, run_all

# Raise when the same documents would give other tokens.
TOKENS_VERSION = 1
SPLITS = ("train", "heldout")
# Row groups per task: half a minute of work at most, and one task per NLM file.
_GROUPS_PER_TASK = 8
_COUNTS = ("documents", "tokens", "text_tokens", "truncated")
_REQUIRED = ("mask_token", "cls_token", "sep_token", "pad_token")


@dataclass(frozen=True)
class Vocabulary:
    """The parts of a tokenizer that a worker needs; small enough to send with every task.

    Args:
        path: the tokenizer as JSON, without truncation and padding, in the cache.
        sha256: of that JSON.
        size: len(tokenizer), added tokens included.
        prefix, suffix: ids before and after every document ([CLS], [SEP]).
        special: ids that are neither masked nor counted as text.
    """

    path: Path
    sha256: str
    size: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    special: tuple[int, ...]

    @classmethod
    def from_tokenizer(cls, tokenizer: Any, minimum: int = 1000) -> "Vocabulary":
        """Check a loaded tokenizer and save its JSON to the cache; the tokenizer itself is not changed.

        Args:
            tokenizer: a `transformers.PreTrainedTokenizerFast`.
            minimum: smallest plausible number of entries besides the special tokens. Fewer indicate that
                the vocabulary file was not found.

        Raises:
            UserError: not a fast tokenizer, fewer than `minimum` entries, no [MASK], [CLS], [SEP] or [PAD],
                or an id outside the vocabulary.
        """
        name = getattr(tokenizer, "name_or_path", "") or "tokenizer"
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UserError("not a fast tokenizer", where=name, remedy="save it as tokenizer.json")
        special = tuple(sorted(set(tokenizer.all_special_ids)))
        size = len(tokenizer)
        if size - len(special) < minimum:
            raise UserError(
                f"a vocabulary of {size} entries, fewer than {minimum}",
                where=name,
                remedy="add tokenizer.json or vocab.txt, and load the folder with AutoTokenizer.from_pretrained",
            )
        if missing := [token for token in _REQUIRED if getattr(tokenizer, f"{token}_id", None) is None]:
            raise UserError(
                f"no {', '.join(missing)}", where=name, remedy="use the tokenizer of a masked-language model"
            )
        clone = Tokenizer.from_str(backend.to_str())
        # Saved tokenizers may include truncation or fixed padding.
        clone.no_truncation()
        clone.no_padding()
        text = clone.to_str()
        sha256 = hashlib.sha256(text.encode("utf-8")).hexdigest()
        try:
            prefix, suffix = map(tuple, frame(clone))
        except ValueError as error:
            raise UserError(
                str(error), where=name, remedy="add a post-processor such as BERT's to the tokenizer"
            ) from error
        if max((*special, *prefix, *suffix)) >= size or max(clone.get_vocab().values()) >= size:
            raise UserError(
                "an id outside the vocabulary", where=name, remedy="save the tokenizer again; its files do not match"
            )
        path = corpus_cache("tokenizers") / f"{sha256[:40]}.json"
        if not path.exists():
            with atomic_file(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return cls(path, sha256, size, prefix, suffix, special)

    @property
    def id_type(self) -> str:
        """The smallest integer type that holds every id; it halves the disk space of most vocabularies."""
        return "uint16" if self.size <= 65536 else "int32"

    @property
    def digest(self) -> str:
        """A hash of everything that determines the tokens: all fields but the path."""
        parts = [self.sha256, self.size, self.prefix, self.suffix, self.special]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@lru_cache(maxsize=1)
def _load(path: Path) -> Pieces:
    """Load the tokenizer of `Vocabulary.path`."""
    return Pieces(Tokenizer.from_file(str(path)))


@dataclass(frozen=True)
class TokenSettings:
    """The settings that determine the tokens.

    Args:
        max_length: maximum tokens per document, special tokens included.
        heldout_fraction: share of documents that are held out, by their key.
        require_abstract: drop documents that have only a title.
    """

    max_length: int = 256
    heldout_fraction: float = 0.02
    require_abstract: bool = True


@dataclass(frozen=True)
class TokenTask:
    """The row groups of a shard that are tokenized together.

    Args:
        shard: Parquet file of the documents.
        groups: numbers of its row groups.
        keep: which rows of these are kept, one bit per row (`np.packbits`).
        rows: number of rows.
        vocabulary, settings: see there.
        key: name of the result in the cache.
    """

    shard: Path
    groups: range
    keep: bytes
    rows: int
    vocabulary: Vocabulary
    settings: TokenSettings
    key: str

    @property
    def folder(self) -> Path:
        """The results: `train.arrow`, `heldout.arrow` (each only if not empty), `unigram.npy`, `counts.json`."""
        return corpus_cache("tokens") / self.key[:2] / self.key


def schema(vocabulary: Vocabulary, settings: TokenSettings) -> pa.Schema:
    """Return the columns: `input_ids` (special tokens included), `length`, `key`, `pmid` (nullable)."""
    length = pa.uint16() if settings.max_length < 65536 else pa.int32()
    return pa.schema(
        [
            ("input_ids", pa.list_(pa.type_for_alias(vocabulary.id_type))),
            ("length", length),
            ("key", pa.uint64()),
            ("pmid", pa.int64()),
        ]
    )


def plan_tasks(
    shards: Sequence[Shard], merged: Merged, vocabulary: Vocabulary, settings: TokenSettings
) -> Iterator[TokenTask]:
    """Yield the tasks in the order of the corpus.

    A task's key depends on the rows it keeps, not on the corpus it belongs to: when an update file
    replaces ten citations, only the tasks that lose one of them are repeated.
    """
    common = [TOKENS_VERSION, vocabulary.digest, vars(settings)]
    start = 0
    for shard in shards:
        n_rows = shard.counts["rows"]
        n_groups = -(-n_rows // ROW_GROUP)
        for first in range(0, n_groups, _GROUPS_PER_TASK):
            groups = range(first, min(first + _GROUPS_PER_TASK, n_groups))
            rows = merged.keep[start + groups.start * ROW_GROUP : start + min(groups.stop * ROW_GROUP, n_rows)]
            keep = np.packbits(rows).tobytes()
            key = sha256_json([common, shard.file.shard_key, groups.start, groups.stop, keep.hex()])[:40]
            yield TokenTask(shard.path, groups, keep, len(rows), vocabulary, settings, key)
        start += n_rows


def tokenize_all(tasks: Sequence[TokenTask], workers: int) -> None:
    """Run every task that is not in the cache yet; each writes its results to its folder."""
    missing = [task for task in tasks if read_cached_json(task.folder / "counts.json", dict[str, Counts]) is None]
    with progress(total=sum(task.rows for task in missing), desc="tokenizing", unit=" documents") as bar:
        with closing(run_all(tokenize_rows, missing, min(workers, max(len(missing), 1)))) as results:
            for task, result in results:
                if isinstance(result, UserError):
                    raise result
                bar.update(task.rows)


def tokenize_rows(task: TokenTask) -> None:
    """Write the results of one task, all of them or none."""
    pieces = _load(task.vocabulary.path)
    columns = schema(task.vocabulary, task.settings)
    unigram = np.zeros(task.vocabulary.size, np.int64)
    counts = {split: dict.fromkeys(_COUNTS, 0) for split in SPLITS}
    dropped = {"without_abstract": 0, "without_text": 0}
    keep = np.unpackbits(np.frombuffer(task.keep, np.uint8), count=task.rows).astype(bool)
    body = task.settings.max_length - len(task.vocabulary.prefix) - len(task.vocabulary.suffix)
    with atomic_folder(task.folder) as folder, pq.ParquetFile(task.shard) as shard:
        writers: dict[str, pa.ipc.RecordBatchStreamWriter] = {}
        start = 0
        for group in task.groups:
            check_stop()
            table = shard.read_row_group(group, columns=["key", "pmid", "title", "abstract"])
            keep_here, start = keep[start : start + len(table)], start + len(table)
            keys, pmids, ids = _encode(table.filter(pa.array(keep_here)), pieces, task.settings, dropped)
            heldout = heldout_mask(keys, task.settings.heldout_fraction)
            for split, side in zip(SPLITS, (~heldout, heldout), strict=True):
                chosen = np.flatnonzero(side)
                if len(chosen) == 0:
                    continue
                if split not in writers:
                    writers[split] = pa.ipc.new_stream(folder / f"{split}.arrow", columns)
                cut = [ids[row][:body] for row in chosen]
                writers[split].write_batch(_batch(cut, keys[chosen], pmids.take(pa.array(chosen)), task, columns))
                text_tokens = sum(map(len, cut))
                counts[split]["documents"] += len(cut)
                counts[split]["text_tokens"] += text_tokens
                counts[split]["tokens"] += text_tokens + len(cut) * (task.settings.max_length - body)
                counts[split]["truncated"] += sum(len(ids[row]) > body for row in chosen)
                if split == "train":
                    unigram += np.bincount(np.concatenate(cut), minlength=len(unigram))
        for writer in writers.values():
            writer.close()
        unigram[list(task.vocabulary.special)] = 0
        np.save(folder / "unigram.npy", unigram)
        write_json(folder / "counts.json", {**counts, "dropped": dropped})


def _encode(
    table: pa.Table, pieces: Pieces, settings: TokenSettings, dropped: dict[str, int]
) -> tuple[np.ndarray, pa.Array, list[np.ndarray]]:
    """Return keys, PMIDs and ids of the documents that have a text; ids uncut and without special tokens."""
    texts, rows = [], []
    columns = zip(table["title"].to_pylist(), table["abstract"].to_pylist(), strict=True)
    for row, (title, abstract) in enumerate(columns):
        if settings.require_abstract and not abstract:
            dropped["without_abstract"] += 1
        else:
            rows.append(row)
            texts.append(document_text(title, abstract))
    encoded = pieces.of_texts(texts)
    full = [number for number, ids in enumerate(encoded) if ids]
    dropped["without_text"] += len(encoded) - len(full)
    chosen = pa.array([rows[number] for number in full], pa.int64())
    return (
        table["key"].take(chosen).to_numpy(),
        table["pmid"].take(chosen).combine_chunks(),
        [np.asarray(encoded[number], np.int64) for number in full],
    )


def _batch(
    ids: list[np.ndarray], keys: np.ndarray, pmids: pa.Array, task: TokenTask, columns: pa.Schema
) -> pa.RecordBatch:
    """Return one record batch, with the special tokens around each document."""
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
