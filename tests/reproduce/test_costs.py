"""Costs: of the remaining work, at the rate of recorded runs where there are any."""

import json
import math
from pathlib import Path

import pytest
from small_plan import TEXT, Pretended, declared, paths_in

from compact_biomed.files import cache_folder
from compact_biomed.reproduce import costs as work
from compact_biomed.reproduce import plan
from compact_biomed.reproduce.costs import CostEstimator
from compact_biomed.reproduce.execute import execute
from compact_biomed.training.recipe import load_recipe

LENGTH = ("max_steps", "batch_size")
SHAPE = {"rate": 100.0, "flops": 6.0, "encoder_flops": 3.0, "length": 50}


@pytest.fixture(autouse=True)
def invented_shapes(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count the looks at shapes and tasks, whose numbers are invented."""
    looks = {"shape": 0, "task": 0}

    def of_shape(step) -> dict:
        looks["shape"] += 1
        return SHAPE

    def of_task(step, name, fold) -> dict:
        looks["task"] += 1
        return {"per_seed": 1000.0, "search": 3000.0}

    monkeypatch.delenv("COMPACT_BIOMED_DATA", raising=False)
    monkeypatch.setattr(work, "of_shape", of_shape)
    monkeypatch.setattr(work, "of_task", of_task)
    monkeypatch.setattr(work, "machine", lambda: "a machine")
    return looks


def costs(folder: Path, text: str = TEXT) -> dict[str, tuple[float, float, float, bool]]:
    made = plan.make_plan(declared(folder, text), paths_in(folder))
    remaining = CostEstimator(made.steps, folder / "costs.json").remaining(made.chosen)
    return {str(step): (cost.tokens, cost.flops, cost.seconds, cost.measured) for step, cost in remaining.items()}


def test_before_anything_is_done(tmp_path: Path, invented_shapes: dict[str, int]) -> None:
    found = costs(tmp_path)
    assert found["pretraining Teacher"] == (4 * 2 * 50, 2400.0, 4.0, False)
    # Of a student the probe includes the teacher, which fine-tuning does not: 200 tokens a second alone.
    assert found["evaluating Student on smoke, seed 1"] == (4000.0, 12000.0, 20.0, False)
    assert found["evaluating Student on smoke, seed 2"] == (1000.0, 3000.0, 5.0, False)  # settings are chosen once
    assert len(found) == 11
    costs(tmp_path)
    assert invented_shapes == {"shape": 3, "task": 1}  # kept in the file; a checkpoint has its model's shape


def test_start_weights_that_a_recipe_makes_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPACT_BIOMED_CACHE", str(tmp_path))
    tiny = '{ recipe = "biotinybert_cl", settings = { start = "recipe:tinybert_general", batch_size = 1 } }'
    text = TEXT.replace("\n[power]", f"Tiny = {tiny}\nOther = {tiny}\n\n[power]")
    own, start = 4 * 1 * 50, 50 * math.prod(load_recipe("tinybert_general").at("smoke")[x] for x in LENGTH)
    assert costs(tmp_path, text)["pretraining Tiny"][0] == own + start
    assert costs(tmp_path, text)["pretraining Other"][0] == own
    (kept := cache_folder() / "starts" / "tinybert_general-smoke-0123456789abcdef").mkdir(parents=True)
    (kept / "record.json").touch()
    assert costs(tmp_path, text)["pretraining Tiny"][0] == own


def test_recorded_runs_give_the_rate_and_what_is_done_costs_nothing(tmp_path: Path) -> None:
    steps = plan.make_plan(declared(tmp_path), paths_in(tmp_path)).steps
    execute(steps[:1], Pretended())
    record = tmp_path / "runs" / "Teacher" / "record.json"
    assert json.loads(record.read_text())["tokens"] == 320 and "pretraining Teacher" not in costs(tmp_path)
    assert costs(tmp_path)["pretraining Student"][0] == 4 * 2 * 40  # documents of the corpus, as recorded
    execute([step for step in steps if str(step) == "evaluating Teacher on smoke, seed 1"], Pretended())
    assert costs(tmp_path)["evaluating Teacher on smoke, seed 2"] == (1000.0, 3000.0, 10.0, True)


def test_a_checkpoint_is_counted(tmp_path: Path) -> None:
    (tmp_path / "runs" / "Teacher" / "checkpoint-3").mkdir(parents=True)
    (tmp_path / "runs" / "Teacher" / "checkpoint-1").mkdir()
    assert costs(tmp_path)["pretraining Teacher"][0] == 1 * 2 * 50
