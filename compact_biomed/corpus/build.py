"""Sources -> the documents of a corpus, on disk."""

import gzip
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerFast

from compact_biomed.console import progress
from compact_biomed.corpus.decontaminate import Blocklist, Screened, screen
from compact_biomed.corpus.document import Document
from compact_biomed.corpus.pool import worker_count
from compact_biomed.corpus.shards import (
    READER_VERSION,
    Merged,
    Shard,
    SourceFile,
    corpus_cache,
    find_shard,
    identify,
    merge_shards,
    parse_files,
    read_json,
    sweep,
)
from compact_biomed.corpus.sources import Sources, expand_sources
from compact_biomed.corpus.tokenize import (
    SPLITS,
    TOKENS_VERSION,
    Settings,
    Stretch,
    Vocabulary,
    digest,
    schema,
    stretches,
    tokenize_all,
)
from compact_biomed.errors import UsageError, UserError
from compact_biomed.files import atomic_file, atomic_folder, sha256_json, write_json

_FIELDS = ("title", "abstract", "pmid", "version", "year")


@dataclass(frozen=True)
class DocumentStore:
    """The documents of a corpus, on disk.

    Args:
        files: the sources, in the order in which they apply.
        shards: their documents; a broken source that was skipped has none.
        merged: which rows are kept, and the counts.
        broken: sha256 of each skipped source -> what is wrong with it.
        seconds: how long reading and merging took in this call.
        parsed: citations that this call read from sources rather than found read.
        screened: what was dropped for repeating test sets; None if nothing was compared.
    """

    files: list[SourceFile]
    shards: list[Shard]
    merged: Merged
    broken: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    parsed: int = 0
    screened: Screened | None = None

    def __len__(self) -> int:
        return self.merged.counts["kept"]

    def documents(self) -> Iterator[Document]:
        """Every kept document, in the order of the corpus, a row group in memory at a time."""
        yield from self._chosen(self.merged.keep)

    def contaminated(self) -> Iterator[tuple[Document, list[str]]]:
        """Every document that was dropped for repeating test sets, with the names of those benchmarks."""
        if self.screened is None:
            return
        dropped = np.zeros(len(self.merged.keep), bool)
        dropped[self.screened.rows] = True
        for document, bits in zip(self._chosen(dropped), self.screened.benchmarks.tolist(), strict=True):
            yield document, [name for bit, name in enumerate(self.screened.record["benchmarks"]) if bits >> bit & 1]

    def _chosen(self, rows: np.ndarray) -> Iterator[Document]:
        start = 0
        for shard in self.shards:
            with pq.ParquetFile(shard.path) as file:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group)
                    kept = np.asarray(rows[start : start + len(table)])
                    for values in table.filter(pa.array(kept)).select(_FIELDS).to_pylist():
                        yield Document(**values)
                    start += len(table)


def build_documents(
    sources: Sources,
    *,
    workers: int | None = None,
    skip_broken: bool = False,
    blocklist: "Blocklist | None" = None,
) -> DocumentStore:
    """Read sources into documents: updates applied, one version of each citation.

    Args:
        sources: one or several of what `expand_sources` takes.
        workers: processes, by default one for each processor.
        skip_broken: leave broken files out and name them, instead of stopping at the first.
        blocklist: drop the documents that touch these test sets.

    Raises:
        UserError: nothing to read, a broken file, or no citation in any.
    """
    return read_documents(identify_all(sources), worker_count(workers), skip_broken, blocklist)


def identify_all(sources: Sources) -> list[SourceFile]:
    """The files of some sources with their hashes, in the order in which they apply."""
    return [identify(source) for source in expand_sources(sources)]


def read_documents(
    files: list[SourceFile], workers: int, skip_broken: bool = False, blocklist: "Blocklist | None" = None
) -> DocumentStore:
    """`build_documents` for files that are already known by their hashes."""
    start = time.monotonic()
    found = {file.shard_key for file in files if find_shard(file)}
    shards, broken = parse_files(files, workers, skip_broken)
    merged = merge_shards(shards)
    screened = screen(shards, merged, blocklist, workers) if blocklist else None
    merged = screened.merged if screened else merged
    if merged.counts["kept"] == 0:
        raise UserError(
            f"no document in {len(files)} files ({len(broken)} of them broken)",
            where=", ".join(file.source.name for file in files[:3]),
            remedy="are these the right files?",
        )
    parsed = sum(shard.counts["citations"] for shard in shards if shard.file.shard_key not in found)
    return DocumentStore(files, shards, merged, broken, time.monotonic() - start, parsed, screened)


# ----------------------------------------------------------------------------------------------------
# A folder that `datasets.load_from_disk` opens, put together from finished pieces.


RECORD = "corpus.json"
UNIGRAM = "unigram.npy"


