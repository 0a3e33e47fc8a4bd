"""`bench profile`: every operation has one kind of work, and the kinds add up to the time of the step."""

import json
import time

import pytest
import torch

from compact_biomed.bench import profile
from compact_biomed.bench.profile import KINDS, PRODUCTS, kind_of, profile_step
from compact_biomed.cli import main
from compact_biomed.engine import compiled

CASES = (
    (["aten::addmm", "aten::linear"], "matrix products"),
    (["aten::mm", "AddmmBackward0"], "matrix products"),
    (["aten::bmm", "aten::matmul"], "attention"),
    (["aten::_scaled_dot_product_flash_attention_for_cpu"], "attention"),
    (["aten::exp_", "_Attention"], "attention"),
    (["aten::mul", "_BucketedAttentionBackward"], "attention"),
    (["loop attention.forward", "_DocumentAttention"], "attention"),
    (["aten::_softmax", "_CrossEntropy"], "element-wise"),
    (["aten::gelu_backward", "GeluBackward0"], "element-wise"),
    (["loop rowwise.gelu_backward", "_FeedForwardBackward"], "element-wise"),
    (["loop rowwise.norm_forward", "_AddNorm"], "normalization"),
    (["aten::native_layer_norm"], "normalization"),
    (["aten::copy_", "aten::_to_copy", "aten::to"], "copies and lookups"),
    (["aten::mul_", "Optimizer.step#AdamW.step", "bench: optimizer"], "optimizer"),
    (["aten::cat", "bench: data"], "data"),
    (["triton_poi_fused_add_gelu"], "element-wise"),
    (["aten::view"], "launch and overhead"),
    (["_FeedForward"], "launch and overhead"),
    (["autograd::engine::evaluate_function: AddmmBackward0"], "launch and overhead"),
)


@pytest.mark.parametrize("names, kind", CASES)
def test_an_operation_has_one_kind(names, kind) -> None:
    assert kind_of(names) == kind


def test_the_kinds_add_up_and_products_are_counted_exactly() -> None:
    a, b = torch.randn(96, 64), torch.randn(64, 32)

    def step() -> None:
        for _ in range(10):
            torch.mm(a, b)
        torch.tanh(a)
        time.sleep(0.02)  # overhead: no operation

    result = profile_step(step, rounds=2)
    assert tuple(result.seconds) == KINDS
    assert sum(result.seconds.values()) == pytest.approx(result.wall)
    assert result.product_flops == 10 * 2 * 96 * 64 * 32 and result.product_rate > 0
    assert 0.02 < result.seconds["launch and overhead"] < result.wall
    assert result.seconds[PRODUCTS] > 0 and result.seconds["attention"] == 0


def test_a_profile_shows_both_engines_and_the_ceiling(tmp_path, capsys) -> None:
    records = tmp_path / "records.jsonl"
    flags = ["--recipe", "compactbiobert", "--preset", "smoke", "--documents", "4", "--rounds", "1", "--replicas", "2"]
    plain = compiled.call
    assert main(["bench", "profile", *flags, "--peer", "--records", str(records)]) == 0
    assert compiled.call is plain
    output = capsys.readouterr()
    record = json.loads(records.read_text())
    assert set(record["profiles"]) == {"ours", "tuned"} and record["tuned"]["documents"] == 16
    for result in record["profiles"].values():
        assert sum(result["seconds"].values()) == pytest.approx(result["wall_seconds"], rel=1e-3)
        # Threads side by side count by their share, or the kinds would take more than the step.
        assert result["seconds"]["launch and overhead"] > 0 and result["product_gflops"] > 0
        assert min(result["seconds"][kind] for kind in KINDS) > 0
    assert "| matrix products |" in output.out and "of the ceiling" in output.out
    assert "aten::" in output.err


def test_compiled_loops_are_seen(monkeypatch) -> None:
    monkeypatch.setattr(compiled, "call", lambda module, function, *arguments: time.sleep(0.01))
    result = profile_step(lambda: compiled.call("rowwise", "norm_forward"))
    assert result.seconds["normalization"] > 0.008
    assert any(name.startswith("loop rowwise.norm_forward") for name, _ in result.operations)
    assert profile.compiled.call("a", "b") is None
