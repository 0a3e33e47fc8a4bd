"""Files: atomic writes, locks between processes, checksums, the cache folder."""

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from compact_biomed.console import say
from compact_biomed.errors import UserError, full_disk


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


# ---- Atomic writes
# A temporary name is locked while its process lives. So a later write, or `sweep`, can tell what a killed process left
# behind from what another one is writing just now.

_TEMPORARY = re.compile(r"\..+\.(tmp|old|replaced)")
_DAY = 86_400  # seconds
_ATTEMPTS = 100  # to make a temporary name that nobody else takes or sweeps


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which is renamed to `path` only if the block succeeds.

    The content is flushed to disk before the rename. After a power cut the file has the old content or the new, never
    a part.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with temporary_beside(path, is_folder=False) as temporary:
        yield temporary
        _fsync(temporary)
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
        _fsync(path.parent)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside `path`, which is renamed to `path` only if the block succeeds.

    An existing folder is replaced. Its files are as readable as others of the user: safetensors writes private ones.
    """
    path = Path(path)
    restore(path)
    with temporary_beside(path, is_folder=True) as temporary:
        yield temporary
        mode = 0o666 & ~_umask()
        for item in temporary.rglob("*"):
            if item.is_file():
                state = item.stat()
                if state.st_mode & mode != mode and state.st_nlink == 1:  # others' files can be linked here
                    item.chmod(state.st_mode | mode)
                _fsync(item)
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            _exchange(temporary, path)
        else:
            os.replace(temporary, path)
        _fsync(path.parent)


@contextmanager
def temporary_beside(path: Path, *, is_folder: bool) -> Iterator[Path]:
    """Yield a new, locked file or folder beside `path`; at the end it is removed unless it was renamed.

    Raises:
        UserError: somebody removed it, or a folder above it, while it was written. The libraries that write report this
            with errors of their own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, lock = _new_temporary(path, is_folder)
    try:
        yield temporary
    except Exception as error:
        if full := full_disk(error):  # it names a file that was copied, or none
            raise OSError(full.errno, full.strerror, str(path)) from error
        of_disk = isinstance(error, OSError) and error.errno not in (None, errno.ENOENT)
        if of_disk or isinstance(error, UserError) or _names(temporary, lock):
            raise
        what = "removed by somebody else while it was written"
        raise UserError(what, where=path, remedy="run the same command again, and leave its folders alone") from error
    finally:
        # Once it is renamed, another writer of the same path may already have taken its name.
        if _names(temporary, lock):
            _remove(temporary)
        os.close(lock)


def _new_temporary(path: Path, is_folder: bool) -> tuple[Path, int]:
    name = _hidden(path, "tmp")
    for attempt in count():
        temporary = path.with_name(name)
        _remove_if_dead(temporary)
        try:
            if is_folder:
                temporary.mkdir(0o700)
            else:
                os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            return temporary, _lock(temporary)
        except (FileExistsError, FileNotFoundError, BlockingIOError) as error:
            # Another process writes the same file, or has swept this name before it was locked.
            if attempt > _ATTEMPTS:  # in /proc, a new name never exists
                raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from error
            path.parent.mkdir(parents=True, exist_ok=True)
            name = _hidden(path, f"{secrets.token_hex(4)}.tmp")


def _hidden(path: Path, suffix: str) -> str:
    """Return a hidden name that belongs to `path`; at most 255 bytes long, however long that of `path` is."""
    return f".{os.fsdecode(os.fsencode(path.name)[:230])}.{suffix}"


def _exchange(folder: Path, path: Path) -> None:
    """Give a folder the name of another one, and remove that.

    rename() cannot replace a folder that is not empty, so the old one is first moved to a name that nothing reads.
    After a kill between the two renames, `restore` moves it back.
    """
    replaced = path.with_name(_hidden(path, "replaced"))
    try:
        lock = _lock(path)
    except (BlockingIOError, FileNotFoundError):  # another process replaces it just now
        time.sleep(0.05)
        return _exchange(folder, path) if path.exists() else os.replace(folder, path)
    try:
        os.replace(path, replaced)
        try:
            os.replace(folder, path)
        except OSError:
            os.replace(replaced, path)
            raise
        _remove(replaced)
    finally:
        os.close(lock)


