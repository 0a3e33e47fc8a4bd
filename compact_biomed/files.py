"""Files that are whole or absent: atomic writes, checksums, the cache folder."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from compact_biomed.console import say


def cache_folder() -> Path:
    """Where downloads and built corpora are kept.

    `COMPACT_BIOMED_CACHE` if set, else `$XDG_CACHE_HOME/compact-biomed`, else
    `~/.cache/compact-biomed`.
    """
    if named := os.environ.get("COMPACT_BIOMED_CACHE"):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "compact-biomed"


def sha256_file(path: Path | str) -> str:
    """Hex sha256 of a file, read in blocks."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hex sha256 of a JSON value in canonical form (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes that name only if the block succeeds.

    The content is flushed to disk before the rename, so that after a power cut the
    name holds the old content or the new, never a part.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _fsync(temporary)
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
        _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside `path`; it takes that name only if the block succeeds.

    A folder that already stands there is replaced.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield temporary
        for item in temporary.rglob("*"):
            if item.is_file():
                _fsync(item)
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            # rename() cannot replace a folder that is not empty; the old one goes first, to a
            # name that nothing reads.
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temporary, path)
        _fsync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path | str, text: str) -> None:
    """Write a text atomically, UTF-8."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON atomically, indented, keys in the order given, with a final newline."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def require_writable(folder: Path | str) -> None:
    """Find out before the work whether its result can be written; the folder is made if need be.

    Raises:
        OSError: it can't.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    # The only way to read the mask is to set it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


# ----------------------------------------------------------------------------------------------------
# One process at a time in a folder of the cache.


@contextmanager
def one_at_a_time(lock_file: Path, doing: str) -> Iterator[None]:
    """Hold `lock_file` for the length of the block; while another process has it, say so and wait.

    The operating system drops the lock with the process that holds it, however that
    process ends, so a killed run never blocks the next one.
    """
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"waiting: another process is {doing}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
