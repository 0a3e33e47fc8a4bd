"""How many threads compute, and how they wait for each other."""

import os
import subprocess
import sys

import pytest

from compact_biomed.cli import main
from compact_biomed.machine import usable_cores, use_threads

SHOW = (
    "import compact_biomed, os; print({name: os.environ.get(name) for name in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')})"
)
COUNT = "import compact_biomed; compact_biomed.use_threads(1); import torch; print(torch.get_num_threads())"


def told(code: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={**kept, **environment}, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("given", "policy", "looks"),
    [
        ({}, "PASSIVE", "3000"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE", None),
        ({"GOMP_SPINCOUNT": "5"}, None, "5"),
        ({"KMP_BLOCKTIME": "9"}, None, None),
    ],
)
def test_idle_threads_soon_sleep_unless_the_user_says_how_they_wait(
    given: dict[str, str], policy: str | None, looks: str | None
) -> None:
    assert eval(told(SHOW, **given)) == {"OMP_WAIT_POLICY": policy, "GOMP_SPINCOUNT": looks}


def test_threads_are_limited_before_torch_is_loaded() -> None:
    assert told(COUNT) == "1\n"


@pytest.fixture
def own_limit(monkeypatch):
    """Restore the number of threads after the test."""
    import torch

    before = torch.get_num_threads()
    for name in ("COMPACT_BIOMED_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, str(before))
    yield
    torch.set_num_threads(before)


def test_cores_are_at_most_the_limit(own_limit, monkeypatch) -> None:
    import torch

    monkeypatch.delenv("COMPACT_BIOMED_THREADS")
    cores = usable_cores()
    use_threads(1)
    assert usable_cores() == torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"]) == 1
    for text in ("", "many", "-3"):
        monkeypatch.setenv("COMPACT_BIOMED_THREADS", text)
        assert usable_cores() == cores
    monkeypatch.setenv("COMPACT_BIOMED_THREADS", "999999")
    assert usable_cores() == cores


def test_the_variable_alone_limits_torch() -> None:
    """As `--threads` does: docs/speed.md calls them the same."""
    for first in ("", "import torch; "):
        code = f"{first}import compact_biomed; import torch; print(torch.get_num_threads())"
        assert told(code, COMPACT_BIOMED_THREADS="1") == "1\n"


@pytest.mark.parametrize(
    "verb",
    [
        ["evaluate", "--model", "m", "--suite", "s"],
        ["train", "mlm", "--start", "random", "--mask-probability", "2"],
        ["distill", "--task", "GAD", "--teacher", "t", "--student", "3", "--zzz"],
        ["recipe", "biotinybert_cl", "--mask-probability", "2"],
        ["recipe", "pruning", "--model", "m", "--zzz"],
        ["reproduce", "--zzz"],
        ["score", "--model", "m", "--zzz"],
        ["export", "--model", "m", "--output", "o", "--zzz"],
        ["bench", "step", "--zzz"],
        ["tables", "--records", "r", "--zzz"],
        ["bench", "finetune", "--zzz"],
    ],
)
def test_every_verb_that_computes_takes_the_number_of_threads(verb: list[str], own_limit, capsys) -> None:
    """With a flag that is refused afterwards: nothing is computed."""
    assert main([*verb, "--threads", "1"]) == 2
    assert "threads" not in capsys.readouterr().err and os.environ["COMPACT_BIOMED_THREADS"] == "1"
