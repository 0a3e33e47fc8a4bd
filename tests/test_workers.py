"""Worker processes start fast, with neither heavy libraries nor the main script, and stop when they should."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compact_biomed import workers
from compact_biomed.console import say

HEAVY = {"torch", "transformers", "datasets", "huggingface_hub", "requests", "sklearn"}


def test_modules_of_worker_tasks_import_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "import compact_biomed.corpus.decontaminate, compact_biomed.corpus.shards, compact_biomed.corpus.tokenize\n"
        f"print({HEAVY} & set(sys.modules))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout == "set()\n"


def test_workers_do_not_import_the_main_script(tmp_path: Path) -> None:
    script = tmp_path / "recipe.py"
    script.write_text(
        "import sys\n"
        "print('imported', __name__, flush=True)\n"
        "from compact_biomed.workers import run_all\n"
        "if __name__ == '__main__':\n"
        "    main = sys.modules['__main__']\n"
        "    print(sorted(run_all(abs, [-3, -2, -1], 2)))\n"
        "    assert sys.modules['__main__'] is main\n"
    )
    process = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert process.stdout == "imported __main__\n[(-3, 3), (-2, 2), (-1, 1)]\n"


# ---- side by side


def test_each_part_is_done_in_a_process_with_its_share_of_the_cores(monkeypatch, capfd) -> None:
    monkeypatch.setenv("COMPACT_BIOMED_THREADS", "4")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert workers.side_by_side(os.getenv, ["COMPACT_BIOMED_THREADS", "OMP_NUM_THREADS"]) == ["2", "2"]
    assert os.environ["COMPACT_BIOMED_THREADS"] == "4"
    # Lines are whole and say which process they are of.
    workers.side_by_side(say, ["one line\nand another", "a third"])
    assert sorted(capfd.readouterr().err.splitlines()) == ["[1] and another", "[1] one line", "[2] a third"]


def test_a_process_that_dies_leaves_the_others_alone(capfd) -> None:
    assert workers.side_by_side(signal.raise_signal, [signal.SIGKILL, signal.SIGCONT]) == [None, None]
    assert capfd.readouterr().err == "process 1 ended by signal 9 (out of memory?)\n"
    assert workers.side_by_side(os.listdir, ["nowhere", os.curdir])[1] == os.listdir()
    assert capfd.readouterr().err.startswith("[1] error: nowhere: No such file")


_SLEEP = """
import sys, time
from compact_biomed.workers import side_by_side
try:
    side_by_side(time.sleep, [60, 60])
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.parametrize(("number", "status", "said"), [(signal.SIGINT, 0, "stopped\n"), (signal.SIGTERM, -15, "")])
def test_signals_end_all_processes(number: int, status: int, said: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", _SLEEP], stdout=subprocess.PIPE, text=True)
    children = _children(process.pid, 2)
    process.send_signal(number)
    assert process.communicate(timeout=30)[0] == said and process.returncode == status
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_processes_end_with_a_parent_that_is_killed() -> None:
    process = subprocess.Popen([sys.executable, "-c", _SLEEP])
    children = _children(process.pid, 2)
    process.kill()
    process.wait()
    ends = time.monotonic() + 30
    while [pid for pid in children if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < ends
        time.sleep(0.05)


def _children(pid: int, n: int) -> list[int]:
    """Wait until a process has n children that do their part (in sessions of their own); return their pids."""
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        pids = [int(pid) for pid in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        leaders = [each for each in pids if os.getsid(each) == each]
        if len(leaders) == n:
            time.sleep(0.3)  # until the thread that waits for the parent has begun
            return leaders
        time.sleep(0.05)
    raise AssertionError("no children")
