"""Steps: commands in an order that gives each what it needs, and done when they have left a record."""

from dataclasses import replace
from pathlib import Path

import pytest
from small_plan import TEXT, Pretended, declared, paths_in

from compact_biomed.benchmarks import tasks
from compact_biomed.errors import UserError
from compact_biomed.reproduce import plan
from compact_biomed.reproduce.execute import execute
from compact_biomed.reproduce.steps import Evaluation, Training, protocol_flags


@pytest.fixture(autouse=True)
def no_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMPACT_BIOMED_DATA", raising=False)


def plan_of(folder: Path, *only: str) -> plan.ReproductionPlan:
    return plan.make_plan(declared(folder), paths_in(folder), only)


def test_teachers_first_and_each_training_before_its_evaluations(tmp_path: Path) -> None:
    whole = plan_of(tmp_path)
    trained = [step.model.name for step in whole.steps if isinstance(step, Training)]
    assert trained == ["Teacher", "Student", "Alone"]
    order = [
        (step.model.name, getattr(step, "seed", None) if isinstance(step, Evaluation) else 0) for step in whole.steps
    ]
    names = ["Teacher", "Student", "Alone", "General"]
    every = [(name, seed) for name in names for seed in (0, 1, 2)]
    assert order == [each for each in every if each != ("General", 0)]  # NCBI-disease is not here
    assert len(whole.missing) == 1 and "NCBI-disease" in whole.missing[0]
    assert list(map(str, whole.chosen)) == list(map(str, whole.steps))


def test_a_command_says_all_that_is_asked(tmp_path: Path) -> None:
    whole = plan_of(tmp_path)
    (alone,) = (step.command for step in whole.steps if str(step) == "pretraining Alone")
    teacher = str(tmp_path / "runs" / "Teacher" / "model")
    assert alone[1].endswith("distilbiobert.py")
    text = " ".join(alone)
    assert "--preset smoke --max-steps 4 --batch-size 2 --seed 1 --leave-out soft_kl hidden_cosine" in text
    assert f"--teacher {teacher}" in text and alone[-2:] == ["--output-dir", str(tmp_path / "runs" / "Alone")]
    step = next(step for step in whole.steps if isinstance(step, Evaluation) and step.model.name == "General")
    text = " ".join(step.command_for(list(step.missing()), minutes=1.5))
    assert "--name General --model somewhere --seeds 1 --ner-dir " in text
    assert "--epochs 2 --minutes 1.50" in text and "--task" not in text


def test_a_protocol_is_spelled_in_one_way() -> None:
    assert protocol_flags({"name": "thorough", "learning_rate": 3e-4}) == [
        "--protocol",
        "thorough",
        "--learning-rate",
        "0.0003",
    ]


def test_a_measurement_has_settings_of_its_own(tmp_path: Path) -> None:
    longer = TEXT.replace("seeds = [2] }", "seeds = [2], protocol = { epochs = 9 } }").replace(
        '"NCBI-disease"', '"smoke"'
    )
    steps = plan.make_plan(declared(tmp_path, longer), paths_in(tmp_path)).chosen
    usual, own = [step for step in steps if isinstance(step, Evaluation) and step.model.name == "Student"][1:]
    assert (usual.seed, usual.overrides, own.seed, own.overrides) == (2, {"epochs": 2}, 2, {"epochs": 9})
    assert str(own) == "evaluating Student, epochs 9 on smoke, seed 2" and "epochs" not in str(usual)
    command = own.command_for(["smoke"])
    assert command[command.index("--epochs") + 1] == "9"


def test_done_is_what_left_a_record_of_these_settings(tmp_path: Path) -> None:
    whole = plan_of(tmp_path)
    assert not any(step.done() for step in whole.steps)
    assert not execute(whole.steps, Pretended()).failed
    assert all(step.done() for step in plan_of(tmp_path).steps)
    # Made in another folder, by the same teacher: the same.
    student = tmp_path / "runs" / "Student" / "record.json"
    student.write_text(student.read_text().replace(f'"{tmp_path}/runs/Teacher/model"', '"elsewhere"'))
    assert "elsewhere" in student.read_text() and plan_of(tmp_path).steps[3].here()
    # Another number of steps is another run; so is the student of such a teacher, and its scores are not these.
    changed = declared(tmp_path, TEXT.replace("max_steps = 4", "max_steps = 5"))
    assert [step.model.name for step in plan.make_plan(changed, paths_in(tmp_path)).steps if step.done()] == [
        "General"
    ] * 2
    records = paths_in(tmp_path).pretraining
    records.write_text(records.read_text().replace('"max_steps": 4', '"max_steps": 5', 1))  # the teacher's
    record = tmp_path / "runs" / "Teacher" / "record.json"
    record.write_text(record.read_text().replace('"max_steps": 4', '"max_steps": 5'))
    states = {str(step): step.done() for step in plan_of(tmp_path).steps}
    assert {name for name, done in states.items() if done} == {f"evaluating General on smoke, seed {n}" for n in (1, 2)}


