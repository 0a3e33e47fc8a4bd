"""An ablation: the same seeds for each variant, nothing run or recorded twice, a table with intervals."""

import json
import runpy
from pathlib import Path

import pytest
from in_process import here
from small_plan import Pretended

from compact_biomed.cli.ablation import main
from compact_biomed.cli.recipe import parsed_run
from compact_biomed.models.layer_maps import layer_map
from compact_biomed.reproduce.declaration import Ablation
from compact_biomed.reproduce.processes import USER, Ended
from compact_biomed.training.hyperparameters import as_record
from compact_biomed.training.recipe import load_recipe

TWO = Ablation(
    name="two",
    question="Which of the two?",
    variants={"biominilm_cl": {"first": (), "second way": ("--batch-size", "3")}},
)


def run(folder: Path, launch: Pretended, *flags: str) -> int:
    script = folder / "recipes" / "ablations" / "two.py"
    return main(TWO, str(script), ["--folder", str(folder / "runs"), *flags], start=launch)


def run_flags(*more: str) -> list[str]:
    return ["--", "--preset", "smoke", "--max-steps", "4", *more]


def records(folder: Path, flags: str = "preset-smoke-max_steps-4") -> list[dict]:
    return [json.loads(line) for line in (folder / "runs" / flags / "records.jsonl").read_text().splitlines()]


def test_variants_by_seeds(tmp_path: Path, capsys) -> None:
    launch = Pretended()
    assert run(tmp_path, launch, "--seeds", "1", "2", *run_flags()) == 0
    texts = [" ".join(command) for command in launch.commands]
    ways = [("--batch-size 3" in text, text.split("--seed ")[1][0]) for text in texts]
    assert ways == [(False, "1"), (True, "1"), (False, "2"), (True, "2")]
    assert all("biominilm_cl.py" in text and "--max-steps 4" in text for text in texts)
    assert "second way" in capsys.readouterr().out


def test_nothing_is_run_or_recorded_twice(tmp_path: Path) -> None:
    for _ in range(3):
        launch = Pretended()
        run(tmp_path, launch, "--seeds", "1", "2", *run_flags())
    assert launch.commands == []
    assert len(records(tmp_path)) == 4
    run(tmp_path, launch := Pretended(), "--seeds", "1", "2", "3", *run_flags())
    assert len(launch.commands) == 2 and len(records(tmp_path)) == 6


def test_other_flags_are_other_runs(tmp_path: Path) -> None:
    run(tmp_path, Pretended(), "--seeds", "1", *run_flags())
    run(tmp_path, launch := Pretended(), "--seeds", "1", *run_flags("--warmup-steps", "1"))
    assert len(launch.commands) == 2
    assert len(records(tmp_path, "preset-smoke-max_steps-4-warmup_steps-1")) == 2


def test_a_failure_is_named_and_the_others_run(tmp_path: Path, capsys) -> None:
    assert run(tmp_path, Pretended(fails=("second-way-1",)), "--seeds", "1", "2", *run_flags()) == 1
    assert "Failed runs: biominilm_cl, second way, seed 1." in capsys.readouterr().err
    assert len(records(tmp_path)) == 3


def test_ctrl_c_stops_all(tmp_path: Path) -> None:
    launch = Pretended(ends={"second-way-1": Ended(130, USER)})
    assert run(tmp_path, launch, "--seeds", "1", "2", *run_flags()) == 130
    assert len(launch.commands) == 2


def test_some_variants(tmp_path: Path) -> None:
    run(tmp_path, launch := Pretended(), "--only", "second way", "--seeds", "5", *run_flags())
    assert len(launch.commands) == 1 and "--batch-size" in launch.commands[0]


ABLATIONS = Path(__file__).parents[2] / "recipes" / "ablations"
DECLARED = sorted(path.stem for path in ABLATIONS.glob("*.py") if path.stem != "scoring_scale")


@pytest.mark.parametrize("name", DECLARED)
def test_every_recipe_accepts_the_flags_of_its_variants(name: str) -> None:
    """At the scale of the results: layers and terms exist, and no flag is without effect."""
    ablation = runpy.run_path(str(ABLATIONS / f"{name}.py"))["ABLATION"]
    assert ablation.name == name
    for recipe, variants in ablation.variants.items():
        trainings = []
        for flags in variants.values():
            run, _ = parsed_run(load_recipe(recipe), ["--preset", "mini", *flags])
            trainings.append(as_record(run.hyperparameters, run.arguments))
            if kind := getattr(run.hyperparameters, "layer_map", None):
                depth = 4 if recipe == "tinybiobert" else 3
                layer_map(kind, student_layers=depth, teacher_layers=6)
        assert all(trainings.count(training) == 1 for training in trainings), "two variants are the same"


@pytest.mark.slow
def test_a_real_one_at_the_smoke_preset(tmp_path: Path, capsys) -> None:
    script = ABLATIONS / "attention_scores.py"
    ablation = runpy.run_path(str(script))["ABLATION"]
    flags = ["--seeds", "1", "2", "--folder", str(tmp_path), "--", "--preset", "smoke", "--max-steps", "4"]
    assert main(ablation, str(script), flags, start=here) == 0
    text = capsys.readouterr().out
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| probabilities", "| raw scores"]
    assert rows[0].endswith("| held-out MLM loss | accuracy, % | KL to the teacher |")
    assert "(2)" in rows[2] and " to " in rows[3]
    # Both start alike and read the same text: what differs is learned.
    runs = [json.loads(line) for line in next(tmp_path.glob("*/records.jsonl")).read_text().splitlines()]
    assert {r["seed"]: r["heldout"]["after"]["documents"] for r in runs}.keys() == {1, 2}
    assert len({r["weights_sha256"] for r in runs}) == 4 and len({r["tokens"] for r in runs if r["seed"] == 1}) == 1
    assert len({r["hyperparameters"]["teacher_sha256"] for r in runs}) == 1
