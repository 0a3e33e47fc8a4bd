"""The wheel works outside the repository: it has the recipes, and all that the package reads beside its modules."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = "import setuptools.build_meta as backend, sys; backend.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """installed(*arguments): run `compact-biomed` from an unpacked wheel, in an empty folder."""
    pytest.importorskip("setuptools")
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in ("compact_biomed", "recipes"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-c", BUILD, str(site)], cwd=source, check=True, capture_output=True)
    (wheel,) = site.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    packed = {path.relative_to(site) for path in site.rglob("*") if path.is_file()}
    environment = {**os.environ, "PYTHONPATH": str(site)}
    empty = tmp_path_factory.mktemp("empty")

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-P", "-m", "compact_biomed", *arguments]
        return subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, timeout=200)

    run.packed, run.site, run.folder = packed, site, empty
    return run


def test_it_holds_every_file_that_the_package_reads(installed) -> None:
    kept = [path for name in ("compact_biomed", "recipes") for path in (ROOT / name).rglob("*") if path.is_file()]
    assert {path.relative_to(ROOT) for path in kept if "__pycache__" not in path.parts} <= installed.packed


def test_recipes_and_ablations_run_from_it(installed) -> None:
    listed = installed("recipe")
    assert "ablations/temperature " in listed.stdout and not listed.stderr
    flags = ("--seeds", "1", "--recipes", "distilbiobert", "--only", "T = 2", "--", "--preset", "smoke")
    done = installed("recipe", "ablations/temperature", *flags, "--max-steps", "2", "--warmup-steps", "1")
    assert done.returncode == 0, done.stderr
    assert "| T = 2 |" in done.stdout
    (records,) = installed.folder.glob("runs/ablations/temperature/*/records.jsonl")
    source = json.loads(records.read_text())["from"]
    assert source["command"].startswith("compact-biomed recipe distilbiobert --seed 1 ") and source["revision"] is None


def test_a_reproduction_is_planned_from_it(installed) -> None:
    done = installed("reproduce", "--preset", "smoke", "--dry-run")
    assert done.returncode == 0 and "Reproduction, preset smoke: 13 steps" in done.stderr
