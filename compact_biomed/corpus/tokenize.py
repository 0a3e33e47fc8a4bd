"""Kept documents -> token ids in Arrow files, a stretch of a shard at a time."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from compact_biomed.console import progress
from compact_biomed.corpus.document import document_text, heldout_mask
from compact_biomed.corpus.pool import check_stop, run_all
from compact_biomed.corpus.shards import ROW_GROUP, Merged, Shard, corpus_cache, read_json, sweep
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file, atomic_folder, sha256_json, write_json

# ----------------------------------------------------------------------------------------------------
# A tokenizer reduced to what turning text into numbers needs, checked before it is trusted.


_NEEDED = ("mask_token", "cls_token", "sep_token", "pad_token")


@dataclass(frozen=True)
class Vocabulary:
    """What a worker process needs of a tokenizer; small enough to send with every task.

    Args:
        path: the tokenizer as JSON, truncation and padding switched off, in the cache.
        sha256: of that JSON.
        size: len(tokenizer), added tokens included.
        prefix, suffix: ids that stand around every document ([CLS], [SEP]).
        special: ids that are never masked nor counted as text.
    """

    path: Path
    sha256: str
    size: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    special: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerFast", minimum: int = 1000) -> "Vocabulary":
        """Check a loaded tokenizer and put its JSON into the cache; the tokenizer is left as it was.

        Raises:
            UserError: not a fast tokenizer, fewer than `minimum` entries besides the
                special tokens (the sign of a vocabulary file that was not found), no
                [MASK], [CLS], [SEP] or [PAD], or an id outside of the vocabulary.
        """
        name = getattr(tokenizer, "name_or_path", "") or "tokenizer"
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UserError("not a fast tokenizer", where=name, remedy="save it with a tokenizer.json")
        special = tuple(sorted(set(tokenizer.all_special_ids)))
        size = len(tokenizer)
        if size - len(special) < minimum:
            raise UserError(
                f"a vocabulary of {size} entries; at least {minimum} are expected",
                where=name,
                remedy="is tokenizer.json or vocab.txt missing? Load the folder with AutoTokenizer.from_pretrained",
            )
        if missing := [token for token in _NEEDED if getattr(tokenizer, f"{token}_id", None) is None]:
            raise UserError(f"no {', '.join(missing)}", where=name, remedy="masked-language models need all of them")
        clone = Tokenizer.from_str(backend.to_str())
        # Saved tokenizers may carry a truncation or a fixed padding of their own.
        clone.no_truncation()
        clone.no_padding()
        text = clone.to_str()
        sha256 = hashlib.sha256(text.encode("utf-8")).hexdigest()
        prefix, suffix = _frame(clone, name)
        if max((*special, *prefix, *suffix)) >= size or max(clone.get_vocab().values()) >= size:
            raise UserError("an id outside of the vocabulary", where=name, remedy="the tokenizer's files do not fit")
        path = corpus_cache("tokenizers") / f"{sha256[:40]}.json"
        if not path.exists():
            with atomic_file(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return cls(path, sha256, size, prefix, suffix, special)

    @property
    def id_type(self) -> str:
        """The smallest integer type that holds every id; half of the disk and cache for most vocabularies."""
        return "uint16" if self.size <= 65536 else "int32"


@lru_cache(maxsize=1)
def load(path: Path) -> Tokenizer:
    """The tokenizer of `Vocabulary.path`.

    Special tokens written out in a text ("[MASK]") are text to it: only we place them.
    """
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return tokenizer


def _frame(tokenizer: Tokenizer, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids before and after the text, read off one framed example."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    framed = tokenizer.encode("a", add_special_tokens=True).ids
    for start in range(len(framed) - len(bare) + 1):
        if bare and framed[start : start + len(bare)] == bare:
            return tuple(framed[:start]), tuple(framed[start + len(bare) :])
    raise UserError(
        "cannot tell which tokens stand around a text",
        where=name,
        remedy="the tokenizer needs a post-processor such as BERT's",
    )


def digest(vocabulary: Vocabulary) -> str:
    """What of a vocabulary decides the tokens, in one hash: not its place in the cache."""
    parts = [vocabulary.sha256, vocabulary.size, vocabulary.prefix, vocabulary.suffix, vocabulary.special]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


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
