"""Where a result comes from: which code, which libraries, which command, when."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from compact_biomed import __version__

_LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy", "numba")


def origin() -> dict[str, Any]:
    """The part `from` of a record: revision, clean, versions, command, date."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {**code_revision(), "versions": versions(), "command": command_line(), "date": now}


def code_revision() -> dict[str, Any]:
    """The commit that the package runs from, and whether it was changed since; None outside a repository."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # Installed into somebody else's repository, the package is no part of it.
    if not git("ls-files", "--", str(here / "__init__.py")):
        return {"revision": None, "clean": None}
    return {"revision": git("rev-parse", "HEAD"), "clean": git("status", "--porcelain", "--", str(here)) == ""}


def versions() -> dict[str, str]:
    """Versions of what computed a result."""
    own = {"compact-biomed": __version__, "python": platform.python_version()}
    return own | {name: version(name) for name in _LIBRARIES}


def command_line() -> str:
    """The command that was given, for repeating it; without the folders of this machine."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        start = ["python", "-m", program.parent.name]
    elif program.suffix == ".py":
        shown = os.path.relpath(program)
        start = ["python", program.name if shown.startswith("..") else shown]
    else:
        start = [program.name]
    return shlex.join([*start, *sys.argv[1:]])
