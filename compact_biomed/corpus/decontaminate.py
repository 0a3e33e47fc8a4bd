"""Find and drop the documents that repeat a benchmark's test set: a long run of words, or a whole test text.

Words are compared in lower case and without the characters between them, so that "B - cell" in a tokenized
test set equals "B-cell" in an abstract. A document overlaps a benchmark if it contains

- `n_words` consecutive words of one of its test texts (13, as in Brown et al. 2020, Language models are
  few-shot learners, appendix C; docs/corpus.md compares other lengths), or
- a complete test text of `shortest_text` to `n_words - 1` words.

Entity masks ("@GENE$") occur in no document, so runs end there. Runs are compared by 64-bit hashes: of the
7e9 runs of PubMed, 0.0004 are expected to equal one of a million test runs by chance.

`Blocklist` finds the runs; `screen` drops the documents and counts them per benchmark.
Worker processes import this module, so it must not import `datasets`, `transformers` or `torch`.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from compact_biomed.console import progress
from compact_biomed.corpus.cache import corpus_cache
from compact_biomed.corpus.document import document_text
from compact_biomed.corpus.shards import Merged, Shard
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file, sha256_json
from compact_biomed.workers import check_stop, run_all

N_WORDS, SHORTEST_TEXT = 13, 8
# A run that occurs in more documents than this is a common phrase ("the aim of the present study ..."), a
# journal's notice or a compound's name, not the test set. The number is that of Brown et al. 2020, appendix C.
MOST_DOCUMENTS = 10
# Raise when the same texts would match other documents.
_MATCH_VERSION = 1
_MOST_BENCHMARKS = 64  # one bit each
# BioBERT's copy of JNLPBA truncates words to 20 characters, so no more are compared in any set.
_WORD = re.compile(r"([^\W_]{1,20})[^\W_]*")
_MASK = re.compile(r"@[A-Z-]+\$")
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplication modulo 2**64 can be undone


@dataclass(frozen=True)
class Runs:
    """Test runs of one length: sorted hashes, uint64 (runs,), and one bit per benchmark, uint64 (runs,)."""

    hashes: np.ndarray
    benchmarks: np.ndarray

    @cached_property
    def _prefixes(self) -> tuple[np.ndarray, np.uint64]:
        """The leading bits that occur. One lookup excludes most other hashes; a binary search takes twenty steps."""
        bits = min(24, len(self.hashes).bit_length() + 4)
        shift = np.uint64(64 - bits)
        occurs = np.zeros(1 << bits, bool)
        occurs[self.hashes >> shift] = True
        return occurs, shift

    def find(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of `hashes` that are test runs, and the numbers of these runs; int64 (matches,) each."""
        occurs, shift = self._prefixes
        indices = np.flatnonzero(occurs[hashes >> shift])
        numbers = np.searchsorted(self.hashes, hashes[indices])
        same = self.hashes[np.minimum(numbers, len(self.hashes) - 1)] == hashes[indices]
        return indices[same], numbers[same]


