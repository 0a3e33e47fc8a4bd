"""Which documents repeat a benchmark's test set: a long run of words, or a whole test text.

Words are compared in lower case, without what stands between them, so that "B - cell" of a tokenized test
set is "B-cell" of an abstract. A document touches a benchmark where it holds

- `n_words` words in a row of one of its test texts (13, as in Brown et al. 2020, Language models are few-shot
  learners, appendix C; docs/corpus.md compares other lengths), or
- a whole test text of `shortest_text` to `n_words - 1` words.

Entity masks ("@GENE$") stand in no document, so that runs end there. Runs are compared by 64-bit hashes: of
the 7e9 runs of PubMed, 0.0004 are expected to meet one of a million test runs by accident.
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
from compact_biomed.corpus.document import document_text
from compact_biomed.corpus.pool import check_stop, run_all
from compact_biomed.corpus.shards import Merged, Shard, corpus_cache, sweep
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file, sha256_json

N_WORDS, SHORTEST_TEXT = 13, 8
# Raise when the same texts would match other documents.
_MATCH_VERSION = 1
_MOST_BENCHMARKS = 64  # one bit each
# JNLPBA, as BioBERT carries it, keeps 20 characters of a word; so no more are compared anywhere.
_WORD = re.compile(r"([^\W_]{1,20})[^\W_]*")
_MASK = re.compile(r"@[A-Z-]+\$")
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplication loses nothing


@dataclass(frozen=True)
class Runs:
    """Test runs of one length: sorted hashes uint64 (runs,), and one bit a benchmark, uint64 (runs,)."""

    hashes: np.ndarray
    benchmarks: np.ndarray

    @cached_property
    def _beginnings(self) -> tuple[np.ndarray, np.uint64]:
        """Which leading bits occur: tells most strange hashes by one look, where a search takes twenty."""
        bits = min(24, len(self.hashes).bit_length() + 4)
        rest = np.uint64(64 - bits)
        occur = np.zeros(1 << bits, bool)
        occur[self.hashes >> rest] = True
        return occur, rest

    def find(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of `hashes` are runs of these (places), and which ones (numbers); int64 (found,) each."""
        occur, rest = self._beginnings
        places = np.flatnonzero(occur[hashes >> rest])
        numbers = np.searchsorted(self.hashes, hashes[places])
        same = self.hashes[np.minimum(numbers, len(self.hashes) - 1)] == hashes[places]
        return places[same], numbers[same]


