"""Documents as a file for other programs."""

import gzip
import json
import os
from pathlib import Path

from compact_biomed.console import progress
from compact_biomed.corpus.documents import DocumentStore
from compact_biomed.files import atomic_file

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
