"""A data set of the Hugging Face hub, brought into the cache as JSON lines."""

import gzip
import json
import re
from pathlib import Path

from compact_biomed.console import progress, say
from compact_biomed.corpus.text_files import document_of
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file, cache_folder

_NAME = re.compile(
    r"^hub:(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?::(?P<split>[\w.-]*))?(?::(?P<column>.+))?$"
)


def snapshot(source: str) -> Path:
    """Bring `hub:OWNER/NAME[@REVISION][:SPLIT][:COLUMN]` to a JSON-lines file in the cache; return its path.

    The set is streamed, so that only this file needs room on the disk; no code of
    the set is run. The file's name holds the revision, so that a set that changed
    is fetched again, and one that did not is not. Without a column, `title` and
    `abstract` are read, else `text`.

    Raises:
        UserError: a name that cannot be read, a set or column that does not exist, no network.
    """
    match = _NAME.match(source)
    if not match:
        raise UserError("not a hub data set", where=source, remedy="write hub:OWNER/NAME[@REVISION][:SPLIT][:COLUMN]")
    name, split, column = match["name"], match["split"] or "train", match["column"]
    folder = cache_folder() / "corpus" / "hub" / name.replace("/", "--")
    revision = _revision(name, match["revision"], source)
    if revision is None:  # the hub cannot be reached
        kept = sorted(folder.glob(_file_name("*", split, column)), key=lambda path: path.stat().st_mtime)
        if not kept:
            raise UserError(
                "the hub cannot be reached",
                where=source,
                remedy="connect, or bring the texts as .jsonl and name that file",
            )
        say(f"{source}: the hub cannot be reached; using the copy fetched before ({kept[-1].name})")
        return kept[-1]
    path = folder / _file_name(revision, split, column)
    if not path.exists():
        _fetch(source, name, revision, split, column, path)
    return path


def _file_name(revision: str, split: str, column: str | None) -> str:
    return f"{revision}.{split}.{re.sub(r'[^A-Za-z0-9_-]', '_', column or 'fields')}.jsonl.gz"


def _revision(name: str, wanted: str | None, source: str) -> str | None:
    """The commit that `wanted` (default: the main branch) stands for; None without a network."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return HfApi().dataset_info(name, revision=wanted, timeout=20).sha
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise UserError("no such data set on the hub", where=source, remedy="check the name, or log in to it") from None
    except (HfHubHTTPError, OSError):
        return None
    except Exception as error:  # the HTTP library under the hub's client differs between its versions
        if type(error).__module__.partition(".")[0] in ("httpx", "httpcore", "requests", "urllib3"):
            return None
        raise


def _fetch(source: str, name: str, revision: str, split: str, column: str | None, path: Path) -> None:
    import datasets

    try:
        rows = datasets.load_dataset(name, split=split, revision=revision, streaming=True)
    except (ValueError, RuntimeError, FileNotFoundError, OSError) as error:
        raise UserError(
            f"cannot be opened: {error}", where=source, remedy="check the split; sets that need code are not run"
        ) from None
    with atomic_file(path) as temporary, gzip.open(temporary, "wb", compresslevel=6) as out:
        for number, row in enumerate(progress(rows, desc=name, unit=" documents")):
            if column is not None:
                if column not in row:
                    raise UserError(f"no column {column!r} among {sorted(row)}", where=source)
                row = {"text": row[column]}
            document = document_of(row, f"{source}, row {number}")
            fields = {"pmid": document.pmid, "title": document.title, "abstract": document.abstract}
            out.write(json.dumps(fields, ensure_ascii=False).encode() + b"\n")
