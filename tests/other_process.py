"""Lock a run from another process."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HOLD = """
import sys
from pathlib import Path
from compact_biomed.records.locks import RunLocks
with RunLocks(Path(sys.argv[1])).hold(sys.argv[2]) as free:
    print(free, flush=True)
    sys.stdin.read()
"""


@contextmanager
def locked_elsewhere(records: Path, run: str) -> Iterator[subprocess.Popen]:
    """Start a process that locks a run until it is killed or the block ends."""
    command = [sys.executable, "-c", _HOLD, str(records), run]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline().strip() == "True"
        yield other
    finally:
        other.kill()
        other.wait()