def restore(path: Path) -> None:
    """Move a folder back that a killed process was about to replace, or remove it if it was replaced."""
    replaced = path.with_name(_hidden(path, "replaced"))
    if path.exists():
        _remove_if_dead(replaced)
    elif replaced.is_dir() and not _is_alive(replaced):
        os.replace(replaced, path)


def is_leftover(path: Path) -> bool:
    """Return whether this is the temporary name of a file or folder whose process ended before it was whole."""
    return _TEMPORARY.fullmatch(path.name) is not None and not _is_alive(path)


def sweep(folder: Path) -> None:
    """Remove what killed processes left behind in a folder that only this package writes to."""
    for item in [*folder.iterdir()] if folder.is_dir() else []:
        if match := re.fullmatch(r"\.(.+)\.replaced", item.name):
            restore(item.with_name(match[1]))
        elif is_leftover(item):
            _remove(item)


def _remove_if_dead(path: Path) -> None:
    if os.path.lexists(path) and not _is_alive(path):
        _remove(path)


def _is_alive(temporary: Path) -> bool:
    """Return whether the process lives that writes this; where files cannot be locked, for a day."""
    try:
        os.close(_lock(temporary, must=True))
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return time.time() - temporary.lstat().st_mtime < _DAY
    return False


def _lock(path: Path, *, must: bool = False) -> int:
    """Lock a file or folder; return its descriptor, to close.

    Args:
        must: raise an error, too, where files cannot be locked, as on some shared disks.

    Raises:
        BlockingIOError: another process has locked it.
        FileNotFoundError: it does not exist, or was replaced meanwhile.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if must or isinstance(error, BlockingIOError):
            os.close(descriptor)
            raise
    if not _names(path, descriptor):
        os.close(descriptor)
        raise FileNotFoundError(path)
    return descriptor


def _names(path: Path, descriptor: int) -> bool:
    """Return whether a path still names the file or folder that a descriptor has open."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
    with _naming(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def require_writable_at(path: Path | str) -> None:
    """Check before the work that its result can be written under this path, whose name must not be too long either.

    Nothing is created, for the work may turn out to be done already.

    Raises:
        OSError: it cannot.
    """
    given, path = path, Path(path).absolute()
    there = next(each for each in (path, *path.parents) if os.path.lexists(each))
    with _naming(given):
        for name in path.relative_to(there).parts:
            with suppress(FileNotFoundError):
                os.stat(there / name)  # too long, or below a file
        if path.is_file():
            path.open("a").close()
        tempfile.TemporaryFile(dir=path.parent if there == path else there).close()


@contextmanager
def _naming(path: Path | str) -> Iterator[None]:
    """Let an `OSError` name the path that the user gave, not that of a file by which it was tried."""
    try:
        yield
    except OSError as error:
        # In /proc, which nobody can write to, a new name does not exist.
        number = errno.EACCES if error.errno == errno.ENOENT else error.errno
        raise OSError(number, os.strerror(number), str(path)) from error


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
                if _names(self.path, descriptor):
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
            if self._remove and _names(self.path, self.descriptor):
                self.path.unlink(missing_ok=True)
            os.close(self.descriptor)
            self.descriptor = None

    def __enter__(self) -> "FileLock":
        self.acquire()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.release()


@contextmanager
def one_at_a_time(lock_file: Path, doing: str) -> Iterator[None]:
    """Hold a lock for the length of the block. While another process holds it, say what that does, and wait."""
    lock = FileLock(lock_file)
    if not lock.acquire(wait=False):
        say(f"waiting: another process is {doing}")
    with lock:
        yield
