"""Files: atomic writes, locks between processes, checksums, the cache folder."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compact_biomed.console import say


def cache_folder() -> Path:
    """Return the folder for downloads and built corpora.

    `COMPACT_BIOMED_CACHE` if set, else `$XDG_CACHE_HOME/compact-biomed`, else `~/.cache/compact-biomed`.
    """
    if folder := os.environ.get("COMPACT_BIOMED_CACHE"):
        return Path(folder).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "compact-biomed"


def sha256_file(path: Path | str) -> str:
    """Return the hex sha256 of a file, read in blocks."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Return the hex sha256 of a JSON value in canonical form (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which is renamed to `path` only if the block succeeds.

    The content is flushed to disk before the rename. After a power cut the file has the old content or the new, never
    a part.
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
    """Yield an empty folder beside `path`, which is renamed to `path` only if the block succeeds.

    An existing folder is replaced.
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
            # rename() cannot replace a folder that is not empty, so the old one is first moved to a name that nothing
            # reads.
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
    """Write a text atomically, in UTF-8."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON atomically: indented, keys in their order, a newline at the end."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def require_writable(folder: Path | str) -> None:
    """Create a folder if need be, and check before the work that its result can be written there.

    Raises:
        OSError: it cannot.
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


class FileLock:
    """An exclusive lock between processes: a `flock` on a file.

    The system releases it when the last process that holds it ends, however that process ends: a killed run never
    blocks the next one. A child process that inherits `descriptor` (`subprocess`: `pass_fds`) holds the lock too.

    Args:
        path: the file. It is created if need be, with its folder.
        remove: delete the file on release, for locks that are many and short-lived.

    Attributes:
        descriptor: of the locked file, open for reading and appending; None while the lock is not held.
    """

    def __init__(self, path: Path | str, *, remove: bool = False):
        self.path, self._remove = Path(path), remove
        self.descriptor: int | None = None

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock. Return False if another holder has it and `wait` is False.

        Raises:
            OSError: the file cannot be opened, or its file system has no locks.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while self.descriptor is None:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The former holder may have removed or replaced the file: then this lock is on a file without a name.
                if self._names(descriptor):
                    self.descriptor = descriptor
            except BlockingIOError:
                return False
            finally:
                if self.descriptor is None:
                    os.close(descriptor)
        return True

    def release(self) -> None:
        """Close the file. Children that inherited it keep the lock."""
        if self.descriptor is not None:
            if self._remove:
                self.path.unlink(missing_ok=True)
            os.close(self.descriptor)
            self.descriptor = None

    def __enter__(self) -> "FileLock":
        self.acquire()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.release()

    def _names(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(descriptor))
        except FileNotFoundError:
            return False


@contextmanager
def one_at_a_time(lock_file: Path, doing: str) -> Iterator[None]:
    """Hold a lock for the length of the block. While another process holds it, say what that does, and wait."""
    lock = FileLock(lock_file)
    if not lock.acquire(wait=False):
        say(f"waiting: another process is {doing}")
    with lock:
        yield