@dataclass(frozen=True)
class Blocklist:
    """The runs of words of some test sets.

    Args:
        benchmarks: their names, sorted; bit i of a run stands for the i-th.
        texts: number of test texts of each.
        n_words, shortest_text: see above.
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
    def of(
        cls, texts: Iterable[tuple[str, str]], *, n_words: int = N_WORDS, shortest_text: int = SHORTEST_TEXT
    ) -> "Blocklist":
        """From (benchmark, test text) pairs, in any order.

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
                f"{len(by_benchmark)} test sets to decontaminate against", remedy=f"1 to {_MOST_BENCHMARKS}"
            )
        names = tuple(sorted(by_benchmark))
        found: dict[int, list[tuple[np.ndarray, int]]] = {}
        for bit, name in enumerate(names):
            for length, hashes in _test_runs(by_benchmark[name], words, n_words, shortest_text):
                found.setdefault(length, []).append((hashes, bit))
        runs = {length: _merged(found[length]) for length in sorted(found)}
        return cls(names, tuple(len(by_benchmark[name]) for name in names), n_words, shortest_text, words, runs)

    @cached_property
    def sha256(self) -> str:
        """Of everything that decides which documents match."""
        digest = hashlib.sha256(
            repr((_MATCH_VERSION, self.benchmarks, self.texts, self.n_words, self.shortest_text)).encode()
        )
        for length, runs in self.runs.items():
            digest.update(length.to_bytes(2, "big") + runs.hashes.tobytes() + runs.benchmarks.tobytes())
        return digest.hexdigest()

    @cached_property
    def bits(self) -> np.ndarray:
        """The benchmarks of every run, uint64 (runs of all lengths,), as `find` numbers them."""
        return np.concatenate([runs.benchmarks for runs in self.runs.values()])

    def find(self, documents: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Which test runs stand in which documents.

        Returns:
            Pairs, int64 (pairs,) each: number of the document, number of the run. Each pair once, sorted.
        """
        hashes, starts = _hashed(documents, self.words)
        at, numbers, _ = self._matches(hashes)
        pairs = np.unique(np.stack([np.searchsorted(starts, at, side="right") - 1, numbers]), axis=1)
        return pairs[0], pairs[1]

    def passages(self, document: str) -> list[str]:
        """The passages that a document shares with the test sets, as the words compared, from first to last."""
        words = split_words(document)
        at, _, lengths = self._matches(_hashed([document], self.words)[0])
        shared = np.zeros(len(words) + 2, int)  # starts less ends: above 0 inside of a passage
        np.add.at(shared, at + 1, 1)
        np.add.at(shared, at + 1 + lengths, -1)
        edges = np.flatnonzero(np.diff(np.cumsum(shared) > 0))
        return [" ".join(words[start:end]) for start, end in edges.reshape(-1, 2)]

    def _matches(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where test runs start among word hashes, the runs' numbers and their lengths; int64 (matches,) each."""
        found, first = [np.empty((3, 0), np.int64)], 0
        for length, windows, at in _windows(hashes, max(self.runs, default=0)):
            if length in self.runs:
                places, numbers = self.runs[length].find(windows)
                found.append(np.stack([at[places], numbers + first, np.full(len(places), length)]))
                first += len(self.runs[length].hashes)
        at, numbers, lengths = np.concatenate(found, axis=1)
        return at, numbers, lengths

    def save(self, path: Path) -> None:
        """Write to a .npz file, for other processes."""
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
    """Letters and digits in a row, in lower case, 20 characters at most."""
    return _WORD.findall(text.lower())


def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") or 1


def _hashed(texts: Sequence[str], words: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Word hashes of texts one behind the other, 0 for unknown words and between texts; where each text starts."""
    split = [split_words(text) for text in texts]
    starts = np.cumsum([0, *(len(text) + 1 for text in split)])
    hashes = np.zeros(starts[-1], np.uint64)
    for text, start in zip(split, starts[:-1], strict=True):
        hashes[start : start + len(text)] = np.fromiter(map(words.get, text, repeat(0)), np.uint64, len(text))
    return hashes, starts[:-1]


def _windows(hashes: np.ndarray, longest: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(length, hashes of the windows, where they start) for each length up to `longest`; none with a 0 in it.

    A window's hash is the sum of its words' times powers of a number, so that each length adds to the one before.
    """
    at = np.flatnonzero(hashes)
    total, power = np.zeros(len(at), np.uint64), np.uint64(1)
    padded = np.append(hashes, np.zeros(longest, np.uint64))
    for length in range(1, longest + 1):
        following = padded[at + (length - 1)]
        whole = following != 0
        at, total = at[whole], total[whole] + following[whole] * power
        with np.errstate(over="ignore"):
            power = power * _BASE
        yield length, total, at


def _test_runs(
    texts: Sequence[str], words: dict[str, int], n_words: int, shortest_text: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(length, hashes) of the runs of test texts: of `n_words`, and of whole shorter texts."""
    parts = [part for text in texts for part in _MASK.split(text)]
    for length, windows, _ in _windows(_hashed(parts, words)[0], n_words):
        if length == n_words and len(windows):
            yield length, windows
    whole = [text for text in texts if not _MASK.search(text) and shortest_text <= len(split_words(text)) < n_words]
    hashes, starts = _hashed(whole, words)
    lengths = np.diff(np.append(starts, len(hashes))) - 1
    for length, windows, at in _windows(hashes, n_words - 1):
        if len(chosen := windows[np.isin(at, starts[lengths == length])]):
            yield length, chosen


def _merged(found: Sequence[tuple[np.ndarray, int]]) -> Runs:
    """The runs of several benchmarks, each once."""
    hashes = np.concatenate([hashes for hashes, _ in found])
    bits = np.concatenate([np.full(len(hashes), 1 << bit, np.uint64) for hashes, bit in found])
    order = np.argsort(hashes, kind="stable")
    distinct, first = np.unique(hashes[order], return_index=True)
    return Runs(distinct, np.bitwise_or.reduceat(bits[order], first))


# ----------------------------------------------------------------------------------------------------
# Kept documents less those that touch a benchmark's test set, with the counts for the record.


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
