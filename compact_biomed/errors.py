"""One kind of error for everything that the person at the terminal can mend.

A `UserError` is printed as one line, without a traceback: it names the file, the
place in it, and the remedy. Anything else that escapes is a defect of ours and
keeps its traceback. Exit statuses: 2 for a `UsageError`, 1 for any other `UserError`.
"""

import errno


class UserError(Exception):
    """Bad input or a broken environment, described in one line.

    Args:
        what: what is wrong, in words (no trailing period needed).
        where: the file, optionally with line or byte, or the flag that is wrong.
        remedy: what to do about it.
    """

    def __init__(self, what: str, *, where: object = None, remedy: str | None = None):
        self.what, self.where, self.remedy = what, where, remedy
        line = f"{where}: {what}" if where is not None else what
        if remedy:
            line += f" ({remedy})"
        super().__init__(" ".join(line.split()))


class UsageError(UserError):
    """Flags that are wrong by themselves, whatever files there are: an unknown one, a value that none can have, two
    that do not go together."""


_ELSEWHERE = "name another folder, by this command's flag for what it writes or by COMPACT_BIOMED_CACHE"
_REMEDIES = {
    errno.ENOSPC: f"the disk is full: free some space, or {_ELSEWHERE}; the same command then goes on",
    errno.EDQUOT: f"the disk quota is used up: free some space, or {_ELSEWHERE}",
    errno.EACCES: f"no permission: {_ELSEWHERE}, one that you may write to",
    errno.EPERM: f"no permission: {_ELSEWHERE}, one that you may write to",
    errno.EROFS: f"read-only file system: {_ELSEWHERE}",
    errno.ENOENT: "no such file: check the path",
    errno.ENOTDIR: "a file stands where a folder is needed: remove it or choose another path",
    errno.EEXIST: "a file stands where a folder is needed: remove it or choose another path",
    errno.EISDIR: "a folder stands where a file is needed",
}


def from_os_error(error: OSError) -> UserError | None:
    """The one-line form of an `OSError` that a user can mend, else None."""
    remedy = _REMEDIES.get(error.errno)
    if remedy is None:
        return None
    return UserError(error.strerror or "I/O error", where=error.filename, remedy=remedy)
