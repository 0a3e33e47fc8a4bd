"""What the user named -> the files to read, in the order in which they apply."""

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compact_biomed.corpus.streams import read_blocks
from compact_biomed.errors import UserError

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
        from compact_biomed.corpus.fetch import medline_sample

        return [Source(Path(path), "xml", f"registry:{Path(path).name}") for path in medline_sample()]
    if name == "nlm" or name.startswith("nlm:"):
        return _nlm(name)
    if name.startswith("hub:"):
        from compact_biomed.corpus.hub import snapshot

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
    from compact_biomed.corpus import nlm
    from compact_biomed.files import cache_folder

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