def test_a_task_without_training_is_done_once_for_all_seeds_and_settings(tmp_path: Path) -> None:
    task = tasks.task_named("BIOSSES (zero-shot)")
    steps = [step for step in plan_of(tmp_path).steps if isinstance(step, Evaluation) and step.model.name == "General"]
    steps = [replace(step, tasks={task.name: task}) for step in steps]
    assert [step.missing() for step in steps] == [{task.name: [None]}] * 2
    record = {"record": "scores", "model": {"name": "General"}, "task": {"name": task.name, "fold": None}, "seed": 0}
    record["protocol"] = {"name": "zero-shot", "overrides": {}}
    assert not any(step.missing_in([record]) for step in steps)


@pytest.mark.parametrize(
    ("only", "trained", "measured"),
    [
        (["Student"], ["Teacher", "Student"], {"Student"}),
        (["pretraining", "Teacher"], ["Teacher"], set()),
        (["evaluation", "General"], [], {"General"}),
        (["smoke"], ["Teacher", "Student", "Alone"], {"Teacher", "Student", "Alone", "General"}),
        (["NCBI-disease", "evaluation"], [], set()),
    ],
)
def test_only_some(tmp_path: Path, only: list[str], trained: list[str], measured: set[str]) -> None:
    chosen = plan_of(tmp_path, *only).chosen
    assert [step.model.name for step in chosen if isinstance(step, Training)] == trained
    assert {step.model.name for step in chosen if isinstance(step, Evaluation)} == measured


def test_only_some_seeds(tmp_path: Path) -> None:
    two = TEXT.replace("evaluation =", 'replicates = [{ seed = 7, models = ["Student"] }]\nevaluation =', 1)
    declaration, paths = declared(tmp_path, two), paths_in(tmp_path)
    chosen = plan.make_plan(declaration, paths, seeds=[2], pretraining_seeds=[7]).chosen
    assert [str(step) for step in chosen] == [
        "evaluating General on smoke, seed 2",  # it is not trained here
        "pretraining Teacher, pretraining seed 7",
        "evaluating Teacher, pretraining seed 7 on smoke, seed 2",
        "pretraining Student, pretraining seed 7",
        "evaluating Student, pretraining seed 7 on smoke, seed 2",
    ]
    # A training that no chosen step needs is left out.
    again = (
        two.replace('models = ["Student"], seeds = [2]', 'models = ["Student"], seeds = [2, 5]')
        .replace('"NCBI-disease"', '"smoke"')
        .replace("seeds = [2, 5] }", "pretraining_seeds = [1], seeds = [2, 5] }")
    )
    chosen = plan.make_plan(declared(tmp_path, again), paths, seeds=[5], pretraining_seeds=[7]).chosen
    assert chosen == []
    chosen = plan.make_plan(declared(tmp_path, again), paths, seeds=[5]).chosen
    assert [str(step) for step in chosen] == [
        "pretraining Teacher",
        "pretraining Student",
        "evaluating Student on smoke, seed 5",
    ]
    for seeds in ({"seeds": [9]}, {"pretraining_seeds": [9]}):
        flag = "--" + next(iter(seeds)).replace("_", "-")
        with pytest.raises(UserError, match=f"^{flag}: no step has seed 9"):
            plan.make_plan(declaration, paths, **seeds)


def test_only_something_unknown(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--only: unknown name 'Studnet'"):
        plan_of(tmp_path, "Studnet")


def test_without_benchmarks_the_text_is_not_decontaminated_and_a_notice_says_so(tmp_path: Path, monkeypatch) -> None:
    text = declared(tmp_path) and (tmp_path / "reproduce.toml").read_text()
    text = text.replace("seed = 1 }", 'seed = 1, decontaminate_against = ["all"] }')
    without = plan.make_plan(declared(tmp_path, text), paths_in(tmp_path))
    assert "--decontaminate-against" not in without.steps[0].command
    assert "not decontaminated" in " ".join(without.notices)
    (tmp_path / "data" / "NER" / "NCBI-disease").mkdir(parents=True)
    monkeypatch.setenv("COMPACT_BIOMED_DATA", str(tmp_path / "data"))
    here = plan.make_plan(declared(tmp_path, text), paths_in(tmp_path))
    assert "--decontaminate-against all" in " ".join(here.steps[0].command) and not here.missing
    assert [step.seed for step in here.steps if isinstance(step, Evaluation) and "NCBI-disease" in step.tasks] == [2]
