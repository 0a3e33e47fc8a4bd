"""Commands as processes: they end by themselves, when time is up, by Ctrl-C, and with a parent that is killed."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from compact_biomed.errors import UserError
from compact_biomed.reproduce.processes import ITSELF, TIME, USER, Ended, Launcher, Share, launch, sole_user

# Says that it runs, then waits; on SIGINT or SIGTERM it writes what it got and ends with 130.
WAITS = """
import pathlib, signal, sys, time
place = pathlib.Path(sys.argv[1])
def end(number, frame):
    place.with_suffix(".got").write_text(str(number)); sys.exit(130)
signal.signal(signal.SIGINT, end); signal.signal(signal.SIGTERM, end)
place.write_text("runs")
time.sleep(60)
"""
LAUNCHES = "import sys; from compact_biomed.reproduce.processes import launch; launch(sys.argv[1:])"


def waiting(place: Path) -> list[str]:
    return [sys.executable, "-c", WAITS, str(place)]


def until(found) -> None:
    end = time.monotonic() + 20
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_command_that_ends_by_itself() -> None:
    assert launch([sys.executable, "-c", "raise SystemExit(3)"]) == Ended(3, ITSELF)


def test_time_that_is_up(tmp_path: Path) -> None:
    assert launch(waiting(tmp_path / "place"), seconds=1) == Ended(130, TIME)
    assert (tmp_path / "place.got").read_text() == str(int(signal.SIGINT))


def test_ctrl_c_is_handed_on_and_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wait, place = subprocess.Popen.wait, tmp_path / "place"
    pressed = []

    def wait_then_press(self, timeout=None):
        if not pressed:
            until(place.exists)
            pressed.append(1)
            raise KeyboardInterrupt
        return wait(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait_then_press)
    assert launch(waiting(place)) == Ended(130, USER)
    assert place.with_suffix(".got").read_text() == str(int(signal.SIGINT))


def test_several_commands_share_the_machine_and_ctrl_c(tmp_path: Path, capfd) -> None:
    launcher = Launcher()
    says = "import os, sys; print(os.environ['COMPACT_BIOMED_THREADS']); print('two', file=sys.stderr)"
    assert launcher([sys.executable, "-c", says], share=Share(2, 3)) == Ended(0, ITSELF)
    assert sorted(capfd.readouterr().err.splitlines()) == ["[2] 3", "[2] two"]
    places = [tmp_path / "one", tmp_path / "two"]
    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(launcher, waiting(place), share=Share(n, 1)) for n, place in enumerate(places, 1)]
        until(lambda: all(place.exists() for place in places))
        launcher.interrupt()
        assert [each.result() for each in ends] == [Ended(130, USER)] * 2
    assert {place.with_suffix(".got").read_text() for place in places} == {str(int(signal.SIGINT))}


def test_a_command_alone_waits_for_the_others_and_they_for_it(tmp_path: Path) -> None:
    launcher, log = Launcher(), tmp_path / "log"
    notes = "import sys, time; f = open(sys.argv[1], 'a', 1); n = sys.argv[2]"
    notes += "; f.write(n + ' begins, '); f.flush(); time.sleep(0.5); f.write(n + ' ends, ')"

    def run(name: str, **options) -> Ended:
        return launcher([sys.executable, "-c", notes, str(log), name], **options)

    with ThreadPoolExecutor(3) as pool:
        ends = [pool.submit(run, "first")]
        until(log.exists)
        ends.append(pool.submit(run, "alone", alone=True))
        until(launcher._turn.locked)
        ends.append(pool.submit(run, "later"))
        assert [each.result() for each in ends] == [Ended(0, ITSELF)] * 3
    order = "first begins, first ends, alone begins, alone ends, later begins, later ends, "
    assert log.read_text() == order


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_kill_9_of_the_parent_ends_the_child(tmp_path: Path) -> None:
    place = tmp_path / "place"
    parent = subprocess.Popen([sys.executable, "-c", LAUNCHES, *waiting(place)], env=dict(os.environ))
    until(place.exists)
    parent.kill()
    parent.wait()
    got = place.with_suffix(".got")
    until(lambda: got.exists() and got.read_text())  # the file is there before its text
    assert got.read_text() == str(int(signal.SIGTERM))


def test_one_at_a_time_and_a_child_keeps_the_place(tmp_path: Path) -> None:
    with sole_user(tmp_path) as lock:
        with pytest.raises(UserError, match="another reproduction works here"), sole_user(tmp_path):
            pass
        child = subprocess.Popen(waiting(tmp_path / "place"), pass_fds=(lock,))
    try:
        until((tmp_path / "place").exists)
        with pytest.raises(UserError, match="another reproduction works here"), sole_user(tmp_path):
            pass
    finally:
        child.terminate()
        child.wait()
    with sole_user(tmp_path):
        pass
