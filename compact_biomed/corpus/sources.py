"""Resolve what the user named (registry, nlm, hub:, files, folders, globs) to the files to read, in order."""

import glob
import gzip
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import datasets
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from compact_biomed.console import progress, say
from compact_biomed.corpus import hub, nlm, registry
from compact_biomed.corpus.cache import SourceFile, corpus_cache
from compact_biomed.corpus.document import parse_document
from compact_biomed.corpus.streams import kind_by_name, read_blocks
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file, cache_folder

# ---- Data sets of the Hugging Face hub, saved to the cache as JSON lines.


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
    match = _parsed(source)
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


def _parsed(source: str) -> re.Match:
    match = _SOURCE.match(source)
    if not match:
        raise UserError("not a hub data set", where=source, remedy=f"write {_SYNTAX}")
    return match


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
    except Exception as error:  # hub clients have several error classes
        if hub.reason_of(error) is None and not isinstance(error, OSError):
            raise
        return None


def _fetch(source: str, name: str, revision: str, split: str, column: str | None, path: Path) -> None:
    remedy = "check the split; data sets that need their own code are not supported"
    with hub.opening(source, remedy):
        rows = datasets.load_dataset(name, split=split, revision=revision, streaming=True)
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


Sources = str | os.PathLike | Sequence[str | os.PathLike]

_ACCEPTED = "MEDLINE XML, JSON lines (.jsonl) or text (.txt), plain or .gz"
# pubmed25n1274.xml.gz: year of the baseline, then the file's number. Update files continue the numbering.
_NLM_NAME = re.compile(r"^(?:pubmed|medline)(\d\d)n(\d{4,})\.xml(?:\.gz)?$")


def expand_sources(named: Sources) -> list[SourceFile]:
    """Return the files behind the given names, without duplicates, in the order in which they apply.

    A name is `registry`, `nlm[:KIND][:SUBSET]` (see `nlm.download`),
    `hub:OWNER/NAME[@REVISION][:SPLIT][:COLUMN]`, a file, a folder (searched recursively, without hidden
    files and READMEs) or a glob.

    NLM's own files come first, sorted by baseline year and number, so that an update applies after the
    citations it updates. All other files follow in the order given.

    Raises:
        UserError: a name that matches nothing, or a file of unknown kind.
    """
    if isinstance(named, str | os.PathLike):
        named = [named]
    if not named:
        raise UserError(
            "no source named", where="corpus", remedy="name a file, a folder, a glob, registry, nlm or hub:OWNER/NAME"
        )
    sources: dict[Path, SourceFile] = {}
    for name in named:
        for source in _expand(os.fspath(name)):
            sources.setdefault(source.path.resolve(), source)
    return sorted(sources.values(), key=_order)  # the sort is stable: ties keep the order given


def check_sources(named: Sequence[str]) -> dict[str, list[SourceFile]]:
    """Return the files behind the local names, and check that the other names are well formed; fetch nothing.

    Raises:
        UserError: as in `expand_sources`.
    """
    files: dict[str, list[SourceFile]] = {}
    for name in named:
        if name.startswith("hub:"):
            _parsed(name)
        elif name != "registry" and name.partition(":")[0] != "nlm":
            files[name] = _expand(name)
    return files


def _expand(name: str) -> list[SourceFile]:
    if name == "registry":
        return [SourceFile(path, "xml", f"registry:{path.name}") for path in registry.medline_sample()]
    if name == "nlm" or name.startswith("nlm:"):
        return _nlm(name)
    if name.startswith("hub:"):
        return [SourceFile(snapshot(name), "jsonl", name)]
    path = Path(name).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.exists():
        return [SourceFile(path, kind_by_name(path) or _sniff(path), str(path))]
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))] if glob.has_magic(name) else []
    sources = [source for match in matches for source in (_folder(match, True) if match.is_dir() else _file(match))]
    if not sources:
        what = "no match is a readable source" if matches else "no such file or folder, and no match"
        raise UserError(what, where=name, remedy=f"use registry, nlm, hub:OWNER/NAME, or a path to {_ACCEPTED}")
    return sources


def _nlm(name: str) -> list[SourceFile]:
    """Download `nlm[:baseline|:updatefiles|:both][:SUBSET]`; the default is both, numbered continuously."""
    kind, subset = "both", name.partition(":")[2]
    if subset.partition(":")[0] in ("baseline", "updatefiles", "both"):
        kind, _, subset = subset.partition(":")
    paths = nlm.download(cache_folder() / "nlm", kind=kind, subset=subset or None)
    return [SourceFile(path, "xml", f"nlm:{path.name}") for path in paths]


def _folder(folder: Path, may_be_empty: bool = False) -> list[SourceFile]:
    paths = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [Path(parent) / name for name in sorted(files) if not name.startswith((".", "README", "readme"))]
    sources = [source for path in paths for source in _file(path)]
    if not sources and not may_be_empty:
        raise UserError(f"no file to read among {len(paths)}", where=folder, remedy=f"add {_ACCEPTED}")
    return sources


def _file(path: Path) -> list[SourceFile]:
    kind = kind_by_name(path)
    return [SourceFile(path, kind, str(path))] if kind else []


def _sniff(path: Path) -> str:
    """Return the kind of a file by its first character, for a file named explicitly that has no known ending."""
    first = next(read_blocks(path)).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if kind := {b"<": "xml", b"{": "jsonl"}.get(first):
        return kind
    raise UserError("unknown kind of file", where=path, remedy=f"rename it with the ending of {_ACCEPTED}")


def _order(source: SourceFile) -> tuple[int, int, int]:
    """Sort NLM files by (year, number), and all others after them."""
    match = _NLM_NAME.match(source.path.name)
    if source.kind != "xml" or not match:
        return (1, 0, 0)
    # Two-digit years: MEDLINE's first files named like this are from 2001.
    return (0, 2000 + int(match.group(1)), int(match.group(2)))
