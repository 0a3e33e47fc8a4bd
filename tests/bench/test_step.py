"""`bench step`: both sides compute the same, and the record has what was measured."""

import json
import operator
import sys

import pytest
import torch

from compact_biomed.bench import peak_memory
from compact_biomed.bench import step as step_module
from compact_biomed.bench.ours import OurStep
from compact_biomed.bench.sides import StepBench, gradient_difference, step_sides
from compact_biomed.cli import main


@pytest.mark.parametrize(
    "recipe", ["biominilm_cl", "biomobilebert_cl", "distilbiobert", "compactbiobert", "tinybiobert"]
)
def test_all_sides_have_the_same_loss_and_gradient(recipe: str) -> None:
    step = step_sides(StepBench(recipe, preset="smoke", documents=4, peer_documents=3))
    differences = step.differences()
    assert differences["loss"] < 1e-5 and differences["run"] < 1e-2
    assert differences.get("gradient", 0) < 1e-4
    assert differences["tuned"] < 1e-6 and differences["tuned_run"] < 1e-2
    losses = [take() for take in step.steps.values()]
    assert list(step.steps) == ["published", "tuned", "ours"] and min(losses) > 0
    # In train mode too: tuned transformers compares maps before dropout, as the corrected loss does.
    assert losses[1] == pytest.approx(losses[2], rel=0.05)

    ours, tuned = step.build_ours(torch.float32).eval(), step.build_tuned(torch.float32)
    OurStep(ours, tokens=64).loss(step.batch, backward=True)
    tuned.trained.eval()
    parts = tuned.parts(step.batch)
    assert [len(part["labels"]) for part in parts] == [3, 1]
    assert sum(int(part["attention_mask"].sum()) for part in parts) == step.tokens
    tuned.loss(step.batch, backward=True)
    assert gradient_difference(ours, dict(tuned.trained.named_parameters())) < 1e-5


def test_only_compared_layers_return_maps() -> None:
    step = step_sides(StepBench("tinybiobert", preset="smoke", documents=2), ("tuned",)).tuned
    kinds = [block.attention.self.config._attn_implementation for block in step.teacher.base_model.encoder.layer]
    assert kinds == ["sdpa", "maps_before_dropout"] * 2
    assert "eager in the layers" in step.settings.described()


def test_flags_reach_the_step_and_the_record_is_appended(tmp_path, monkeypatch, capsys) -> None:
    memory = {"published": 4_000_000, "tuned": 2_000_000, "ours": 1_000_000}
    monkeypatch.setattr(step_module, "peak_memory", lambda work, bench, side: memory[side])
    records = tmp_path / "records.jsonl"
    flags = ["--recipe", "tinybiobert", "--preset", "smoke", "--documents", "4", "--fidelity", "published"]
    flags += ["--replicas", "1", "--json"]
    assert main(["bench", "step", *flags, "--rounds", "2", "--records", str(records)]) == 0
    output = capsys.readouterr()
    record = json.loads(records.read_text())
    assert record == json.loads(output.out)
    assert (record["recipe"], record["documents"], record["replicas"]) == ("tinybiobert", 4, 1)
    assert record["peak_memory_ratio"] == 0.25 and record["peak_memory_ratio_to_tuned"] == 0.5
    assert len(record["ratios"]) == len(record["ratios_to_tuned"]) == 2 and record["tokens_per_s"] > 0
    assert record["ratio_to_tuned"] > 0 and record["loss_difference_tuned_fp32"] < 1e-6
    assert record["tuned"]["documents"] == 4 and record["tuned"]["precision"] == record["precision"]
    for words in ("ratio to tuned", "ratio to published", "AdamW, fused", "matmul ceiling"):
        assert words in output.err

    assert main(["bench", "step", *flags, "--rounds", "1", "--against", "tuned"]) == 0
    assert "ratio" not in json.loads(capsys.readouterr().out)
    assert main(["bench", "step", *flags, "--against", "tuned", "--records", str(records)]) == 2
    assert len(records.read_text().splitlines()) == 1 and "--against" in capsys.readouterr().err


def test_peak_memory_is_that_of_a_new_process() -> None:
    assert "torch" in sys.modules  # which the new process does not import
    small, large = (peak_memory(operator.mul, b"x", n) for n in (1, 200_000_000))
    assert small < 100e6 and 190e6 < large - small < 210e6
