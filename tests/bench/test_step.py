"""`bench step`: both sides compute the same, and the record has what was measured."""

import json
import operator
import sys

import pytest

from compact_biomed.bench import peak_memory, step
from compact_biomed.bench.step import StepBench, step_pair
from compact_biomed.cli import main


@pytest.mark.parametrize("recipe", ["biominilm_cl", "distilbiobert", "compactbiobert", "tinybiobert"])
def test_both_sides_have_the_same_loss_and_gradient(recipe: str) -> None:
    pair = step_pair(StepBench(recipe, preset="smoke", documents=4))
    differences = pair.differences()
    assert differences["loss"] < 1e-5 and differences["run"] < 1e-2
    assert differences.get("gradient", 0) < 1e-4
    published, ours = pair.step_published(), pair.step_ours()
    assert published > 0 and ours > 0


def test_flags_reach_the_step_and_the_record_is_appended(tmp_path, monkeypatch, capsys) -> None:
    memory = {"published": 4_000_000, "ours": 1_000_000}
    monkeypatch.setattr(step, "peak_memory", lambda work, bench, side: memory[side])
    records = tmp_path / "records.jsonl"
    flags = ["--recipe", "tinybiobert", "--preset", "smoke", "--documents", "4", "--fidelity", "published"]
    assert main(["bench", "step", *flags, "--rounds", "2", "--replicas", "1", "--records", str(records), "--json"]) == 0
    output = capsys.readouterr()
    record = json.loads(records.read_text())
    assert record == json.loads(output.out)
    assert (record["recipe"], record["documents"], record["replicas"]) == ("tinybiobert", 4, 1)
    assert record["peak_memory_ratio"] == 0.25 and len(record["ratios"]) == 2 and record["tokens_per_s"] > 0
    assert "ratio" in output.err and "matmul ceiling" in output.err


def test_peak_memory_is_that_of_a_new_process() -> None:
    assert "torch" in sys.modules  # which the new process does not import
    small, large = (peak_memory(operator.mul, b"x", n) for n in (1, 200_000_000))
    assert small < 100e6 and 190e6 < large - small < 210e6
