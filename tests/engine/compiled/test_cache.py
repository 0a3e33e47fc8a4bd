"""The cache of compiled code; a damaged file, a read-only folder or a full disk stops nothing."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compact_biomed.engine.compiled import cache

pytest.importorskip("torch")

SCRIPT = """
import sys
import torch
from compact_biomed.engine import compiled
exec(sys.argv[1])
for _ in range(2):
    assert compiled.call("adamw", "square_sum", torch.full((3,), 2.0)) == 12
"""


def run_in(place: Path, before: str = "") -> str:
    """Compute in a separate process, with the cache in `place`, and return its stderr."""
    environment = {**os.environ, "COMPACT_BIOMED_CACHE": str(place / "cache"), "TMPDIR": str(place)}
    command = [sys.executable, "-c", SCRIPT, before]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert not list(place.glob("compact-biomed-loops-*"))
    return done.stderr


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("loops")
    assert "compiling" in run_in(place)
    return place


@pytest.fixture
def run(compiled_once: Path, tmp_path: Path):
    """Return `run_in` for a folder where the code is already cached."""
    shutil.copytree(compiled_once / "cache", tmp_path / "cache")
    return lambda before="": run_in(tmp_path, before)


def files(tmp_path: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*") if path.is_file()}


def test_what_is_compiled_is_kept(run, tmp_path: Path) -> None:
    before = files(tmp_path)
    assert any("adamw" in path.name for path in before)
    assert run() == ""
    assert files(tmp_path) == before


@pytest.mark.parametrize(("ending", "content"), [("nbi", b"garbage text"), ("nbc", b"")])
def test_a_damaged_file_is_no_obstacle_and_goes(run, tmp_path: Path, ending: str, content: bytes) -> None:
    (damaged,) = (path for path in files(tmp_path) if path.suffix == f".{ending}")
    damaged.write_bytes(content or damaged.read_bytes()[:20])
    assert "neither read nor kept" in run()
    assert not damaged.exists()


def test_a_full_disk_stops_nothing(tmp_path: Path) -> None:
    full = f"""
import numba.core.caching
def full(*_): raise OSError({errno.ENOSPC}, "No space left on device")
numba.core.caching.IndexDataCacheFile._save_data = full
"""
    assert run_in(tmp_path, full).count("No space left on device") == 1


def test_a_file_where_the_folder_would_be(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "loops").write_text("a file")
    assert "compiling" in run_in(tmp_path)


def test_a_folder_in_which_no_file_can_be_made(run, tmp_path: Path) -> None:
    before = files(tmp_path)
    failing = f"""
import tempfile
make = tempfile.TemporaryFile
def fail(dir):
    if "/cache/loops/" in str(dir): raise OSError({errno.EROFS}, "Read-only file system")
    return make(dir=dir)
tempfile.TemporaryFile = fail
"""
    assert "compiling" in run(failing)
    assert files(tmp_path) == before


def test_other_code_has_another_folder_and_the_old_one_goes(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMPACT_BIOMED_CACHE", str(tmp_path))
    package = tmp_path / "package"
    package.mkdir()
    (package / "loop.py").write_text("1")
    monkeypatch.setattr(cache, "__file__", str(package / "cache.py"))
    find = cache.folder.__wrapped__
    before = find()
    assert find() == before
    (package / "loop.py").write_text("2")
    after = find()
    assert after != before and after.is_dir() and not before.exists()
    monkeypatch.setattr("numba.__version__", "0.0")
    of_other_numba = find()
    assert of_other_numba != after and of_other_numba.is_dir() and after.is_dir()


def test_an_error_of_the_computation_itself_wipes_nothing(run, tmp_path: Path) -> None:
    before = files(tmp_path)
    failing = """
from compact_biomed.engine.compiled import cache
def no_memory(*_): raise MemoryError("Allocation failed")
try:
    cache.call(no_memory, ())
except MemoryError:
    pass
else:
    raise SystemExit("no error")
"""
    assert run(failing) == ""
    assert files(tmp_path) == before
