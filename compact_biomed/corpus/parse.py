"""One source file -> one shard of documents, several files at a time."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from compact_biomed.console import progress, say
from compact_biomed.corpus.document import Deletion, Document
from compact_biomed.corpus.pool import check_stop, run_all
from compact_biomed.corpus.store import SourceFile, corpus_cache, read_json, sweep
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file, write_json

SCHEMA = pa.schema(
    [
        ("key", pa.uint64()),
        ("pmid", pa.int64()),  # null for text from elsewhere
        ("version", pa.int32()),
        ("deleted", pa.bool_()),  # an order to forget (pmid, version); the texts are then empty
        ("year", pa.int16()),  # null where unknown
        ("title", pa.string()),
        ("abstract", pa.string()),
    ]
)
# Rows in memory at a time, and the smallest stretch that can be read back: about 10 MB of abstracts.
ROW_GROUP = 4096


@dataclass(frozen=True)
class Shard:
    """Documents of one source file, in file order.

    Args:
        file: what it was made from.
        path: Parquet, columns `SCHEMA`, row groups of `ROW_GROUP` rows.
        counts: rows, citations, deletions, without_abstract.
    """

    file: SourceFile
    path: Path
    counts: dict[str, int]


def parse_files(
    files: Sequence[SourceFile], workers: int, skip_broken: bool = False
) -> tuple[list[Shard], dict[str, str]]:
    """Make the shard of every file, or find it made; in the order of `files`.

    Returns:
        The shards, and for each broken file that was skipped its sha256 -> the error's line.

    Raises:
        UserError: a broken file, unless `skip_broken`. Shards finished by then are
            kept, and the next run goes on from them.
    """
    made: dict[str, Shard] = {}
    broken: dict[str, str] = {}
    wanted = {file.shard_key: file for file in files}
    for key, file in wanted.items():
        if shard := find_shard(file):
            made[key] = shard
    missing = [file for key, file in wanted.items() if key not in made]
    if missing:
        sweep(corpus_cache("documents"))
    with progress(total=sum(file.size for file in missing), desc="reading", unit="B", unit_scale=True) as bar:
        with closing(run_all(make_shard, missing, min(workers, max(len(missing), 1)))) as results:
            for file, result in results:
                bar.update(file.size)
                if not isinstance(result, UserError):
                    made[file.shard_key] = result
                elif skip_broken:
                    say(f"skipped: {result}")
                    broken[file.sha256] = str(result)
                else:
                    raise result
    return [made[file.shard_key] for file in files if file.shard_key in made], broken


def find_shard(file: SourceFile) -> Shard | None:
    """The finished shard of a file, if there is one."""
    path = corpus_cache("documents") / f"{file.shard_key}.parquet"
    # The counts are written last: where they are, the documents are whole.
    counts = read_json(path.with_suffix(".json"))
    return Shard(file, path, counts) if counts and path.exists() else None


def make_shard(file: SourceFile) -> Shard:
    """Read one source file into its shard.

    Raises:
        UserError: the file is broken, or changed since it was hashed.
    """
    path = corpus_cache("documents") / f"{file.shard_key}.parquet"
    counts = {"rows": 0, "citations": 0, "deletions": 0, "without_abstract": 0}
    before = file.source.path.stat()
    with atomic_file(path) as temporary:
        with pq.ParquetWriter(temporary, SCHEMA, compression="zstd", use_dictionary=False) as writer:
            for rows in _row_groups(read_source(file), counts):
                check_stop()
                writer.write_table(pa.Table.from_pydict(rows, SCHEMA), row_group_size=ROW_GROUP)
        after = file.source.path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or after.st_size != file.size:
            raise UserError(
                "changed while it was read", where=file.source.path, remedy="run again when the file is complete"
            )
    write_json(path.with_suffix(".json"), counts)
    return Shard(file, path, counts)


def read_source(file: SourceFile) -> Iterator[Document | Deletion]:
    """The documents and deletions of a file, by the reader of its kind."""
    from compact_biomed.corpus.medline import read_medline
    from compact_biomed.corpus.text_files import read_jsonl, read_text

    return {"xml": read_medline, "jsonl": read_jsonl, "text": read_text}[file.source.kind](file.source.path)


def _row_groups(items: Iterator[Document | Deletion], counts: dict[str, int]) -> Iterator[dict[str, list]]:
    rows: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for item in items:
        deleted = isinstance(item, Deletion)
        counts["rows"] += 1
        counts["deletions" if deleted else "citations"] += 1
        counts["without_abstract"] += not deleted and not item.abstract
        rows["key"].append(item.key)
        rows["pmid"].append(item.pmid)
        rows["version"].append(item.version)
        rows["deleted"].append(deleted)
        rows["year"].append(None if deleted else item.year)
        rows["title"].append("" if deleted else item.title)
        rows["abstract"].append("" if deleted else item.abstract)
        if len(rows["key"]) == ROW_GROUP:
            yield rows
            rows = {name: [] for name in SCHEMA.names}
    if rows["key"]:
        yield rows