@dataclass(frozen=True)
class Blocklist:
    """The runs of words of several test sets.

    Args:
        benchmarks: their names, sorted; bit i of a run is the i-th benchmark.
        texts: number of test texts of each.
        n_words, shortest_text: see the module.
        words: every word of the test texts -> its 64-bit hash, never 0.
        runs: length in words -> runs of this length.
    """

    benchmarks: tuple[str, ...]
    texts: tuple[int, ...]
    n_words: int
    shortest_text: int
    words: dict[str, int]
    runs: dict[int, Runs]

    @classmethod
    def from_texts(
        cls, texts: Iterable[tuple[str, str]], *, n_words: int = N_WORDS, shortest_text: int = SHORTEST_TEXT
    ) -> "Blocklist":
        """Build the blocklist of (benchmark, test text) pairs, in any order.

        Raises:
            UserError: no text, or more than 64 benchmarks.
        """
        words: dict[str, int] = {}
        by_benchmark: dict[str, list[str]] = {}
        for benchmark, text in texts:
            by_benchmark.setdefault(benchmark, []).append(text)
            words |= {word: _word_hash(word) for word in split_words(text) if word not in words}
        if not words or len(by_benchmark) > _MOST_BENCHMARKS:
            raise UserError(
                f"{len(by_benchmark)} test sets to decontaminate against",
                remedy=f"name 1 to {_MOST_BENCHMARKS} benchmarks",
            )
        names = tuple(sorted(by_benchmark))
        by_length: dict[int, list[tuple[np.ndarray, int]]] = {}
        for bit, name in enumerate(names):
            for length, hashes in _test_runs(by_benchmark[name], words, n_words, shortest_text):
                by_length.setdefault(length, []).append((hashes, bit))
        runs = {length: _merge_runs(by_length[length]) for length in sorted(by_length)}
        return cls(names, tuple(len(by_benchmark[name]) for name in names), n_words, shortest_text, words, runs)

    @cached_property
    def sha256(self) -> str:
        """A hash of everything that determines which documents match."""
        digest = hashlib.sha256(
            repr((_MATCH_VERSION, self.benchmarks, self.texts, self.n_words, self.shortest_text)).encode()
        )
        for length, runs in self.runs.items():
            digest.update(length.to_bytes(2, "big") + runs.hashes.tobytes() + runs.benchmarks.tobytes())
        return digest.hexdigest()

    @cached_property
    def bits(self) -> np.ndarray:
        """The benchmarks of every run, uint64 (runs of all lengths,), in the order in which `find` numbers them."""
        return np.concatenate([runs.benchmarks for runs in self.runs.values()])

    def find(self, documents: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Find which documents contain which test runs.

        Returns:
            The number of the document and the number of the run, int64 (pairs,) each, without duplicates, sorted.
        """
        hashes, starts = _hash_words(documents, self.words)
        positions, numbers, _ = self._matches(hashes)
        pairs = np.unique(np.stack([np.searchsorted(starts, positions, side="right") - 1, numbers]), axis=1)
        return pairs[0], pairs[1]

    def passages(self, document: str) -> list[str]:
        """Return the passages that a document shares with the test sets, as compared words, in order."""
        words = split_words(document)
        positions, _, lengths = self._matches(_hash_words([document], self.words)[0])
        depth = np.zeros(len(words) + 2, int)  # +1 where a run starts, -1 where it ends: the sum is > 0 in passages
        np.add.at(depth, positions + 1, 1)
        np.add.at(depth, positions + 1 + lengths, -1)
        edges = np.flatnonzero(np.diff(np.cumsum(depth) > 0))
        return [" ".join(words[start:end]) for start, end in edges.reshape(-1, 2)]

    def _matches(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return where test runs start among word hashes, their numbers and lengths; int64 (matches,) each."""
        matches, first = [np.empty((3, 0), np.int64)], 0
        for length, windows, starts in _windows(hashes, max(self.runs, default=0)):
            if length in self.runs:
                indices, numbers = self.runs[length].find(windows)
                matches.append(np.stack([starts[indices], numbers + first, np.full(len(indices), length)]))
                first += len(self.runs[length].hashes)
        starts, numbers, lengths = np.concatenate(matches, axis=1)
        return starts, numbers, lengths

    def save(self, path: Path) -> None:
        """Write a .npz file for other processes."""
        arrays = {"words": np.frombuffer("\n".join(self.words).encode(), np.uint8)}
        arrays |= {"names": np.array(self.benchmarks), "texts": np.array(self.texts, np.int64)}
        arrays["settings"] = np.array([self.n_words, self.shortest_text])
        for length, runs in self.runs.items():
            arrays |= {f"hashes_{length}": runs.hashes, f"benchmarks_{length}": runs.benchmarks}
        with atomic_file(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Blocklist":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            lengths = sorted(int(name.partition("_")[2]) for name in file if name.startswith("hashes_"))
            runs = {length: Runs(file[f"hashes_{length}"], file[f"benchmarks_{length}"]) for length in lengths}
            words = {word: _word_hash(word) for word in file["words"].tobytes().decode().split("\n")}
            return cls(
                tuple(file["names"].tolist()), tuple(file["texts"].tolist()), *file["settings"].tolist(), words, runs
            )


def split_words(text: str) -> list[str]:
    """Split a text into its runs of letters and digits, in lower case, each cut at 20 characters."""
    return _WORD.findall(text.lower())


def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") or 1


def _hash_words(texts: Sequence[str], words: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the concatenated word hashes of texts, 0 for unknown words and between texts, and where each starts."""
    split = [split_words(text) for text in texts]
    starts = np.cumsum([0, *(len(text) + 1 for text in split)])
    hashes = np.zeros(starts[-1], np.uint64)
    for text, start in zip(split, starts[:-1], strict=True):
        hashes[start : start + len(text)] = np.fromiter(map(words.get, text, repeat(0)), np.uint64, len(text))
    return hashes, starts[:-1]


def _windows(hashes: np.ndarray, longest: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield (length, hashes of the windows, their starts) for each length up to `longest`; no window contains a 0.

    A window's hash is a polynomial in its words' hashes, so each length adds one term to the one before.
    """
    starts = np.flatnonzero(hashes)
    total, power = np.zeros(len(starts), np.uint64), np.uint64(1)
    padded = np.append(hashes, np.zeros(longest, np.uint64))
    for length in range(1, longest + 1):
        last = padded[starts + (length - 1)]
        whole = last != 0
        starts, total = starts[whole], total[whole] + last[whole] * power
        with np.errstate(over="ignore"):
            power = power * _BASE
        yield length, total, starts


def _test_runs(
    texts: Sequence[str], words: dict[str, int], n_words: int, shortest_text: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (length, hashes) of the runs of test texts: of `n_words` words, and of complete shorter texts."""
    parts = [part for text in texts for part in _MASK.split(text)]
    for length, windows, _ in _windows(_hash_words(parts, words)[0], n_words):
        if length == n_words and len(windows):
            yield length, windows
    whole = [text for text in texts if not _MASK.search(text) and shortest_text <= len(split_words(text)) < n_words]
    hashes, starts = _hash_words(whole, words)
    lengths = np.diff(np.append(starts, len(hashes))) - 1
    for length, windows, window_starts in _windows(hashes, n_words - 1):
        if len(texts_of_length := windows[np.isin(window_starts, starts[lengths == length])]):
            yield length, texts_of_length


def _merge_runs(runs: Sequence[tuple[np.ndarray, int]]) -> Runs:
    """Merge (hashes, bit of the benchmark) of several benchmarks; each run occurs once in the result."""
    hashes = np.concatenate([hashes for hashes, _ in runs])
    bits = np.concatenate([np.full(len(hashes), 1 << bit, np.uint64) for hashes, bit in runs])
    order = np.argsort(hashes, kind="stable")
    distinct, first = np.unique(hashes[order], return_index=True)
    return Runs(distinct, np.bitwise_or.reduceat(bits[order], first))


# ---- Screening the documents of a corpus


@dataclass(frozen=True)
class Screened:
    """The result of screening.

    Args:
        merged: the rows that are kept, and the counts with `contaminated` added and subtracted from `kept`.
        record: what was compared, and how many documents overlap each benchmark (some overlap several).
        rows: the rows that were dropped, numbered across all shards, int64 (dropped,).
        benchmarks: one bit per benchmark for each of them, uint64 (dropped,).
    """

    merged: Merged
    record: dict[str, Any]
    rows: np.ndarray
    benchmarks: np.ndarray


def screen(shards: Sequence[Shard], merged: Merged, blocklist: Blocklist, workers: int) -> Screened:
    """Drop the kept documents that overlap a test set. The matches of each shard are cached.

    Runs that occur in more than `MOST_DOCUMENTS` kept documents are ignored.
    """
    path = corpus_cache("blocklists") / f"{blocklist.sha256[:40]}.npz"
    if not path.exists():
        blocklist.save(path)
    rows, runs = _find_all([ScreenTask(shard, path, blocklist.sha256) for shard in shards], workers)
    is_kept = np.asarray(merged.keep[rows])
    rows, runs = rows[is_kept], runs[is_kept]
    documents = np.bincount(runs, minlength=len(blocklist.bits))
    rare = documents[runs] <= MOST_DOCUMENTS
    bits = blocklist.bits[runs[rare]]
    dropped, first = np.unique(rows[rare], return_index=True)
    benchmarks = np.bitwise_or.reduceat(bits, first) if len(first) else np.zeros(0, np.uint64)
    keep = np.load(merged.keep.filename, mmap_mode="c")  # copy-on-write: only changed pages are held in memory
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
class ScreenTask:
    """A shard to screen, and the file of the blocklist."""

    shard: Shard
    blocklist: Path
    sha256: str

    @property
    def result(self) -> Path:
        """The file of its matches (row of the shard, run): int64 (2, pairs)."""
        name = sha256_json([self.shard.file.shard_key, self.sha256])[:40]
        return corpus_cache("screened") / f"{name}.npy"


def screen_shard(task: ScreenTask) -> None:
    """Find the test runs in every document of a shard, whether kept or not."""
    blocklist = _load_blocklist(task.blocklist)
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
def _load_blocklist(path: Path) -> Blocklist:
    return Blocklist.load(path)


def _find_all(tasks: Sequence[ScreenTask], workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs (row across all shards, run) of all tasks, sorted; do the tasks that are not cached."""
    missing = list({task.result: task for task in tasks if not task.result.exists()}.values())
    with progress(
        total=sum(task.shard.counts["rows"] for task in missing), desc="decontaminating", unit=" rows"
    ) as bar:
        with closing(run_all(screen_shard, missing, min(workers, max(len(missing), 1)))) as results:
            for task, result in results:
                if isinstance(result, UserError):
                    raise result
                bar.update(task.shard.counts["rows"])
    rows, runs, start = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    for task in tasks:
        shard_rows, shard_runs = np.load(task.result)
        rows.append(shard_rows + start)
        runs.append(shard_runs)
        start += task.shard.counts["rows"]
    return np.concatenate(rows), np.concatenate(runs)
