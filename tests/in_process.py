"""Run steps in this process, so that torch is loaded only once."""

import sys
from pathlib import Path

import pytest

from compact_biomed import cli
from compact_biomed.cli.recipe import main as recipe_main
from compact_biomed.reproduce.processes import Ended
from compact_biomed.training.recipe import load_recipe


def here(command: list[str], *, seconds: float | None = None, lock: int | None = None) -> Ended:
    """Replace `processes.Launcher`."""
    if command[1] == "-m":
        return Ended(cli.main(command[3:]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", command[1:])
        return Ended(recipe_main(load_recipe(Path(command[1]).stem), command[2:]))
