"""Executing the steps: each of them once, in slices, past failures; an interrupted run continues."""

import itertools
import json
import threading
import time
from pathlib import Path

import pytest
from small_plan import Pretended, declared, paths_in

from compact_biomed.reproduce import execute as execute_module
from compact_biomed.reproduce import plan
from compact_biomed.reproduce.costs import StepCost
from compact_biomed.reproduce.execute import execute
from compact_biomed.reproduce.processes import TIME, USER, Ended, Share
from compact_biomed.reproduce.results import write_tables


@pytest.fixture(autouse=True)
def no_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMPACT_BIOMED_DATA", raising=False)


def steps(folder: Path) -> list:
    return list(plan.make_plan(declared(folder), paths_in(folder)).chosen)


def pretraining(folder: Path) -> list[dict]:
    path = paths_in(folder).pretraining
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_each_step_is_done_once_and_recorded_once(tmp_path: Path) -> None:
    launch = Pretended()
    outcomes = execute(steps(tmp_path), launch)
    assert (len(outcomes.done), outcomes.failed, outcomes.remaining) == (11, {}, [])
    assert len(launch.commands) == 11
    again = Pretended()
    assert len(execute(steps(tmp_path), again).done) == 11
    assert again.commands == []
    assert [record["model"] for record in pretraining(tmp_path)] == ["Teacher", "Student", "Alone"]
    assert pretraining(tmp_path)[0]["from"] == {"command": "pretended"}


def test_a_run_that_was_killed_before_its_record_was_kept_is_recorded_later(tmp_path: Path) -> None:
    execute(steps(tmp_path), Pretended())
    paths_in(tmp_path).pretraining.unlink()
    execute(steps(tmp_path), Pretended())
    assert [record["model"] for record in pretraining(tmp_path)] == ["Teacher", "Student", "Alone"]


def test_a_failure_is_named_and_the_others_go_on(tmp_path: Path, capsys) -> None:
    outcomes = execute(steps(tmp_path), Pretended(fails=("/Alone",)))
    assert set(outcomes.failed) == {"pretraining Alone", *(f"evaluating Alone on smoke, seed {s}" for s in (1, 2))}
    assert outcomes.failed["evaluating Alone on smoke, seed 1"] == "Alone is not trained"
    assert len(outcomes.done) == 8 and not outcomes.remaining
    assert "failed: pretraining Alone: exit status 1" in capsys.readouterr().err
    mended = Pretended()
    assert len(execute(steps(tmp_path), mended).done) == 11
    assert len(mended.commands) == 3


def test_a_teacher_that_fails_keeps_its_students_waiting(tmp_path: Path) -> None:
    outcomes = execute(steps(tmp_path), Pretended(fails=("biominilm_cl.py",)))
    assert outcomes.failed["pretraining Student"] == "Teacher is not trained"
    assert {step.model.name for step in outcomes.done} == {"General"}


def test_what_another_teacher_made_is_not_taken(tmp_path: Path) -> None:
    """A teacher of other settings stands in the folder: its recipe refuses, and nothing is built on it."""
    execute(steps(tmp_path), Pretended())
    paths_in(tmp_path).pretraining.unlink()
    record = tmp_path / "runs" / "Teacher" / "record.json"
    record.write_text(record.read_text().replace('"max_steps": 4', '"max_steps": 5'))
    outcomes = execute(steps(tmp_path), Pretended(fails=("biominilm_cl.py",)))
    assert "pretraining Teacher" in outcomes.failed
    assert outcomes.failed["pretraining Student"] == "Teacher is not trained"
    assert {step.model.name for step in outcomes.done} == {"General"}


def test_ending_well_without_a_record_is_a_failure(tmp_path: Path) -> None:
    outcomes = execute(steps(tmp_path)[:1], Pretended(ends={"biominilm_cl.py": Ended(0)}))
    assert outcomes.failed == {"pretraining Teacher": "it ended well but left no record"}
    killed = execute(steps(tmp_path)[:1], Pretended(ends={"biominilm_cl.py": Ended(-9)}))
    assert "signal 9 (out of memory?)" in killed.failed["pretraining Teacher"]


@pytest.mark.parametrize(("ended", "interrupted"), [(Ended(130, TIME), False), (Ended(130, USER), True)])
def test_what_is_cut_off_is_left_with_all_behind_it(tmp_path: Path, ended: Ended, interrupted: bool) -> None:
    outcomes = execute(steps(tmp_path), Pretended(ends={"/Student": ended}), minutes=5)
    assert ([step.model.name for step in outcomes.done], outcomes.interrupted) == (["Teacher"] * 3, interrupted)
    assert len(outcomes.remaining) == 8 and not outcomes.failed
    assert str(outcomes.remaining[0]) == "pretraining Student"
    assert len(execute(steps(tmp_path), Pretended()).done) == 11


def test_an_evaluation_that_time_stopped_is_no_failure(tmp_path: Path) -> None:
    launch = Pretended(ends={"evaluate": Ended(0)})
    outcomes = execute(steps(tmp_path), launch, minutes=5)
    assert (
        len(outcomes.done) == 1 and len(outcomes.remaining) == 10 and not outcomes.failed and not outcomes.interrupted
    )
    assert float(launch.commands[-1][-1]) == pytest.approx(5, abs=0.1)  # it looks at the clock itself