def assemble(
    folder: Path,
    store: DocumentStore,
    tasks: Sequence[Stretch],
    vocabulary: Vocabulary,
    settings: Settings,
    fingerprint: str,
) -> None:
    """Fill an empty folder with `train/`, `heldout/`, `unigram.npy` and `corpus.json`.

    Raises:
        UserError: no abstract in the whole corpus, or a split without documents.
    """
    counts = _add_up(tasks)
    _check_counts(counts, store, settings)
    files: dict[str, int] = {}
    for split in SPLITS:
        if counts[split]["documents"]:
            files |= _write_split(folder, split, tasks, vocabulary, settings, fingerprint)
    unigram = np.zeros(vocabulary.size, np.int64)
    for task in tasks:
        unigram += np.load(task.folder / UNIGRAM)
    np.save(folder / UNIGRAM, unigram)
    record = {
        "fingerprint": fingerprint,
        "documents": {**store.merged.counts, **counts["dropped"]},
        "train": counts["train"],
        "heldout": counts["heldout"],
        **({"decontamination": store.screened.record} if store.screened else {}),
        "settings": dict(vars(settings)),
        "tokenizer": {"sha256": vocabulary.sha256, "size": vocabulary.size},
        "sources": [_source(file, store) for file in store.files],
        "versions": {
            "reader": READER_VERSION,
            "tokens": TOKENS_VERSION,
            **{package: version(package) for package in ("lxml", "tokenizers", "pyarrow")},
        },
        "files": files,
    }
    write_json(folder / RECORD, record)


def is_made(folder: Path, fingerprint: str) -> bool:
    """Whether this very set stands in the folder, none of its files missing or cut off."""
    record = read_json(folder / RECORD) if folder.is_dir() else None
    if record is None or record.get("fingerprint") != fingerprint:
        return False
    try:
        return all((folder / name).stat().st_size == size for name, size in record["files"].items())
    except OSError:
        return False


def check_replaceable(folder: Path) -> None:
    """Stop before anything is overwritten that is not a tokenized set.

    Raises:
        UserError: `folder` is a file, or a folder with anything else in it.
    """
    if folder.is_dir():
        others = {item.name for item in folder.iterdir()} - {*SPLITS, UNIGRAM, RECORD}
        if others or (any(folder.iterdir()) and not (folder / RECORD).exists()):
            raise UserError("the folder holds something else", where=folder, remedy="name a new or empty folder")
    elif folder.exists():
        raise UserError("a file stands where a folder is needed", where=folder, remedy="name a new or empty folder")


def _add_up(tasks: Sequence[Stretch]) -> dict[str, dict[str, int]]:
    total: dict[str, dict[str, int]] = {}
    for task in tasks:
        for part, counts in (read_json(task.folder / "counts.json") or {}).items():
            into = total.setdefault(part, dict.fromkeys(counts, 0))
            for name, value in counts.items():
                into[name] += value
    return total


def _check_counts(counts: dict[str, dict[str, int]], store: DocumentStore, settings: Settings) -> None:
    where = ", ".join(file.source.name for file in store.files[:3])
    train, heldout = counts["train"]["documents"], counts["heldout"]["documents"]
    if train + heldout == 0:
        if settings.require_abstract and counts["dropped"]["without_abstract"]:
            raise UserError(
                f"none of {len(store)} documents has an abstract", where=where, remedy="--keep-title-only keeps titles"
            )
        raise UserError("no document has any text", where=where, remedy="are these the right files?")
    for split, found in (("train", train), ("held-out", heldout)):
        if found == 0 and (split == "train" or settings.heldout_fraction > 0):
            raise UserError(
                f"no {split} document among {train + heldout} at a held-out share of {settings.heldout_fraction}",
                where=where,
                remedy="bring more documents, or choose another --heldout",
            )


def _write_split(
    folder: Path, split: str, tasks: Sequence[Stretch], vocabulary: Vocabulary, settings: Settings, fingerprint: str
) -> dict[str, int]:
    target = folder / split
    target.mkdir()
    pieces = [piece for task in tasks if (piece := task.folder / f"{split}.arrow").exists()]
    names = [f"data-{number:05d}-of-{len(pieces):05d}.arrow" for number in range(len(pieces))]
    for piece, name in zip(pieces, names, strict=True):
        _link(piece, target / name)
    features = datasets.Features.from_arrow_schema(schema(vocabulary, settings))
    datasets.DatasetInfo(features=features).write_to_directory(str(target))
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": fingerprint[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    write_json(target / "state.json", state)
    return {f"{split}/{name}": (target / name).stat().st_size for name in names}


def _link(piece: Path, target: Path) -> None:
    """Give a finished piece a second name, so that a set costs no disk beyond its pieces; copy across disks."""
    try:
        os.link(piece, target)
    except OSError:
        shutil.copyfile(piece, target)


def _source(file, store: DocumentStore) -> dict[str, Any]:
    entry = {"name": file.source.name, "kind": file.source.kind, "sha256": file.sha256, "bytes": file.size}
    if file.sha256 in store.broken:
        entry["skipped"] = store.broken[file.sha256]
    return entry


# ----------------------------------------------------------------------------------------------------
# The whole line: sources -> documents -> a tokenized set that `datasets` opens.


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


# ----------------------------------------------------------------------------------------------------
# Documents as a file for other programs.


NAME = "documents.jsonl.gz"


def export_jsonl(store: DocumentStore, folder: str | os.PathLike) -> Path:
    """Write every kept document as a JSON line (pmid, version, year, title, abstract); return the file.

    The same documents give the same bytes. `read_jsonl` reads the file back.
    """
    path = Path(folder).expanduser() / NAME
    with atomic_file(path) as temporary, open(temporary, "wb") as raw:
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as out:
            for document in progress(store.documents(), total=len(store), desc="writing", unit=" documents"):
                fields = {name: getattr(document, name) for name in ("pmid", "version", "year", "title", "abstract")}
                out.write(json.dumps(fields, ensure_ascii=False).encode("utf-8") + b"\n")
    return path
