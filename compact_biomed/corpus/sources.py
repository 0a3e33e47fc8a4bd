"""Resolve what the user named (registry, nlm, hub:, files, folders, globs) to the files to read, in order."""

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from compact_biomed.corpus import nlm, registry
from compact_biomed.corpus.cache import SourceFile
from compact_biomed.corpus.hub import snapshot
from compact_biomed.corpus.streams import read_blocks
from compact_biomed.errors import UserError
from compact_biomed.files import cache_folder

Sources = str | os.PathLike | Sequence[str | os.PathLike]

_KINDS = {".xml": "xml", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".txt": "text"}
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
        return [SourceFile(path, _kind(path) or _sniff(path), str(path))]
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
    kind = _kind(path)
    return [SourceFile(path, kind, str(path))] if kind else []


def _kind(path: Path) -> str | None:
    """Return the kind that the file name's ending indicates, None for any other ending."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return _KINDS.get(suffixes[-1]) if suffixes else None


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