def test_no_step_begins_when_time_is_up(tmp_path: Path) -> None:
    launch = Pretended()
    outcomes = execute(steps(tmp_path), launch, minutes=1e-9)
    assert launch.commands == [] and len(outcomes.remaining) == 11


def test_tables_are_made_from_records_alone_and_always_the_same(tmp_path: Path) -> None:
    execute(steps(tmp_path), Pretended())
    results = paths_in(tmp_path).evaluation.parent
    write_tables(paths_in(tmp_path))
    first = {path.name: path.read_text() for path in results.glob("*.*") if path.suffix != ".jsonl"}
    assert {"pretraining.md", "scores.md", "scores.csv", "scores.tex", "claims.md", "page.html"} == set(first)
    write_tables(paths_in(tmp_path))
    assert first == {name: (results / name).read_text() for name in first}
    assert "| Student |" in first["scores.md"] and "cannot be tested here" in first["claims.md"]


class Timed(Pretended):
    """Notes when commands begin and end, and on which share of the machine."""

    def __init__(self, **options):
        super().__init__(**options)
        self.events, self.shares, self._lock = [], [], threading.Lock()

    def __call__(self, command: list[str], *, share: Share | None = None, **options) -> Ended:
        with self._lock:
            self.events.append(("begin", command))
            self.shares.append(share)
        time.sleep(0.02)
        with self._lock:  # what a command writes is whole when it ends
            ended = super().__call__(command, **options)
            self.events.append(("end", command))
        return ended

    def at_once(self) -> list[int]:
        return list(itertools.accumulate(1 if what == "begin" else -1 for what, _ in self.events))


def test_several_steps_at_a_time_in_their_order(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(execute_module, "usable_cores", lambda: 6)
    launch = Timed()
    outcomes = execute(steps(tmp_path), launch, jobs=3)
    assert (len(outcomes.done), outcomes.failed, outcomes.remaining) == (11, {}, [])
    assert max(launch.at_once()) == 3
    assert {share.number for share in launch.shares} == {1, 2, 3} and {share.cores for share in launch.shares} == {2}
    # Nobody reads weights before the training that makes them has ended.
    ended = [" ".join(command) for what, command in launch.events if what == "end"]
    teacher = next(i for i, (what, command) in enumerate(launch.events) if what == "end" and "biominilm" in command[1])
    begun = [" ".join(command) for what, command in launch.events[: teacher + 1] if what == "begin"]
    assert all("biominilm" in each or "--name General" in each for each in begun)
    assert len(ended) == len(set(ended)) == 11
    assert sorted(record["model"] for record in pretraining(tmp_path)) == ["Alone", "Student", "Teacher"]


def test_a_failure_beside_others(tmp_path: Path) -> None:
    outcomes = execute(steps(tmp_path), Timed(fails=("biominilm_cl.py",)), jobs=2)
    assert outcomes.failed["pretraining Student"] == "Teacher is not trained"
    assert {step.model.name for step in outcomes.done} == {"General"} and not outcomes.remaining


def test_ctrl_c_reaches_all_steps_and_no_other_begins(tmp_path: Path, monkeypatch) -> None:
    class Interrupted(Timed):
        pressed = threading.Event()

        def __call__(self, command: list[str], **options) -> Ended:
            with self._lock:
                self.events.append(("begin", command))
            assert self.pressed.wait(20)
            return Ended(130, USER)

        def interrupt(self) -> None:
            self.pressed.set()

    launch, waited = Interrupted(), execute_module.wait

    def wait_then_press(running, **options):
        if not launch.pressed.is_set():
            raise KeyboardInterrupt
        return waited(running, **options)

    monkeypatch.setattr(execute_module, "wait", wait_then_press)
    outcomes = execute(steps(tmp_path), launch, jobs=2)
    assert outcomes.interrupted and not outcomes.failed and not outcomes.done
    assert len(launch.events) == 2 and len(outcomes.remaining) == 11


def test_an_error_between_the_steps_ends_those_that_run(tmp_path: Path, monkeypatch) -> None:
    class Endless(Pretended):
        interrupted = threading.Event()

        def __call__(self, command: list[str], **options) -> Ended:
            if "General" in command:
                return super().__call__(command)
            assert self.interrupted.wait(20)
            return Ended(130, USER)

        def interrupt(self) -> None:
            self.interrupted.set()

    def note(*_: object) -> bool:
        raise OSError("the disk is full")

    monkeypatch.setattr(execute_module, "_note_if_done", note)
    with pytest.raises(OSError, match="full"):
        execute(steps(tmp_path), Endless(), jobs=2)


def test_of_several_steps_none_begins_that_cannot_end(tmp_path: Path) -> None:
    """Beside others a training takes as many times as long."""

    def costs(steps) -> dict:
        return {step: StepCost(tokens=20, flops=1, rate=1, measured=True) for step in steps}

    one, two = Timed(), Timed()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    execute(steps(tmp_path / "one"), one, minutes=2, costs=costs)
    assert any("biominilm" in command[1] for command in one.commands)
    outcomes = execute(steps(tmp_path / "two"), two, minutes=2, costs=costs, jobs=4)
    assert not any("biominilm" in command[1] for command in two.commands) and len(two.commands) == 2
    assert [training.model.name for training in outcomes.too_long] == ["Teacher", "Student", "Alone"]
