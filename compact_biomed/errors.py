"""The error type for everything that the user can mend.

A `UserError` is printed as one line without a traceback: file, line, what is wrong, remedy. Any other exception is a
bug of this package and keeps its traceback. The exit status is 2 for a `UsageError` and 1 for any other `UserError`.
"""

import difflib
import errno
import math
import os
from collections.abc import Iterable, Iterator


class UserError(Exception):
    """Bad input or a broken environment, described in one line.

    Args:
        what: what is wrong, and what was seen (no period at the end).
        where: the file, with its line if known, or the flag.
        remedy: a command or an edit that the user can make at once.
    """

    def __init__(self, what: str, *, where: object = None, remedy: str | None = None):
        self.what, self.where, self.remedy = what, where, remedy
        line = f"{where}: {what}" if where is not None else what
        if remedy:
            line += f" ({remedy})"
        super().__init__(" ".join(line.split()))


class UsageError(UserError):
    """Wrong flags or parameters: one that is unknown, an invalid value, a name that nothing has, a contradiction.

    Mending the command is enough; the files may stay as they are.
    """


_ELSEWHERE = "name another folder, by this command's flag for what it writes or by COMPACT_BIOMED_CACHE"
_REMEDIES = {
    errno.ENOSPC: f"the disk is full: free some space, or {_ELSEWHERE}; the same command then resumes",
    errno.EDQUOT: f"the disk quota is used up: free some space, or {_ELSEWHERE}",
    errno.EACCES: f"no permission: to read it, change its mode (chmod) or copy it; to write, {_ELSEWHERE}",
    errno.EPERM: f"no permission: to read it, change its mode (chmod) or copy it; to write, {_ELSEWHERE}",
    errno.EROFS: f"read-only file system: {_ELSEWHERE}",
    errno.ENOENT: "no such file: check the path",
    errno.ENAMETOOLONG: "a name of at most 255 bytes is possible: choose a shorter one",
    errno.ELOOP: "a symbolic link that leads to itself: remove it or choose another path",
    errno.EIO: "the device, or the network file system, failed: try again, or copy the file to another disk",
    errno.EISDIR: "a folder is where a file is needed: choose another path",
}


def from_os_error(error: OSError) -> UserError | None:
    """Return the one-line form of an `OSError` that the user can mend, else None."""
    if error.errno in (errno.ENOTDIR, errno.EEXIST):  # of a path and of one below it: the same mistake
        where = next(filter(os.path.lexists, _with_parents(error.filename)), error.filename)
        return UserError("a file, where a folder is needed", where=where, remedy="remove it or choose another path")
    remedy = _REMEDIES.get(error.errno)
    if remedy is None:
        return None
    return UserError(error.strerror or "I/O error", where=error.filename, remedy=remedy)


def full_disk(error: BaseException | None) -> OSError | None:
    """Return the error of a full disk, or of a used-up quota, that an error was raised from, itself included."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error
        error = error.__cause__ or error.__context__
    return None


def _with_parents(path: object) -> Iterator[str]:
    """Yield a path and the folders above it, from the end."""
    part = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    while part:
        yield part
        part = os.path.dirname(part) if os.path.dirname(part) != part else ""


def no_file(path: str | os.PathLike, remedy: str) -> UserError:
    """Return the error about a path where a file is needed: nothing is there, or a folder is."""
    return UserError("a folder, not a file" if os.path.isdir(path) else "no such file", where=path, remedy=remedy)


def no_folder(path: str | os.PathLike, remedy: str) -> UserError:
    """Return the error about a path where a folder is needed: nothing is there, or a file is."""
    is_file = os.path.exists(path) and not os.path.isdir(path)
    return UserError("a file, not a folder" if is_file else "no such folder", where=path, remedy=remedy)


# ---- How flags are spelled: with hyphens in help and messages; with underscores, they are understood all the same


def flag_of(name: str) -> str:
    """Return the flag of a parameter: "max_length" -> "--max-length"."""
    return f"--{name.replace('_', '-')}"


def nearest_flag(flag: str, flags: Iterable[str]) -> str | None:
    """Return the flag that was probably meant: one that begins so, else one that is spelled alike."""
    flags = [f for f in flags if f.startswith("--") and "_" not in f and f != "--help"]
    longer = [f for f in flags if f.startswith(flag)] if len(flag) > 2 else []
    alike = difflib.get_close_matches(flag, flags, n=1, cutoff=0.5)
    return min(longer, key=len) if longer else next(iter(alike), None)


def shown(value: object) -> str:
    """Return a wrong value as it is quoted in an error, cut off if it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise a `UsageError` unless a parameter has one of these values."""
    if value not in choices:
        raise UsageError(f"no {name} {value!r}", where=flag_of(name), remedy=f"one of {', '.join(choices)}")


def check_positive(name: str, value: float | None) -> None:
    """Raise a `UsageError` unless a parameter was left out, or is finite and above 0."""
    if value is not None and not 0 < value < math.inf:
        raise UsageError(f"{flag_of(name)} {value:g} must be finite and above 0", remedy="leave it out for the default")


def check_no_effect(reason: str, remedy: str = "leave it out", **settings: object) -> None:
    """Raise a `UsageError` for the first of some parameters that was given although it has no effect.

    Args:
        reason: when they have none, such as "without --transfer".
    """
    for name, value in settings.items():
        if value:
            raise UsageError(f"{flag_of(name)} has no effect {reason}", remedy=remedy)


def hyphenated(arguments: Iterable[str]) -> list[str]:
    """Write flags with hyphens: `--max_length` equals `--max-length`. What follows a lone `--` stays as it is."""
    result: list[str] = []
    is_own = True
    for argument in arguments:
        is_own = is_own and argument != "--"
        if is_own and argument.startswith("--"):
            flag, equals, value = argument.partition("=")
            argument = flag_of(flag[2:]) + equals + value
        result.append(argument)
    return result
