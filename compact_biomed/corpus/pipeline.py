"""The whole line: sources -> documents -> a tokenized set that `datasets` opens."""

import os
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compact_biomed.corpus.arrow_set import RECORD, assemble, check_replaceable, is_made
from compact_biomed.corpus.documents import identify_all, read_documents
from compact_biomed.corpus.pool import worker_count
from compact_biomed.corpus.sources import Sources
from compact_biomed.corpus.store import READER_VERSION, corpus_cache, read_json, sweep
from compact_biomed.corpus.tokenize import TOKENS_VERSION, Settings, stretches, tokenize_all
from compact_biomed.corpus.vocabulary import Vocabulary, digest
from compact_biomed.errors import UsageError, UserError
from compact_biomed.files import atomic_folder, sha256_json

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerFast

    from compact_biomed.corpus.decontaminate import Blocklist


@dataclass(frozen=True)
class TokenizedCorpus:
    """A tokenized set in a folder.

    Args:
        folder: holds `train/` and `heldout/` (for `datasets.load_from_disk`),
            `unigram.npy` and `corpus.json`.
        seconds: how long this call took; 0 documents were parsed if the set was found made.
        parsed: citations that this call read from sources.
    """

    folder: Path
    seconds: float = 0.0
    parsed: int = 0

    @cached_property
    def record(self) -> dict[str, Any]:
        """What the set was made from and what is in it: the content of `corpus.json`."""
        record = read_json(self.folder / RECORD)
        if record is None:
            raise UserError("not a tokenized corpus", where=self.folder, remedy="make it: compact-biomed corpus build")
        return record

    @cached_property
    def train(self) -> "datasets.Dataset":
        """Columns `input_ids`, `length`, `key`, `pmid`; mapped from disk, not loaded."""
        return self._split("train")

    @cached_property
    def heldout(self) -> "datasets.Dataset":
        """The held-out documents, same columns."""
        return self._split("heldout")

    @cached_property
    def unigram(self) -> np.ndarray:
        """int64 (vocabulary,): how often each id stands in the training texts; 0 for special tokens."""
        return np.load(self.folder / "unigram.npy")

    def _split(self, name: str) -> "datasets.Dataset":
        import datasets

        if not (self.folder / name).is_dir():
            raise UserError(
                "this corpus has no held-out documents", where=self.folder, remedy="build it with --heldout"
            )
        return datasets.load_from_disk(str(self.folder / name))


def prepare(
    sources: Sources,
    tokenizer: "PreTrainedTokenizerFast",
    *,
    max_length: int = 256,
    heldout_fraction: float = 0.02,
    require_abstract: bool = True,
    workers: int | None = None,
    skip_broken: bool = False,
    out: str | os.PathLike | None = None,
    minimum_vocabulary: int = 1000,
    blocklist: "Blocklist | None" = None,
) -> TokenizedCorpus:
    """Make the tokenized set of some sources, or find it made.

    Args:
        sources: one or several of what `expand_sources` takes.
        tokenizer: the start checkpoint's own, loaded with `AutoTokenizer.from_pretrained`.
        max_length: most tokens of a document, special tokens included; the rest is cut off.
        heldout_fraction: share of documents held out, 0 for none. Which ones depends on
            their PMID alone (their text, without one).
        require_abstract: leave out citations that are a title alone; the paper keeps them.
        workers: processes, by default one for each processor; the result does not depend on it.
        skip_broken: leave broken files out and name them in the record.
        out: folder for the set, by default one in the cache.
        minimum_vocabulary: smallest plausible tokenizer.
        blocklist: drop the documents that touch these test sets, on both sides of the split.

    Raises:
        UserError: a broken or missing source, an unfit tokenizer, no document, no
            abstract, an empty split, or an `out` that holds something else.
    """
    start = time.monotonic()
    workers = worker_count(workers)
    vocabulary = Vocabulary.of(tokenizer, minimum_vocabulary)
    settings = _settings(max_length, heldout_fraction, require_abstract, vocabulary)
    files = identify_all(sources)
    fingerprint = sha256_json(
        {
            "versions": [READER_VERSION, TOKENS_VERSION],
            # Names too: the record tells them. A file that moved costs new links, no new tokens.
            "files": [[file.source.name, file.shard_key] for file in files],
            "vocabulary": digest(vocabulary),
            "settings": vars(settings),
            "skip_broken": skip_broken,
            **({"blocklist": blocklist.sha256} if blocklist else {}),
        }
    )
    folder = corpus_cache("sets") / fingerprint[:40] if out is None else Path(out).expanduser()
    if is_made(folder, fingerprint):
        return TokenizedCorpus(folder, time.monotonic() - start)
    if out is not None:
        check_replaceable(folder)
    store = read_documents(files, workers, skip_broken, blocklist)
    tasks = list(stretches(store.shards, store.merged, vocabulary, settings))
    tokenize_all(tasks, workers)
    sweep(folder.parent)
    with atomic_folder(folder) as temporary:
        assemble(temporary, store, tasks, vocabulary, settings, fingerprint)
    return TokenizedCorpus(folder, time.monotonic() - start, store.parsed)


def _settings(max_length: int, heldout_fraction: float, require_abstract: bool, vocabulary: Vocabulary) -> Settings:
    frame = len(vocabulary.prefix) + len(vocabulary.suffix)
    if max_length <= frame:
        raise UserError(f"{max_length} tokens hold no text", where="--max-length", remedy=f"more than {frame}")
    if not 0 <= heldout_fraction < 1:
        raise UsageError(f"{heldout_fraction} is not a share", where="--heldout", remedy="at least 0, below 1")
    return Settings(max_length, heldout_fraction, require_abstract)
