"""Steps without a process for each: torch is not loaded anew."""

import runpy
import sys
from pathlib import Path

import pytest

from compact_biomed import cli
from compact_biomed.cli.recipe import main as recipe_main
from compact_biomed.reproduce.processes import Ended


def here(command: list[str], *, seconds: float | None = None, lock: int | None = None) -> Ended:
    """In place of `processes.launch`."""
    if command[1] == "-m":
        return Ended(cli.main(command[3:]))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(command[1]).parent)
        patch.setattr(sys, "argv", command[1:])
        return Ended(recipe_main(runpy.run_path(command[1])["RECIPE"], command[2:]))
