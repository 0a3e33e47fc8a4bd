"""Steps of compression: commands that build on each other, records that are kept, nothing done twice."""

import json
import threading
import time
from pathlib import Path

import pytest
from score_records import record
from small_plan import TEXT, Pretended, declared, paths_in

from compact_biomed.errors import UserError
from compact_biomed.records.lines import read_lines
from compact_biomed.records.store import Records
from compact_biomed.reproduce.compression import Compression
from compact_biomed.reproduce.execute import execute
from compact_biomed.reproduce.plan import make_plan
from compact_biomed.reproduce.processes import Ended

COMPRESSED = TEXT.replace(
    "protocol = { epochs = 2 }",
    """protocol = { epochs = 2 }
[presets.smoke.compression]
tasks = ["smoke"]
models = ["Student"]
teacher = "Teacher"
unlabelled = 7
protocol = { epochs = 3 }
""",
)


@pytest.fixture(autouse=True)
def no_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMPACT_BIOMED_DATA", raising=False)


class Compressing(Pretended):
    """Also pretends to save, distill, export, score and time.

    Args:
        until: verb that does nothing, as when the time is up.
    """

    def __init__(self, until: str = "nothing"):
        super().__init__()
        self.until = until

    def __call__(self, command: list[str], **more) -> Ended:
        verbs = [part for part in command[3:5] if not part.startswith("-")]
        if "tasks" not in " ".join(command):
            return super().__call__(command, **more)
        self.commands.append(command)
        if verbs[0] == self.until:
            return Ended(0)

        def value(flag: str) -> str:
            return command[command.index(flag) + 1]

        if verbs[0] in ("evaluate", "distill"):
            task = Path(value("--ner-dir")).name
            seed = value("--seeds")
            (Path(value("--save")) / f"{value('--name')}-{task}-seed{seed}").mkdir(parents=True)
            start = Path(value("--model" if verbs[0] == "evaluate" else "--student")).parent / "record.json"
            self.score(Path(value("--records")), value("--name"), task, start, int(seed))
        elif verbs[0] == "export":
            Path(value("--output")).mkdir()
        elif verbs[0] == "score":
            folder = Path(value("--model"))
            name = folder.name.split("-")[0]
            start = folder.parents[2] / name / "record.json"
            seed = int(folder.name.partition("-seed")[2].removesuffix("-int8"))
            task = Path(value("--ner-dir")).name
            self.score(Path(value("--records")), f"{name}-distilled ONNX int8", task, start, seed)
        else:
            line = {"model": value("--models").partition("=")[0], "variant": value("--variants"), "length": 128}
            line |= {"device": "a machine", "threads": 2, "disk_bytes": 2**20, "latency_ms": 4.0, "tokens_per_s": 100.0}
            with Path(value("--records")).open("a") as stream:
                stream.write(json.dumps(line) + "\n")
        return Ended(0)

    @staticmethod
    def score(path: Path, name: str, task: str, start: Path, seed: int) -> None:
        made = record(name, task, seed=seed, weights_sha256=json.loads(start.read_text())["weights_sha256"])
        Records(path).add(made, [{"tp": 4.0, "fp": 1.0, "fn": 1.0}] * 3)


def compressions(folder: Path) -> list[Compression]:
    steps = make_plan(declared(folder, COMPRESSED), paths_in(folder)).chosen
    return [step for step in steps if isinstance(step, Compression)]


def steps(folder: Path) -> list:
    return list(make_plan(declared(folder, COMPRESSED), paths_in(folder)).chosen)


