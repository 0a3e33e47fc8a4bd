"""Where a result comes from: revision and versions of the code that computed it, and the command that repeats it."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compact_biomed import __version__

_PACKAGE = Path(__file__).parents[1]
_RECIPES = _PACKAGE.parent / "recipes"
_LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy", "numba")


def origin() -> dict[str, Any]:
    """Return the part `from` of a record: revision, clean, versions, command, date."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {**code_revision(), "versions": versions(), "command": command_line(), "date": now}


def code_revision() -> dict[str, Any]:
    """Return the commit of this package and whether it is unchanged since; None for both outside a repository."""

    def git(*arguments: str) -> str | None:
        try:
            command = ["git", "-C", str(_PACKAGE), *arguments]
            return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None

    # Installed into somebody else's repository, the package is no part of it.
    if not git("ls-files", "--", str(_PACKAGE / "__init__.py")):
        return {"revision": None, "clean": None}
    return {"revision": git("rev-parse", "HEAD"), "clean": git("status", "--porcelain", "--", str(_PACKAGE)) == ""}


def versions() -> dict[str, str]:
    """Return the versions of the code that computes a result; not every action needs all of these packages."""
    libraries = {name: version(name) for name in _LIBRARIES if find_spec(name)}
    return {"compact-biomed": __version__, "python": platform.python_version(), **libraries}


def command_line() -> str:
    """Return the command of this process in a form that repeats it; without the folders of this machine."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        start = ["python", "-m", program.parent.name]
    elif program.suffix == ".py":
        shown = os.path.relpath(program)
        if not shown.startswith(".."):
            start = ["python", shown]
        elif program.resolve().is_relative_to(_RECIPES):  # from anywhere, or installed
            name = program.resolve().relative_to(_RECIPES).with_suffix("").as_posix()
            start = ["compact-biomed", "recipe", name]
        else:
            start = ["python", program.name]
    else:
        start = [program.name]
    return shlex.join([*start, *sys.argv[1:]])
