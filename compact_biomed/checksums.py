"""SHA256SUMS: the checksums of a folder's files, which `sha256sum -c SHA256SUMS` checks without this package."""

from collections.abc import Collection
from pathlib import Path

from compact_biomed.errors import UserError
from compact_biomed.files import sha256_file

SUMS = "SHA256SUMS"


def write_sums(folder: Path) -> None:
    """Write the checksums of all files of a folder, those in folders below included, hidden ones left out."""
    text = "".join(f"{sha256_file(file)}  {name}\n" for name, file in _files(folder).items())
    (folder / SUMS).write_text(text, encoding="utf-8")


def read_sums(folder: Path) -> dict[str, str]:
    """Return name -> sha256 of the files that a folder lists; empty if it lists none."""
    path = folder / SUMS
    if not path.is_file():
        return {}
    pairs = (line.partition("  ") for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return {name: digest for digest, _, name in pairs}


def unlisted(folder: Path) -> set[str]:
    """Return the files of a folder that it does not list."""
    return _files(folder).keys() - read_sums(folder).keys()


def first_change(folder: Path, *, may_change: Collection[str] = ()) -> str | None:
    """Return the first file that is not as listed, is missing, or is not listed; None if there is none.

    Args:
        may_change: names of files that may differ.
    """
    listed, present = read_sums(folder), _files(folder)
    for name in sorted(listed.keys() | present.keys()):
        if name in may_change:
            continue
        if name not in listed or name not in present or sha256_file(present[name]) != listed[name]:
            return name
    return None


def require_unchanged(folder: Path, *, may_change: Collection[str] = ()) -> None:
    """Raise a `UserError` if a folder is not as its checksums say."""
    if (name := first_change(folder, may_change=may_change)) is not None:
        what = "missing" if not (folder / name).exists() else "not the file that SHA256SUMS lists"
        if name not in read_sums(folder):
            what = "not listed in SHA256SUMS"
        raise UserError(what, where=folder / name, remedy="move the file away, or make the folder again")


def _files(folder: Path) -> dict[str, Path]:
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    is_ours = {name for name in files if not any(part.startswith((".", "__pycache__")) for part in Path(name).parts)}
    return {name: file for name, file in files.items() if name in is_ours and name != SUMS}
