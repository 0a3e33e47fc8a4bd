"""Worker processes start fast, with neither heavy libraries nor the main script, and stop when they should."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compact_biomed import workers
from compact_biomed.console import say
from compact_biomed.errors import UserError

WITH_TESTS = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
}
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


def in_two(begin, items: list) -> dict:
    return workers.side_by_side(begin, items, processes=2, cores=2)


def of_environment():
    return os.getenv


def in_lines():
    return say


def with_signal():
    return signal.raise_signal


def of_folder():
    return os.listdir


def long_answer():
    return lambda n: "x" * n


def refuse():
    raise UserError("nothing begins", where="here", remedy="none")


def test_each_process_has_its_share_of_the_cores_and_its_number(monkeypatch, capfd) -> None:
    monkeypatch.setenv("COMPACT_BIOMED_THREADS", "4")
    assert in_two(of_environment, ["COMPACT_BIOMED_THREADS", "OMP_NUM_THREADS"]) == {0: "2", 1: "2"}
    assert os.environ["COMPACT_BIOMED_THREADS"] == "4"
    in_two(in_lines, ["one line\nand another", "a third"])
    said = capfd.readouterr().err.splitlines()
    assert sorted(line.partition("] ")[2] for line in said) == ["a third", "and another", "one line"]
    assert {line[:4] for line in said} <= {"[1] ", "[2] "}
    answers = in_two(long_answer, [10, 200_000, 0, 100_000, 3])
    assert {index: len(text) for index, text in answers.items()} == {0: 10, 1: 200_000, 2: 0, 3: 100_000, 4: 3}


def test_what_kills_a_process_kills_no_other(capfd) -> None:
    assert in_two(with_signal, [signal.SIGKILL, signal.SIGCONT, signal.SIGCONT]) == {1: None, 2: None}
    assert capfd.readouterr().err.endswith("ended by signal 9 (out of memory?)\n")
    # Only one process takes it; where none is left, nothing comes of the rest.
    assert in_two(with_signal, [signal.SIGKILL] * 2 + [signal.SIGCONT]) == {}


def test_an_error_of_a_process_is_one_line(capfd) -> None:
    assert in_two(of_folder, ["nowhere", os.curdir]) == {1: os.listdir()}
    assert re.fullmatch(r"\[[12]\] error: nowhere: No such file.*\n", capfd.readouterr().err)
    assert in_two(refuse, [1, 2]) == {}
    assert sorted(capfd.readouterr().err.splitlines()) == [f"[{n}] error: here: nothing begins (none)" for n in (1, 2)]


def sleep_on():
    return time.sleep


_SLEEP = """
from test_workers import sleep_on as begin
from compact_biomed.workers import side_by_side
try:
    side_by_side(begin, [60, 60], processes=2, cores=1)
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_all_processes(number: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", _SLEEP], stdout=subprocess.PIPE, text=True, env=WITH_TESTS)
    children = _children(process.pid, 2)
    process.send_signal(number)
    assert process.communicate(timeout=30)[0] == "stopped\n" and process.returncode == 0
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_end_with_a_parent_that_is_killed() -> None:
    process = subprocess.Popen([sys.executable, "-c", _SLEEP], env=WITH_TESTS)
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
