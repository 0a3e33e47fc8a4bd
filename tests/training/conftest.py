"""Runs of recipes as processes that can be killed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVER = Path(__file__).with_name("run_server.py")
RECIPES = Path(__file__).parents[2] / "recipes"


class Running:
    """A started run."""

    def __init__(self, server: subprocess.Popen, output: Path):
        self._server, self._output = server, output
        self.pid: int = json.loads(server.stdout.readline())

    def wait(self) -> tuple[int, str]:
        """(exit status, negative for a signal; all that it printed)"""
        code = json.loads(self._server.stdout.readline())
        return code, self._output.read_text()


class Runs:
    """Starts recipes, one at a time."""

    def __init__(self, cache: Path, folder: Path):
        self._folder, self._count = folder, 0
        environment = {**os.environ, "COMPACT_BIOMED_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
        self._server = subprocess.Popen(
            [sys.executable, str(SERVER)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert json.loads(self._server.stdout.readline()) == "ready"

    def start(self, recipe: str, *arguments: object, signal: dict | None = None) -> Running:
        self._count += 1
        output = self._folder / f"output-{self._count}.txt"
        task = {
            "script": str(RECIPES / f"{recipe}.py"),
            "arguments": ["--preset", "smoke", *map(str, arguments)],
            "cwd": str(self._folder),
            "output": str(output),
            "signal": signal,
        }
        self._server.stdin.write(json.dumps(task) + "\n")
        self._server.stdin.flush()
        return Running(self._server, output)

    def __call__(self, recipe: str, *arguments: object, signal: dict | None = None) -> tuple[int, str]:
        return self.start(recipe, *arguments, signal=signal).wait()

    def close(self) -> None:
        self._server.stdin.close()
        self._server.wait(60)


@pytest.fixture(scope="session")
def runs(session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    server = Runs(session_cache, tmp_path_factory.mktemp("runs"))
    yield server
    server.close()
