"""Which tensors the loops are for, and where what is compiled is kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from compact_biomed import compiled

SCRIPT = """
import torch
from compact_biomed import compiled
x = torch.ones(2, 3, dtype=torch.bfloat16)
compiled.call("gelu", "backward", x, x.clone(), torch.empty(3, dtype=torch.bfloat16))
"""


def test_they_are_for_bfloat16_on_cpus(monkeypatch) -> None:
    x = torch.zeros(2, dtype=torch.bfloat16)
    assert compiled.usable(x, x)
    assert not compiled.usable(x, x.float())
    assert not compiled.usable(x.to("meta"))
    monkeypatch.setenv(compiled.OFF, "1")
    assert not compiled.usable(x)


def run(cache: Path) -> str:
    environment = {**os.environ, "COMPACT_BIOMED_CACHE": str(cache)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, check=True)
    return done.stderr


def test_what_is_compiled_is_kept(tmp_path: Path) -> None:
    assert "compiling" in run(tmp_path)
    (folder,) = (tmp_path / "loops").iterdir()
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert any("gelu" in path.name for path in kept)
    assert run(tmp_path) == ""
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == kept


def test_where_nothing_can_be_kept_they_work_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "loops").write_text("a file where the folder would be")
    assert "compiling" in run(tmp_path)


def test_another_code_has_another_folder(monkeypatch) -> None:
    before = compiled._folder.__wrapped__()
    monkeypatch.setattr(compiled, "sha256_json", lambda sources: "f" * 64)
    assert compiled._folder.__wrapped__() != before
    with pytest.raises(ModuleNotFoundError):
        compiled.loops("nothing")
