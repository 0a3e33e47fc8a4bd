"""Sources -> the documents of a corpus, on disk."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from compact_biomed.corpus.document import Document
from compact_biomed.corpus.merge import Merged, merge_shards
from compact_biomed.corpus.parse import Shard, find_shard, parse_files
from compact_biomed.corpus.pool import worker_count
from compact_biomed.corpus.screen import Screened, screen
from compact_biomed.corpus.sources import Sources, expand_sources
from compact_biomed.corpus.store import SourceFile, identify
from compact_biomed.errors import UserError

if TYPE_CHECKING:
    from compact_biomed.corpus.decontaminate import Blocklist

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