def test_each_command_takes_what_the_one_before_it_made(tmp_path: Path) -> None:
    launch = Compressing()
    assert not execute(steps(tmp_path), launch).failed
    (step,) = compressions(tmp_path)
    teacher, distill, export, score, *timed = launch.commands[-6:]
    assert teacher[3] == "evaluate" and str(step.teacher.checkpoint) in teacher and "--epochs" not in teacher
    assert distill[3] == "distill" and distill[distill.index("--epochs") + 1] == "3"
    assert distill[distill.index("--student") + 1] == step.needs.checkpoint
    saved = str(step.folder / f"Student-distilled-{step.task.name}-seed1")
    assert distill[distill.index("--teacher") + 1] == str(step.folder / f"Teacher-{step.task.name}-seed1")
    assert saved in export and f"{saved}-int8" in export and f"{saved}-int8" in score
    assert [(each[6].partition("=")[0], each[8]) for each in timed] == [
        ("Teacher", "torch-fp32"),
        ("Student", "onnx-int8"),
    ]
    assert len(step.text.read_text().splitlines()) == 7
    kept = read_lines([paths_in(tmp_path).compression])
    assert [line.model for line in kept] == ["Teacher", "Student-distilled", "Student-distilled ONNX int8"]
    assert kept[0].all_counts() == [{"tp": 4.0, "fp": 1.0, "fn": 1.0}] * 3


def test_it_is_done_once_also_where_the_weights_are_lost(tmp_path: Path) -> None:
    execute(steps(tmp_path), Compressing())
    (step,) = compressions(tmp_path)
    assert step.done()
    step.keep()
    assert len(read_lines([paths_in(tmp_path).compression])) == 3
    (tmp_path / "runs").rename(tmp_path / "lost")
    assert compressions(tmp_path)[0].done() and not Compressing().commands


def test_each_seed_has_a_teacher_of_its_own_and_is_timed_once(tmp_path: Path) -> None:
    two = COMPRESSED.replace("unlabelled = 7", "unlabelled = 7\nseeds = [1, 2]")
    launch = Compressing()
    execute(list(make_plan(declared(tmp_path, two), paths_in(tmp_path)).chosen), launch)
    taught = [command[command.index("--teacher") + 1] for command in launch.commands if command[3] == "distill"]
    assert [Path(teacher).name.rpartition("-")[2] for teacher in taught] == ["seed1", "seed2"]
    assert sum(command[3] == "bench" for command in launch.commands) == 2
    assert [line.record["seed"] for line in read_lines([paths_in(tmp_path).compression])] == [1, 1, 1, 2, 2, 2]


def test_beside_others_speed_is_measured_alone_and_once(tmp_path: Path) -> None:
    running, beside_timings = set(), []

    class Noting(Compressing):
        def __call__(self, command: list[str], **more) -> Ended:
            running.add(tuple(command))
            time.sleep(0.02)
            if command[3] == "bench":
                assert "share" not in more
                beside_timings.append(len(running))
            running.discard(tuple(command))
            with lock:
                return super().__call__(command)

    lock, two = threading.Lock(), COMPRESSED.replace("unlabelled = 7", "unlabelled = 7\nseeds = [1, 2, 3]")
    plan = make_plan(declared(tmp_path, two), paths_in(tmp_path))
    assert not execute(list(plan.chosen), Noting(), jobs=3).failed
    assert beside_timings == [1, 1]


@pytest.mark.parametrize(("until", "commands"), [("evaluate", 1), ("distill", 2)])
def test_what_time_stopped_is_not_built_upon(tmp_path: Path, until: str, commands: int) -> None:
    execute([step for step in steps(tmp_path) if not isinstance(step, Compression)], Pretended())
    launch = Compressing(until)
    outcomes = execute(steps(tmp_path), launch, minutes=5)
    assert len(launch.commands) == commands and not outcomes.failed and len(outcomes.remaining) == 1
    assert not execute(steps(tmp_path), Compressing()).failed and compressions(tmp_path)[0].done()


def test_a_model_that_is_not_trained_cannot_be_compressed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="General is not trained in this preset"):
        declared(tmp_path, COMPRESSED.replace('models = ["Student"]\nteacher', 'models = ["General"]\nteacher'))
