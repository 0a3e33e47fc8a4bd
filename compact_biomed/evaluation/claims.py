"""Runs that are being done: processes that share a file of records share the work as well."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compact_biomed.files import cache_folder, sha256_json


class Claims:
    """Which runs for a file of records some process is at. A process that ends, however it does, claims nothing more.

    Args:
        records: the file; need not exist yet.
    """

    def __init__(self, records: Path):
        self._path = cache_folder() / "claims" / sha256_json(str(records.resolve()))[:16]
        self._descriptor: int | None = None

    @contextmanager
    def claim(self, run: str) -> Iterator[bool]:
        """Whether no other process is at this run (16 hex digits); within the block it is ours.

        Where no lock can be had, on some shared disks or in a cache that cannot be written, it is always ours.
        """
        # A byte of the file for each run. The system frees it with the process, and it takes no space.
        place = int(run, 16) >> 2
        try:
            file = self._open()
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError as error:
            yield error.errno not in (errno.EAGAIN, errno.EACCES) or self._descriptor is None
            return
        try:
            yield True
        finally:
            fcntl.lockf(file, fcntl.LOCK_UN, 1, place)

    def _open(self) -> int:
        # Opened once: to close one descriptor of a file frees all of the process' locks on it.
        if self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        return self._descriptor
