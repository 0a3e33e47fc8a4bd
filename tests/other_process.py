"""Claim a run from another process."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLAIM = """
import sys
from pathlib import Path
from compact_biomed.sharing import Claims
with Claims(Path(sys.argv[1])).claim(sys.argv[2]) as free:
    print(free, flush=True)
    sys.stdin.read()
"""


@contextmanager
def claimed_elsewhere(records: Path, run: str) -> Iterator[subprocess.Popen]:
    """Start a process that claims a run until it is killed or the block ends."""
    command = [sys.executable, "-c", _CLAIM, str(records), run]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline().strip() == "True"
        yield other
    finally:
        other.kill()
        other.wait()
