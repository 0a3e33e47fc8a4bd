"""One kind of error for everything that the person at the terminal can mend.

A `UserError` is printed as one line, without a traceback: it names the file, the
place in it, and the remedy. Anything else that escapes is a defect of ours and
keeps its traceback.
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


_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space, or point --output_dir (--out) and COMPACT_BIOMED_CACHE at a larger disk; the same command then goes on",
    errno.EDQUOT: "the disk quota is used up: free some space, or point --output_dir (--out) and COMPACT_BIOMED_CACHE elsewhere",
    errno.EACCES: "no permission: choose a folder that you may write to with --output_dir (--out) or COMPACT_BIOMED_CACHE",
    errno.EPERM: "no permission: choose a folder that you may write to with --output_dir (--out) or COMPACT_BIOMED_CACHE",
    errno.EROFS: "read-only file system: choose another folder with --output_dir (--out) or COMPACT_BIOMED_CACHE",
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
