"""Slices on different machines: what is recorded is done, lost weights are made again only for what is not."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from small_plan import TEXT, Pretended, declared, paths_in

from compact_biomed.reproduce import plan
from compact_biomed.reproduce.costs import StepCost
from compact_biomed.reproduce.execute import execute
from compact_biomed.reproduce.printed import print_outcomes, print_plan
from compact_biomed.reproduce.steps import Evaluation, Step, Training, remaining

REPLICATES = TEXT.replace("training = {", 'replicates = [{ seed = 7, models = ["Student"] }]\ntraining = {')


@pytest.fixture(autouse=True)
def no_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMPACT_BIOMED_DATA", raising=False)


def plan_of(folder: Path, text: str = TEXT) -> plan.ReproductionPlan:
    return plan.make_plan(declared(folder, text), paths_in(folder))


def lose_weights(folder: Path, *names: str) -> None:
    for name in names or [path.name for path in (folder / "runs").iterdir()]:
        shutil.rmtree(folder / "runs" / name)


def left(folder: Path, text: str = TEXT) -> list[str]:
    return list(map(str, remaining(plan_of(folder, text).steps)))


def costing(**seconds: float):
    """Return a function that costs every training and evaluation of a model alike."""

    def costs(steps: Sequence[Step]) -> dict[Step, StepCost]:
        kinds = {step: step.model.name if isinstance(step, Training) else "evaluation" for step in steps}
        return {step: StepCost(seconds.get(kind, 1.0), 1.0, 1.0, True) for step, kind in kinds.items()}

    return costs


def test_what_is_recorded_is_never_repeated(tmp_path: Path) -> None:
    execute(plan_of(tmp_path).steps, Pretended())
    lose_weights(tmp_path)
    launch = Pretended()
    outcomes = execute(plan_of(tmp_path).steps, launch)
    assert launch.commands == [] and len(outcomes.done) == 11 and left(tmp_path) == []


def test_a_missing_score_needs_its_weights_again_and_those_of_the_teacher(tmp_path: Path, capsys) -> None:
    execute(plan_of(tmp_path).steps, Pretended())
    scores = paths_in(tmp_path).evaluation
    rows = [row for row in scores.read_text().splitlines() if '"Student"' not in row or '"seed": 2' not in row]
    scores.write_text("\n".join(rows) + "\n")
    assert left(tmp_path) == ["evaluating Student on smoke, seed 2"]
    lose_weights(tmp_path, "Alone", "Teacher")
    assert left(tmp_path) == ["evaluating Student on smoke, seed 2"]  # the student's weights are here
    lose_weights(tmp_path)
    again = ["pretraining Teacher", "pretraining Student", "evaluating Student on smoke, seed 2"]
    assert left(tmp_path) == again
    whole = plan_of(tmp_path)
    print_plan(whole, costing()(remaining(whole.chosen)))
    said = capsys.readouterr().err
    assert "again: its weights are not on this machine; needed for pretraining Student" in said
    assert "again: its weights are not on this machine; needed for evaluating Student on smoke, seed 2" in said
    assert "3 left" in said
    assert not execute(whole.steps, Pretended()).failed and left(tmp_path) == []


def test_scores_of_other_weights_than_any_recorded_training_do_not_count(tmp_path: Path) -> None:
    execute(plan_of(tmp_path).steps, Pretended())
    scores = paths_in(tmp_path).evaluation
    weights = plan_of(tmp_path).steps[0].weights()
    scores.write_text(scores.read_text().replace(weights, "0" * 64))
    assert left(tmp_path) == [f"evaluating Teacher on smoke, seed {seed}" for seed in (1, 2)]


def test_a_replicate_is_a_chain_with_a_seed_of_its_own(tmp_path: Path) -> None:
    whole = plan_of(tmp_path, REPLICATES)
    second = [step for step in whole.steps if ", pretraining seed 7" in str(step)]
    assert whole.steps[-6:] == second  # the teacher, two scores, the student, two scores
    assert [step.model.name for step in second] == ["Teacher"] * 3 + ["Student"] * 3
    teacher, student = (step for step in second if isinstance(step, Training))
    assert "--seed 7" in " ".join(student.command) and teacher.checkpoint in student.command
    assert student.folder.name == "Student-seed7" and second[-1].checkpoint == student.checkpoint
    assert not execute(whole.steps, Pretended()).failed
    assert teacher.weights() != whole.steps[0].weights() and left(tmp_path, REPLICATES) == []
    assert all(step.recorded() for step in (teacher, student))


def test_a_measurement_may_name_the_replicates(tmp_path: Path) -> None:
    text = REPLICATES.replace('tasks = ["smoke"], seeds', 'tasks = ["smoke"], pretraining_seeds = [1], seeds')
    second = [step for step in plan_of(tmp_path, text).steps if ", pretraining seed 7" in str(step)]
    assert second and not [step for step in second if isinstance(step, Evaluation)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{ seed = 1, models = ["Student"] }', "pretraining seed 1 is declared twice"),
        ('{ seed = 7, models = ["General"] }', "General is not trained in this preset"),
        ('{ seed = 7, models = ["Nobody"] }', "no model 'Nobody'"),
    ],
)
def test_a_replicate_that_cannot_be(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Exception, match=said):
        declared(tmp_path, REPLICATES.replace('{ seed = 7, models = ["Student"] }', text))


def trained_in(folder: Path, minutes: float, costs, **more) -> tuple[list[str], object]:
    outcomes = execute(plan_of(folder).steps, Pretended(), minutes=minutes, costs=costs, **more)
    return [step.model.name for step in outcomes.done if isinstance(step, Training)], outcomes


def test_no_training_is_begun_that_cannot_end(tmp_path: Path, capsys) -> None:
    trained, outcomes = trained_in(tmp_path, 10, costing(Teacher=1200))
    assert trained == [] and {step.model.name for step in outcomes.done} == {"General"}
    assert [step.model.name for step in outcomes.too_long] == ["Teacher", "Student", "Alone"] and not outcomes.failed
    print_outcomes(plan_of(tmp_path), outcomes)
    assert "No remaining training ends within the limit" in capsys.readouterr().err
    assert trained_in(tmp_path, 10, costing(Teacher=1200), continue_later=True)[0] == ["Teacher", "Student", "Alone"]


def test_a_model_that_can_be_finished_comes_before_one_that_can_only_be_trained(tmp_path: Path) -> None:
    execute(plan_of(tmp_path).steps[:3], Pretended())  # the teacher, with its scores
    order: list[str] = []
    costs = costing(Student=500, Alone=200, evaluation=90)

    class Noting(Pretended):
        def __call__(self, command: list[str], **more):
            order.append(command[command.index("--output-dir") + 1] if "--output-dir" in command else "score")
            return super().__call__(command, **more)

    execute(plan_of(tmp_path).steps, Noting(), minutes=10, costs=costs)
    names = [Path(name).name for name in order]
    assert names == ["Alone", "score", "score", "score", "score", "Student", "score", "score"]
