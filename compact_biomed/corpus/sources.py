"""What the user named -> the files to read, in the order in which they apply."""

import glob
import gzip
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from compact_biomed.console import progress, say
from compact_biomed.corpus import nlm
from compact_biomed.corpus.document import document_of
from compact_biomed.corpus.registry import medline_sample
from compact_biomed.corpus.streams import read_blocks
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file, cache_folder

# ----------------------------------------------------------------------------------------------------
# A data set of the Hugging Face hub, brought into the cache as JSON lines.


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


KINDS = {".xml": "xml", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".txt": "text"}
Sources = str | os.PathLike | Sequence[str | os.PathLike]
ACCEPTED = "MEDLINE XML, JSON lines (.jsonl) or text (.txt), plain or .gz"
# pubmed25n1274.xml.gz: year of the baseline, then the number in it; update files go on counting.
_NLM_NAME = re.compile(r"^(?:pubmed|medline)(\d\d)n(\d{4,})\.xml(?:\.gz)?$")


@dataclass(frozen=True)
class Source:
    """One file to read.

    Args:
        path: the file.
        kind: "xml", "jsonl" or "text".
        name: how records and messages call it.
    """

    path: Path
    kind: str
    name: str


def expand_sources(named: Sources) -> list[Source]:
    """The files behind what the user named, each once, in the order in which they apply.

    A name is `registry`, `nlm[:KIND][:SUBSET]` (see `nlm.download`),
    `hub:OWNER/NAME[@REVISION][:SPLIT][:COLUMN]`, a file, a folder (searched through,
    hidden files and READMEs left out) or a glob.

    NLM's own files come first, by baseline year and number whatever order they
    were named in, so that an update applies after what it updates; all other files
    follow in the order given.

    Raises:
        UserError: nothing matches a name, or a file is of no known kind.
    """
    if isinstance(named, str | os.PathLike):
        named = [named]
    if not named:
        raise UserError(
            "no source named", where="corpus", remedy="name a file, a folder, a glob, registry, nlm or hub:"
        )
    found: dict[Path, Source] = {}
    for name in named:
        for source in _expand(os.fspath(name)):
            found.setdefault(source.path.resolve(), source)
    return sorted(found.values(), key=_order)  # stable: ties keep the order given


def _expand(name: str) -> list[Source]:
    if name == "registry":
        return [Source(Path(path), "xml", f"registry:{Path(path).name}") for path in medline_sample()]
    if name == "nlm" or name.startswith("nlm:"):
        return _nlm(name)
    if name.startswith("hub:"):
        return [Source(snapshot(name), "jsonl", name)]
    path = Path(name).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.exists():
        return [Source(path, file_kind(path) or _sniff(path), str(path))]
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))] if glob.has_magic(name) else []
    found = [source for match in matches for source in (_folder(match, True) if match.is_dir() else _known(match))]
    if not found:
        what = "nothing of a known kind matches" if matches else "no such file, folder or glob match"
        raise UserError(what, where=name, remedy=f"a source is registry, nlm, hub:OWNER/NAME, or a path to {ACCEPTED}")
    return found


def _nlm(name: str) -> list[Source]:
    """`nlm[:baseline|:updatefiles|:both][:SUBSET]`, by default both: updates are numbered on from the baseline."""

    kind, subset = "both", name.partition(":")[2]
    if subset.partition(":")[0] in ("baseline", "updatefiles", "both"):
        kind, _, subset = subset.partition(":")
    paths = nlm.download(cache_folder() / "nlm", kind=kind, subset=subset or None)
    return [Source(path, "xml", f"nlm:{path.name}") for path in paths]


def _folder(folder: Path, may_be_empty: bool = False) -> list[Source]:
    paths = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [Path(parent) / name for name in sorted(files) if not name.startswith((".", "README", "readme"))]
    found = [source for path in paths for source in _known(path)]
    if not found and not may_be_empty:
        raise UserError(f"the folder holds no file to read among {len(paths)}", where=folder, remedy=ACCEPTED)
    return found


def _known(path: Path) -> list[Source]:
    kind = file_kind(path)
    return [Source(path, kind, str(path))] if kind else []


def file_kind(path: Path) -> str | None:
    """The kind that the name promises, None for any other name."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return KINDS.get(suffixes[-1]) if suffixes else None


def _sniff(path: Path) -> str:
    """The kind of a file that was named outright but whose name says nothing: by its first character."""
    first = next(read_blocks(path)).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if kind := {b"<": "xml", b"{": "jsonl"}.get(first):
        return kind
    raise UserError("unknown kind of file", where=path, remedy=f"give it the ending of {ACCEPTED}")


def _order(source: Source) -> tuple[int, int, int]:
    """NLM files by (year, number), all others after them."""
    match = _NLM_NAME.match(source.path.name)
    if source.kind != "xml" or not match:
        return (1, 0, 0)
    year = int(match.group(1))
    # Two-digit years: MEDLINE's first files of this naming are of 2001.
    return (0, 2000 + year, int(match.group(2)))
