"""Read sources into documents on disk, and export them as JSON lines."""

import gzip
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from compact_biomed.console import progress
from compact_biomed.corpus.cache import HashedFile, identify
from compact_biomed.corpus.decontaminate import Blocklist, Screened, screen
from compact_biomed.corpus.document import Document
from compact_biomed.corpus.shards import READERS, Merged, Shard, find_shard, merge_shards, parse_files
from compact_biomed.corpus.sources import Sources, check_sources, expand_sources
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file
from compact_biomed.workers import worker_count

_FIRST_FILES, _FIRST_DOCUMENTS = 10, 100  # that `look_into` reads: some milliseconds per file
_FIELDS = ("pmid", "version", "year", "title", "abstract")


@dataclass(frozen=True)
class DocumentStore:
    """The documents of a corpus, on disk.

    Args:
        files: the sources, in the order in which they apply.
        shards: their documents; a broken source that was skipped has none.
        merged: which rows are kept, and the counts.
        broken: sha256 of each skipped source -> its error message.
        seconds: how long reading and merging took in this call.
        parsed: citations read from sources in this call; those read before are not counted.
        screened: what was dropped because it repeats test sets; None without a blocklist.
    """

    files: list[HashedFile]
    shards: list[Shard]
    merged: Merged
    broken: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    parsed: int = 0
    screened: Screened | None = None

    def __len__(self) -> int:
        return self.merged.counts["kept"]

    def documents(self) -> Iterator[Document]:
        """Yield every kept document in the order of the corpus, with one row group in memory at a time."""
        yield from self._rows(self.merged.keep)

    def contaminated(self) -> Iterator[tuple[Document, list[str]]]:
        """Yield every document that was dropped for repeating test sets, with the names of these benchmarks."""
        if self.screened is None:
            return
        dropped = np.zeros(len(self.merged.keep), bool)
        dropped[self.screened.rows] = True
        for document, bits in zip(self._rows(dropped), self.screened.benchmarks.tolist(), strict=True):
            yield document, [name for bit, name in enumerate(self.screened.record["benchmarks"]) if bits >> bit & 1]

    def _rows(self, mask: np.ndarray) -> Iterator[Document]:
        start = 0
        for shard in self.shards:
            with pq.ParquetFile(shard.path) as file:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group)
                    selected = np.asarray(mask[start : start + len(table)])
                    for values in table.filter(pa.array(selected)).select(_FIELDS).to_pylist():
                        yield Document(**values)
                    start += len(table)


def build_documents(
    sources: Sources,
    *,
    workers: int | None = None,
    skip_broken: bool = False,
    blocklist: Blocklist | None = None,
) -> DocumentStore:
    """Read sources into documents: apply updates, and keep one version of each citation.

    Args:
        sources: one or several names, see `expand_sources`.
        workers: number of processes, by default one per processor.
        skip_broken: skip broken files and report them, instead of stopping at the first.
        blocklist: drop the documents that repeat these test sets.

    Raises:
        UserError: no source, a broken file, or no citation in any file.
    """
    return read_documents(identify_all(sources), worker_count(workers), skip_broken, blocklist)


def look_into(named: Sequence[str]) -> None:
    """Read the first documents of local sources: what cannot be read at all is then known before the work.

    Of a source of many files, only the first ones are opened. Nothing is fetched or kept.

    Raises:
        UserError: a name as in `expand_sources`, or one of these documents cannot be read.
    """
    for files in check_sources(named).values():
        for file in files[:_FIRST_FILES]:
            if file.path.is_file():  # a pipe can be read only once
                for _ in islice(READERS[file.kind](file.path), _FIRST_DOCUMENTS):
                    pass


def identify_all(sources: Sources) -> list[HashedFile]:
    """Return the files of some sources with their hashes, in the order in which they apply."""
    return [identify(source) for source in expand_sources(sources)]


def read_documents(
    files: list[HashedFile], workers: int, skip_broken: bool = False, blocklist: Blocklist | None = None
) -> DocumentStore:
    """Build the documents, as `build_documents`, from files whose hashes are known."""
    start = time.monotonic()
    cached = {file.shard_key for file in files if find_shard(file)}
    shards, broken = parse_files(files, workers, skip_broken)
    merged = merge_shards(shards)
    screened = screen(shards, merged, blocklist, workers) if blocklist else None
    merged = screened.merged if screened else merged
    if merged.counts["kept"] == 0:
        raise UserError(
            f"no document in {len(files)} files ({len(broken)} of them broken)",
            where=name_files(files),
            remedy="name files that contain citations or texts",
        )
    parsed = sum(shard.counts["citations"] for shard in shards if shard.file.shard_key not in cached)
    return DocumentStore(files, shards, merged, broken, time.monotonic() - start, parsed, screened)


def name_files(files: list[HashedFile]) -> str:
    """Return the names of the first three files, for errors."""
    return ", ".join(file.source.name for file in files[:3])


def export_jsonl(
    store: DocumentStore, folder: str | os.PathLike, *, require_abstract: bool = False
) -> tuple[Path, int]:
    """Write the kept documents as lines of documents.jsonl.gz (pmid, version, year, title, abstract).

    The same documents give the same bytes. `read_jsonl` reads the file.

    Args:
        require_abstract: leave out citations that have only a title.

    Returns:
        The file, and how many documents were left out.

    Raises:
        UserError: all were left out.
    """
    path, left_out = Path(folder).expanduser() / "documents.jsonl.gz", 0
    with atomic_file(path) as temporary, open(temporary, "wb") as raw:
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as out:
            for document in progress(store.documents(), total=len(store), desc="writing", unit=" documents"):
                if require_abstract and not document.abstract:
                    left_out += 1
                    continue
                fields = {name: getattr(document, name) for name in _FIELDS}
                out.write(json.dumps(fields, ensure_ascii=False).encode("utf-8") + b"\n")
        if left_out == len(store):
            raise no_abstract(store)
    return path, left_out


def no_abstract(store: DocumentStore) -> UserError:
    """Return the error for a corpus of titles."""
    return UserError(
        f"none of {len(store)} documents has an abstract",
        where=name_files(store.files),
        remedy="add --keep-title-only to keep titles",
    )
