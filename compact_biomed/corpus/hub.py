"""Data sets of the Hugging Face hub, saved to the cache as JSON lines."""

import gzip
import json
import re
from pathlib import Path

import datasets
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from compact_biomed.console import progress, say
from compact_biomed.corpus.cache import corpus_cache
from compact_biomed.corpus.document import parse_document
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file

_SYNTAX = "hub:OWNER/NAME[@REVISION][:SPLIT][:COLUMN]"
_SOURCE = re.compile(
    r"^hub:(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?::(?P<split>[\w.-]*))?(?::(?P<column>.+))?$"
)


def snapshot(source: str) -> Path:
    """Save `hub:OWNER/NAME[@REVISION][:SPLIT][:COLUMN]` as a JSON lines file in the cache; return its path.

    The data set is streamed, so only this file takes disk space; no code of the data set is run. The
    file name contains the revision: a data set is fetched again only after it changed. Without a
    column, the columns `title` and `abstract` are read, or else `text`.

    Raises:
        UserError: a malformed name, an unknown data set or column, or no network and no earlier copy.
    """
    match = _SOURCE.match(source)
    if not match:
        raise UserError("not a hub data set", where=source, remedy=f"write {_SYNTAX}")
    name, split, column = match["name"], match["split"] or "train", match["column"]
    folder = corpus_cache("hub") / name.replace("/", "--")
    revision = _revision(name, match["revision"], source)
    if revision is None:  # the hub cannot be reached
        copies = sorted(folder.glob(_file_name("*", split, column)), key=lambda path: path.stat().st_mtime)
        if not copies:
            raise UserError(
                "the hub cannot be reached",
                where=source,
                remedy="connect to the network, or pass the texts as a .jsonl file",
            )
        say(f"{source}: the hub cannot be reached; using the copy fetched before ({copies[-1].name})")
        return copies[-1]
    path = folder / _file_name(revision, split, column)
    if not path.exists():
        _fetch(source, name, revision, split, column, path)
    return path


def _file_name(revision: str, split: str, column: str | None) -> str:
    return f"{revision}.{split}.{re.sub(r'[^A-Za-z0-9_-]', '_', column or 'fields')}.jsonl.gz"


def _revision(name: str, revision: str | None, source: str) -> str | None:
    """Return the commit that `revision` (default: the main branch) names; None without a network."""
    try:
        return HfApi().dataset_info(name, revision=revision, timeout=20).sha
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise UserError(
            "no such data set on the hub", where=source, remedy="check the name; for a private data set, log in"
        ) from None
    except (HfHubHTTPError, OSError):
        return None
    except Exception as error:  # which HTTP library the hub's client uses depends on its version
        if type(error).__module__.partition(".")[0] in ("httpx", "httpcore", "requests", "urllib3"):
            return None
        raise


def _fetch(source: str, name: str, revision: str, split: str, column: str | None, path: Path) -> None:
    try:
        rows = datasets.load_dataset(name, split=split, revision=revision, streaming=True)
    except (ValueError, RuntimeError, FileNotFoundError, OSError) as error:
        raise UserError(
            f"cannot be opened: {error}",
            where=source,
            remedy="check the split; data sets that need their own code are not supported",
        ) from None
    with atomic_file(path) as temporary, gzip.open(temporary, "wb", compresslevel=6) as out:
        for number, row in enumerate(progress(rows, desc=name, unit=" documents")):
            if column is not None:
                if column not in row:
                    raise UserError(
                        f"no column {column!r}", where=source, remedy=f"choose one of {', '.join(sorted(row))}"
                    )
                row = {"text": row[column]}
            document = parse_document(row, f"{source}, row {number}")
            fields = {"pmid": document.pmid, "title": document.title, "abstract": document.abstract}
            out.write(json.dumps(fields, ensure_ascii=False).encode() + b"\n")
