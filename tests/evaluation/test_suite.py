"""Suites skip recorded runs, name failed ones, and lose one run at most to kill -9."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from other_process import locked_elsewhere
from small_runs import make_checkpoint, make_ner_set

from compact_biomed import cli, files
from compact_biomed.benchmarks.tasks import TASKS
from compact_biomed.errors import UserError
from compact_biomed.evaluation import finetune, monitor, suite, suite_runs
from compact_biomed.evaluation.learner import Learner
from compact_biomed.evaluation.protocols import Candidate, Overrides
from compact_biomed.evaluation.runs import Runner
from compact_biomed.evaluation.workspace import Workspace
from compact_biomed.machine import PerformanceSettings
from compact_biomed.records import locks, store

QUICK = Overrides(learning_rate=1e-2, epochs=2)
ONE_EPOCH = Overrides(epochs=1)
FP32 = PerformanceSettings(precision="fp32", replicas=1)
FAST = ("--precision", "fp32", "--replicas", "1", "--epochs", "2", "--learning-rate", "1e-2")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    make_checkpoint(folder / "first"), make_checkpoint(folder / "second", seed=1)
    make_ner_set(folder / "fevers")
    return folder


def suite_file(folder: Path, place: Path, *, models: dict[str, str] | None = None, seeds: str = "[1, 2]") -> Path:
    models = models or {"first": str(place / "first"), "second": str(place / "second")}
    lines = [f'ner_dirs = ["{place / "fevers"}"]', f"seeds = {seeds}", "[models]"]
    file = folder / "models.toml"
    file.write_text("\n".join([*lines, *(f'{name} = "{start}"' for name, start in models.items())]) + "\n")
    return file


def evaluate(file: Path, records: Path, *more: str) -> int:
    return cli.main(["evaluate", "--suite", str(file), "--records", str(records), *FAST, *more])


def lines(records: Path) -> list[dict]:
    return [json.loads(line) for line in records.read_text().splitlines()] if records.exists() else []


def test_each_run_is_done_once(place: Path, tmp_path: Path, capsys) -> None:
    records = tmp_path / "records.jsonl"
    assert evaluate(suite_file(tmp_path, place), records) == 0
    done = lines(records)
    assert [(r["seed"], r["model"]["name"]) for r in done] == [(1, "first"), (1, "second"), (2, "first"), (2, "second")]
    assert len({r["run"] for r in done}) == 4
    assert all((tmp_path / r["per_example_counts"]).is_file() for r in done)
    said = capsys.readouterr().err
    assert "first" in said and "fevers (f1)" in said
    assert evaluate(suite_file(tmp_path, place), records) == 0
    assert lines(records) == done
    assert "4 of 4 runs are recorded already" in capsys.readouterr().err
    # More of the same: only what is new is done. Other hyperparameters are another run.
    assert evaluate(suite_file(tmp_path, place, seeds="[1, 2, 3]"), records) == 0
    assert len(lines(records)) == 6
    assert evaluate(suite_file(tmp_path, place, seeds="[1]"), records, "--max-train-examples", "9") == 0
    assert len(lines(records)) == 8
    assert lines(records)[-1]["protocol"]["overrides"]["max_train_examples"] == 9


def test_what_is_listed_twice_counts_once() -> None:
    tasks = [TASKS[name] for name in ("NCBI-disease", "GAD", "GAD")]
    asked = suite.Suite({"M": "m"}, tasks, [2, 1, 2], folds=[3, 3])
    assert (asked.seeds, asked.folds, len(asked.tasks)) == ([2, 1], [3], 2)
    assert len(asked.jobs()) == 4


def test_the_same_run_asked_for_twice_is_done_once(place: Path, tmp_path: Path, capsys) -> None:
    records = tmp_path / "records.jsonl"
    one = {"first": str(place / "first")}
    assert evaluate(suite_file(tmp_path, place, models=one, seeds="[1, 1]"), records) == 0
    assert len(lines(records)) == 1
    # Under another name tables would not show it: that is an error, and nothing is recorded twice.
    two = {"first": str(place / "first"), "twin": str(place / "first")}
    assert evaluate(suite_file(tmp_path, place, models=two, seeds="[1, 2]"), records) == 1
    assert [(r["model"]["name"], r["seed"]) for r in lines(records)] == [("first", 1), ("first", 2)]
    assert "twin: this run is already recorded as first" in capsys.readouterr().err


def test_other_settings_of_a_checkpoint_are_another_run(place: Path, tmp_path: Path) -> None:
    records, other = tmp_path / "records.jsonl", tmp_path / "relu"
    shutil.copytree(place / "first", other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"hidden_act": "relu", "transformers_version": "0"}))
    for start in (place / "first", other):
        assert evaluate(suite_file(tmp_path, place, models={start.name: str(start)}, seeds="[1]"), records) == 0
    first, relu = lines(records)
    assert first["run"] != relu["run"] and first["model"]["weights_sha256"] == relu["model"]["weights_sha256"]


def test_what_another_process_recorded_meanwhile_is_not_done_again(place: Path, tmp_path: Path) -> None:
    wanted = suite.load(suite_file(tmp_path, place, models={"first": str(place / "first")}, seeds="[1]"), QUICK)
    runners = [Runner(Workspace(tmp_path / "records.jsonl", speed=FP32)) for _ in range(2)]
    assert runners[1].find(wanted.jobs()[0]) is None
    for runner in runners:
        suite_runs.run(wanted.jobs(), runner)
    assert len(lines(tmp_path / "records.jsonl")) == 1


def test_records_that_cannot_be_written_are_found_out_before_the_work(place: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    assert evaluate(suite_file(tmp_path, place), tmp_path / "file" / "records.jsonl") == 1
    said = capsys.readouterr().err
    assert said.count("error:") == 1 and "Traceback" not in said and "[1/4]" not in said


def test_a_full_disk_ends_the_suite(place: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device", "records.jsonl")

    monkeypatch.setattr(store, "exclusive_append", full)
    assert evaluate(suite_file(tmp_path, place), tmp_path / "records.jsonl") == 1
    said = capsys.readouterr().err
    assert "the disk is full" in said and "[2/4]" not in said


def test_a_kept_model_is_not_replaced_by_another_runs(place: Path, tmp_path: Path, capsys) -> None:
    kept, file = tmp_path / "kept", suite_file(tmp_path, place, models={"first": str(place / "first")}, seeds="[1]")
    assert evaluate(file, tmp_path / "a.jsonl", "--save", str(kept)) == 0
    assert evaluate(file, tmp_path / "a.jsonl", "--save", str(tmp_path / "later")) == 0
    assert "not saved" in capsys.readouterr().err and not (tmp_path / "later").exists()
    assert evaluate(file, tmp_path / "b.jsonl", "--save", str(kept), "--max-train-examples", "9") == 1
    assert "this folder holds another run's model" in capsys.readouterr().err


def test_a_bad_model_is_named_and_the_rest_goes_on(place: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    broken = make_checkpoint(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    models = {"empty": str(tmp_path / "empty"), "broken": str(broken), "good": str(place / "first")}
    records = tmp_path / "records.jsonl"
    assert evaluate(suite_file(tmp_path, place, models=models, seeds="[1]"), records) == 1
    assert [r["model"]["name"] for r in lines(records)] == ["good"]
    said = capsys.readouterr().err
    for name in ("empty", "broken"):  # why, once, when it happens
        assert said.count(f"failed: {name} on fevers, seed 1: ") == 1
    assert "\n2 runs failed for the reasons above: empty on fevers, seed 1; broken on fevers, seed 1\n" in said
    assert "Traceback" not in said


def test_time_that_is_up_is_no_failure(place: Path, tmp_path: Path, capsys) -> None:
    records = tmp_path / "records.jsonl"
    file = suite_file(tmp_path, place)
    assert evaluate(file, records, "--minutes", "0.0001") == 0  # the first begins, its length being unknown
    assert 0 <= len(lines(records)) < 4
    assert "Time is up; " in capsys.readouterr().err
    assert evaluate(file, records) == 0
    assert len(lines(records)) == 4


def test_killed_for_real(place: Path, tmp_path: Path) -> None:
    file, killed, whole = (
        suite_file(tmp_path, place),
        tmp_path / "killed.jsonl",
        tmp_path / "whole.jsonl",
    )
    command = [
        sys.executable,
        "-m",
        "compact_biomed",
        "evaluate",
        "--suite",
        str(file),
        "--records",
        str(killed),
        *FAST,
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=dict(os.environ))
    deadline = time.monotonic() + 120
    while not lines(killed) and time.monotonic() < deadline:
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = lines(killed)
    assert 0 < len(before) < 4
    assert evaluate(file, killed) == 0
    assert evaluate(file, whole) == 0
    after = lines(killed)
    assert after[: len(before)] == before
    wanted = {r["run"]: (r["score"], r["how"]["training_loss"]) for r in lines(whole)}
    assert len(after) == 4
    assert {r["run"]: (r["score"], r["how"]["training_loss"]) for r in after} == wanted


class Killed(BaseException):
    """The process ends here."""


def test_a_run_continues_where_it_was_killed(place: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """In a trial on dev, or in the run itself; records are those of an undisturbed one, and nothing else is left."""
    for name in ("_SAVE_EVERY", "_SAVE_AT_EPOCH"):
        monkeypatch.setattr(monitor, name, 0.0)
    monkeypatch.setattr(monitor, "_SHARE_OF_SAVING", float("inf"))
    monkeypatch.setattr(files, "_fsync", lambda path: None)
    changes = Overrides(learning_rates=[1e-3, 1e-2], max_epochs=2)
    wanted = suite.load(suite_file(tmp_path, place, models={"first": str(place / "first")}, seeds="[1]"), changes)
    steps: list[int] = []

    def count(learner: Learner) -> None:
        steps.append(1)
        if len(steps) in kills:
            raise KeyboardInterrupt if len(steps) == 2 else Killed

    monkeypatch.setattr(Learner, "after_step", count)

    def done(name: str) -> list[tuple]:
        runner = Runner(Workspace(tmp_path / name, speed=FP32))
        suite_runs.run(wanted.jobs(), runner)
        parts = [(r["record"], r.get("dev"), r.get("metrics"), r.get("settings")) for r in lines(tmp_path / name)]
        return [*parts, lines(tmp_path / name)[-1]["how"]["training_loss"]]

    kills: set[int] = set()
    whole, total = done("whole"), len(steps)
    assert [kind for kind, *_ in whole[:-1]] == ["search", "search", "scores"]
    steps.clear()
    kills = {2, 5, 6, total}  # in the first trial, in the second one, again at once, in the last step of all
    for _ in range(len(kills)):
        with pytest.raises((Killed, KeyboardInterrupt)):
            done("killed")
    assert done("killed") == whole
    assert len(steps) == total + len(kills)  # a step that was not saved is repeated, and no other
    said = capsys.readouterr().err
    assert said.count(": continues in epoch") == len(kills)
    kept = f"Kept: 0 runs recorded in {tmp_path / 'killed'}; the training in progress is in {tmp_path / 'killed'}.check"
    assert said.count(kept) == 1
    assert {path.name for path in tmp_path.iterdir()} == {
        "models.toml",
        *(f"{name}{end}" for name in ("whole", "killed") for end in ("", ".counts")),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks = [", "not TOML"),
        ('task = ["NCBI-disease"]', "models.toml:1: task: unknown key"),
        ('tasks = ["NCBI-disease"]', "no models"),
        ('[models]\na = "b"', "no tasks"),
        ('tasks = ["nothing"]\n[models]\na = "b"', "nothing"),
        (
            'tasks = ["GAD"]\nseeds = ["1"]\n[models]\na = "b"',
            r"models.toml:2: seeds: must be a list of whole numbers, not \['1'\]",
        ),
        ('tasks = "GAD"\n[models]\na = "b"', "models.toml:1: tasks: must be a list of strings, not 'GAD'"),
        ('[[data]]\ntrain = "nowhere.csv"\n[models]\na = "b"', "models.toml:1: data: nowhere.csv: no such file"),
        ('[[data]]\ntrian = "a.csv"\n[models]\na = "b"', "trian: unknown key .did you mean 'train'"),
        ('ner_dirs = ["nowhere"]\n[models]\na = "b"', "models.toml:1: ner_dirs: nowhere: no such folder"),
    ],
)
def test_errors_of_a_suite_file(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "models.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        suite.load(file)


def test_data_of_ones_own(tmp_path: Path) -> None:
    table = tmp_path / "frogs.csv"
    table.write_text("text,topic\n" + "".join(f"frogs {n},{'ab'[n % 2]}\n" for n in range(20)))
    file = tmp_path / "models.toml"
    own = f'[[data]]\ntrain = "{table}"\nlabel_column = "topic"\n'
    file.write_text(f'tasks = ["GAD"]\n{own}\n{own}task_name = "toads"\n[models]\na = "x"\n')
    assert [task.name for task in suite.load(file).tasks] == ["GAD", "frogs", "toads"]


def test_folds_are_runs_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text('tasks = ["GAD", "HoC"]\nseeds = [1, 2]\n[models]\na = "x"\nb = "y"\n')
    jobs = suite.load(file).jobs()
    assert len(jobs) == 2 * 2 * (10 + 1)
    assert [job.fold for job in jobs if job.seed == 1 and job.model == "a"] == [*range(1, 11), None]


def test_runs_locked_by_another_process_are_retried_last(place: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    pauses = []
    clock = SimpleNamespace(monotonic=lambda: 3600 * len(pauses), sleep=pauses.append)
    for module in (suite_runs, locks):
        monkeypatch.setattr(module, "time", clock)
    records = tmp_path / "records.jsonl"
    wanted = suite.load(suite_file(tmp_path, place, models={"first": str(place / "first")}), QUICK)
    runner = Runner(Workspace(records, speed=FP32))
    with locked_elsewhere(records, runner.key(wanted.jobs()[0])) as other:
        outcome = suite_runs.run(wanted.jobs(), runner, minutes=30)
        assert [job.seed for job in outcome.remaining] == [1] and [record["seed"] for record in outcome.records] == [2]
        assert "waiting for another process to finish first on fevers, seed 1" in capsys.readouterr().err
        clock.sleep = lambda _: (other.kill(), other.wait())
        outcome = suite_runs.run(wanted.jobs(), runner)
    assert not outcome.remaining and len(outcome.records) == 2 == len(lines(records))
    assert "[1/1] first on fevers, seed 1" in capsys.readouterr().err


def test_two_processes_share_the_search(place: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    records = tmp_path / "records.jsonl"
    wanted = suite.load(suite_file(tmp_path, place, models={"first": str(place / "first")}, seeds="[1]"), ONE_EPOCH)
    (job,) = wanted.jobs()
    runner = Runner(Workspace(records, speed=FP32))
    first = runner.search_key(job, Candidate(5e-5))
    with locked_elsewhere(records, first) as other:
        monkeypatch.setattr(locks, "time", SimpleNamespace(sleep=lambda _: (other.kill(), other.wait())))
        (record,) = suite_runs.run([job], runner).records
    said = capsys.readouterr().err
    assert "waiting for another process to finish learning rate 5e-05" in said
    assert said.index("learning rate 0.0001:") < said.index("learning rate 5e-05:")
    assert [each["learning_rate"] for each in record["search"]["tried"]] == [5e-5, 1e-4, 3e-4]
    assert [r["record"] for r in lines(records)] == ["search", "search", "search", "scores"]
    assert {r["run"] for r in lines(records)} > {first}


def test_a_model_that_another_process_kept_meanwhile_stays(place: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    kept, records = tmp_path / "kept", tmp_path / "r.jsonl"
    file = suite_file(tmp_path, place, models={"first": str(place / "first")}, seeds="[1]")
    train = finetune.fine_tune

    def meanwhile(*arguments, **named):
        outcome = train(*arguments, **named)
        (kept / "first-fevers-seed1").mkdir(parents=True)
        (kept / "first-fevers-seed1" / "record.json").write_text('{"run": "another"}')
        return outcome

    monkeypatch.setattr(finetune, "fine_tune", meanwhile)
    assert evaluate(file, records, "--save", str(kept)) == 1
    assert "this folder holds another run's model" in capsys.readouterr().err
    assert len(lines(records)) == 1 and [p.name for p in (kept / "first-fevers-seed1").iterdir()] == ["record.json"]


def test_a_checkpoint_that_is_replaced_meanwhile_is_not_recorded(place: Path, tmp_path: Path, capsys) -> None:
    start = tmp_path / "changing"
    shutil.copytree(place / "first", start)
    wanted = suite.load(suite_file(tmp_path, place, models={"m": str(start)}, seeds="[1]"), QUICK)
    runner = Runner(Workspace(tmp_path / "r.jsonl", speed=FP32))
    assert runner.find(wanted.jobs()[0]) is None
    shutil.copy(place / "second" / "model.safetensors", start)
    outcome = suite_runs.run(wanted.jobs(), runner)
    assert not outcome.records and "the checkpoint has changed since the command began" in next(
        iter(outcome.failed.values())
    )


def test_what_is_not_a_kept_model_is_not_replaced(place: Path, tmp_path: Path, capsys) -> None:
    file = suite_file(tmp_path, place, models={"first": str(place / "first")}, seeds="[1]")
    precious = tmp_path / "kept" / "first-fevers-seed1" / "notes.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    assert evaluate(file, tmp_path / "r.jsonl", "--save", str(tmp_path / "kept")) == 1
    assert "this folder holds something else" in capsys.readouterr().err and precious.read_text() == "precious"


def test_a_folder_that_cannot_keep_is_found_out_before_the_training(place: Path, tmp_path: Path, capsys) -> None:
    file = suite_file(tmp_path, place, models={"first": str(place / "first")}, seeds="[1]")
    (tmp_path / "file").write_text("")
    assert evaluate(file, tmp_path / "r.jsonl", "--save", str(tmp_path / "file" / "kept")) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path / 'file'}") and said.count("\n") == 1


def test_damaged_settings_of_a_checkpoint_are_named(place: Path, tmp_path: Path, capsys) -> None:
    for name, content in (("config.json", "[1]"), ("tokenizer_config.json", "{")):
        broken = tmp_path / name.removesuffix(".json")
        shutil.copytree(place / "first", broken)
        (broken / name).write_text(content)
        assert evaluate(suite_file(tmp_path, place, models={"m": str(broken)}, seeds="[1]"), tmp_path / "r.jsonl") == 1
        said = capsys.readouterr().err
        assert f"{name}:" in said and "copy the file again" in said and "Traceback" not in said


def test_a_reason_common_to_many_failures_is_printed_once(place: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "gad.toml"
    file.write_text(f'tasks = ["GAD"]\n[models]\nfirst = "{place / "first"}"\n')
    assert evaluate(file, tmp_path / "r.jsonl", "--data", str(tmp_path / "nothing")) == 1
    said = capsys.readouterr().err
    assert said.count("no files of GAD") == 1 and "10 runs failed" in said


@pytest.mark.parametrize("name", ['""', '"two\\nlines"'])
def test_names_that_tables_cannot_show(place: Path, tmp_path: Path, capsys, name: str) -> None:
    file = suite_file(tmp_path, place)
    file.write_text(file.read_text().replace("first =", f"{name} ="))
    assert evaluate(file, tmp_path / "r.jsonl") != 0
    assert "is no name of a model" in capsys.readouterr().err


DAMAGED = ({}, {"how": None}, {"task": {"name": "t"}, "model": {"name": "m"}, "how": {"seconds": None}})


def test_a_damaged_record_of_another_run_stops_nothing(place: Path, tmp_path: Path) -> None:
    records = tmp_path / "r.jsonl"
    damaged = [{"record": "scores", "run": str(n), "version": 1, **more} for n, more in enumerate(DAMAGED)]
    records.write_text("".join(json.dumps(each) + "\n" for each in damaged))
    file = suite_file(tmp_path, place, models={"first": str(place / "first")}, seeds="[1]")
    assert evaluate(file, records) == 0 and len(lines(records)) == len(DAMAGED) + 1


@pytest.mark.parametrize("lost", ["model", "task", "score"])
def test_a_damaged_record_of_an_asked_run_is_named(place: Path, tmp_path: Path, capsys, lost: str) -> None:
    records = tmp_path / "r.jsonl"
    file = suite_file(tmp_path, place, models={"first": str(place / "first")}, seeds="[1]")
    assert evaluate(file, records) == 0
    (record,) = lines(records)
    records.write_text(json.dumps({name: value for name, value in record.items() if name != lost}) + "\n")
    assert evaluate(file, records) == 1
    said = capsys.readouterr().err
    assert f"r.jsonl:1: a record without {lost}" in said and "Traceback" not in said


def test_a_record_of_no_known_kind_is_no_record(place: Path, tmp_path: Path, capsys) -> None:
    records = tmp_path / "r.jsonl"
    records.write_text('{"record": ["scores"], "run": "x", "version": 1}\n')
    assert evaluate(suite_file(tmp_path, place), records) == 1
    assert "r.jsonl:1: not a record of an evaluation" in capsys.readouterr().err
