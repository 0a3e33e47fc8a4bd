"""Commands as processes: they end by themselves, when time is up, by Ctrl-C, and with a parent that is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from compact_biomed.errors import UserError
from compact_biomed.reproduce.processes import ITSELF, TIME, USER, Ended, Launcher, Share, Turns, sole_user

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
LAUNCHES = "import sys; from compact_biomed.reproduce.processes import Launcher; Launcher()(sys.argv[1:])"


def waiting(place: Path) -> list[str]:
    return [sys.executable, "-c", WAITS, str(place)]


def until(found) -> None:
    end = time.monotonic() + 20
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_command_that_ends_by_itself() -> None:
    assert Launcher()([sys.executable, "-c", "raise SystemExit(3)"]) == Ended(3, ITSELF)


def test_time_that_is_up(tmp_path: Path) -> None:
    assert Launcher()(waiting(tmp_path / "place"), seconds=1) == Ended(130, TIME)
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
    assert Launcher()(waiting(place)) == Ended(130, USER)
    assert place.with_suffix(".got").read_text() == str(int(signal.SIGINT))


def test_several_commands_share_the_machine_and_ctrl_c(tmp_path: Path, capfd) -> None:
    launcher = Launcher()
    says = "import os, sys; from compact_biomed.cli import guarded\n"
    says += "guarded(lambda: print(os.environ['COMPACT_BIOMED_THREADS']) or print('two', file=sys.stderr))"
    assert launcher([sys.executable, "-c", says], share=Share(2, 3)) == Ended(0, ITSELF)
    assert capfd.readouterr() == ("[2] 3\n", "[2] two\n")
    places = [tmp_path / "one", tmp_path / "two"]
    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(launcher, waiting(place), share=Share(n, 1)) for n, place in enumerate(places, 1)]
        until(lambda: all(place.exists() for place in places))
        launcher.interrupt()
        assert [each.result() for each in ends] == [Ended(130, USER)] * 2
    assert {place.with_suffix(".got").read_text() for place in places} == {str(int(signal.SIGINT))}
    assert launcher(["no such command"]) == Ended(130, USER)  # no other begins


def test_what_is_alone_waits_for_the_others_and_they_for_it() -> None:
    turns, order, first_may_end = Turns(), [], threading.Event()

    def take(turn, name: str, wait: Callable[[], object] = lambda: time.sleep(0.05)) -> None:
        with turn():
            order.append(f"{name} begins")
            wait()
            order.append(f"{name} ends")

    with ThreadPoolExecutor(3) as pool:
        ends = [pool.submit(take, turns.beside_others, "first", first_may_end.wait)]
        until(lambda: order)
        ends.append(pool.submit(take, turns.alone, "alone"))
        until(turns._turn.locked)
        ends.append(pool.submit(take, turns.beside_others, "later"))
        time.sleep(0.05)
        first_may_end.set()
        assert [each.result() for each in ends] == [None] * 3
    assert order == [f"{name} {what}" for name in ("first", "alone", "later") for what in ("begins", "ends")]


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
