"""`bench gpu` on a CPU with small models: the same code, its checks, its budget and its records."""

import copy
import json

import pytest
import torch

from compact_biomed.bench import gpu, gpu_steps
from compact_biomed.bench.gpu import GpuBench, all_passed, measure_gpu
from compact_biomed.bench.gpu_steps import GpuRecipe
from compact_biomed.bench.packed import PackedStep
from compact_biomed.bench.tuned import TunedStep
from compact_biomed.bench.workload import perturb, random_batch, random_masked_lm, relative_difference
from compact_biomed.cli import main
from compact_biomed.models.architectures import ARCHITECTURES
from compact_biomed.report.render import markdown
from compact_biomed.report.speed import gpu_table


@pytest.fixture
def compiled_parts(monkeypatch):
    """The functions that are given to torch.compile, which leaves them as they are: compiling takes seconds."""
    parts = []

    def compile(function, **options):
        parts.append(type(function.__self__).__name__)
        return function

    monkeypatch.setattr(gpu_steps.torch, "compile", compile)
    return parts


@pytest.fixture(autouse=True)
def new_process(monkeypatch) -> None:
    """The command's time counts from the start of the process: here, one that has run other tests for minutes."""
    monkeypatch.setattr(gpu, "seconds_since_start", lambda: 0.0)


def test_all_modes_run_and_each_result_is_kept_at_once(tmp_path, capsys, compiled_parts) -> None:
    records = tmp_path / "records.jsonl"
    flags = ["--device", "cpu", "--documents", "3", "--recipes", "biomobilebert_cl", "compactbiobert"]
    assert main(["bench", "gpu", *flags, "--records", str(records)]) == 0
    kept = [json.loads(line) for line in records.read_text().splitlines()]
    order = [(record["recipe"], record["mode"]) for record in kept]
    assert order == [
        *(("biomobilebert_cl", "trainer"), ("biomobilebert_cl", "tuned")),
        *(("compactbiobert", "trainer"), ("compactbiobert", "tuned")),
        *(("biomobilebert_cl", "plain"), ("compactbiobert", "plain")),
        *(("biomobilebert_cl", "compiled"), ("compactbiobert", "compiled")),
    ]
    for record in kept:
        assert record["error"] is None and record["tokens_per_s"] > 0 and record["peak_memory_mb"] > 0
        assert record["paper_hours"] is None and record["paper_steps"] in (100_000, 200_000)
        assert ("profile" in record) == (record["mode"] == "tuned")
        checks = record["checks"]
        assert set(checks) == ({"float32", "bfloat16"} if record["mode"] in ("trainer", "tuned") else set())
        assert all(check["passed"] for check in checks.values())
    # Layers whose maps are compared: the student's two, and two of the teacher's four.
    parts = ["BertSelfOutput", "BertIntermediate", "BertOutput"]
    assert compiled_parts == ["MobileBertLayer"] * 2 + parts * 2 + ["BertLayer", *parts] * 2
    table = capsys.readouterr().out
    assert "| `biomobilebert_cl` | tuned |" in table and "in bfloat16 |" in table


def test_unpadded_documents_give_the_same_loss_and_gradient() -> None:
    batch = random_batch(7, 997, longest=40)
    for model in ("biomobilebert", "biodistilbert"):
        weights = random_masked_lm(ARCHITECTURES[model]["smoke"].config(997), "sdpa")
        perturb(weights)
        padded, packed = TunedStep(weights), PackedStep(copy.deepcopy(weights), tokens=100)
        losses, gradients = [], []
        for step in (padded, packed):
            step.trained.eval()
            losses.append(step.loss(batch, backward=True))
            gradients.append({name: parameter.grad for name, parameter in step.trained.named_parameters()})
        assert losses[0] == pytest.approx(losses[1], rel=1e-6) and relative_difference(*gradients) < 1e-5
        parts = packed.parts(batch)
        shapes = {(part["input_ids"].shape, part["starts"].shape, part["longest"]) for part in parts}
        assert len(parts) == 3 and len(shapes) == 1  # of one shape: compiled once
        assert sum(int(part["attention_mask"].sum()) for part in parts) == int(batch["attention_mask"].sum())
        assert all(int(part["starts"].diff().max()) <= part["longest"] for part in parts)


def test_a_mode_that_differs_from_the_cpu_or_fails_is_reported(monkeypatch, compiled_parts, capsys) -> None:
    bench = GpuBench(device="cpu", scale="smoke", documents=2, recipes=("biominilm_cl",), seconds=0.0)
    plain = GpuRecipe._gradients
    step = GpuRecipe.step

    def wrong(self, taken, device):
        loss, gradients = plain(self, taken, device)
        return loss * (1.01 if isinstance(taken, TunedStep) and taken.dtype == torch.float32 else 1), gradients

    def failing(self, mode, dtype, **options):
        if mode == "plain" or (mode == "compiled" and self.packs):
            raise RuntimeError("out of\nmemory")
        return step(self, mode, dtype, **options)

    monkeypatch.setattr(GpuRecipe, "_gradients", wrong)
    monkeypatch.setattr(GpuRecipe, "step", failing)
    records = {record["mode"]: record for record in measure_gpu(bench, lambda record: None)}
    assert list(records) == ["trainer", "tuned", "plain", "compiled"] and not all_passed(list(records.values()))
    assert all(check["passed"] for check in records["trainer"]["checks"].values())
    assert not records["tuned"]["checks"]["float32"]["passed"]
    assert records["plain"]["error"] == "RuntimeError: out of memory" and records["plain"]["tokens_per_s"] is None
    # Without flash attention for unpadded documents, padded ones are measured.
    assert "unpadded_error" in records["compiled"] and records["compiled"]["settings"]["attention"] == "sdpa"
    table = markdown(gpu_table(records.values()))
    assert "failed: RuntimeError" in table and "(TOO FAR)" in table
    assert "DIFFERS FROM THE CPU in float32" in capsys.readouterr().err


def test_the_budget_is_kept_and_the_rest_is_named(monkeypatch, capsys) -> None:
    bench = GpuBench(device="cpu", scale="smoke", documents=2, recipes=("biominilm_cl",), seconds=0.0, minutes=1)
    monkeypatch.setattr(gpu, "seconds_since_start", lambda: 60 - 10 - 0.6)

    def endless(*arguments) -> None:
        while True:
            pass

    monkeypatch.setattr(gpu, "_rates", endless)
    assert measure_gpu(bench, lambda record: None) == []
    assert "Not measured: biominilm_cl trainer, biominilm_cl tuned, biominilm_cl plain" in capsys.readouterr().err
    monkeypatch.setattr(gpu, "seconds_since_start", lambda: 60.0)
    assert measure_gpu(bench, lambda record: None) == []


def test_without_a_gpu_one_line_says_so(capsys, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["bench", "gpu"]) == 2
    assert (
        capsys.readouterr().err == "error: bench gpu: no GPU here (--device cpu tests the command with small models)\n"
    )


def test_hours_and_shares_follow_from_the_schedule() -> None:
    recipe = GpuRecipe("tinybiobert", scale="smoke", documents=4, device="cpu")
    recipe.scale = "paper"
    rates = gpu._rates(recipe, {"step_seconds": 0.5}, {"peak_tflops": 989, "matmul_ceiling_tflops": 700.0})
    assert rates["tokens_per_s"] == pytest.approx(recipe.tokens / 0.5, abs=0.1)
    assert rates["paper_hours"] == pytest.approx(100_000 * 192 / 4 * 0.5 / 3600, abs=0.01)
    assert rates["tflops"] == pytest.approx(recipe.tokens / 0.5 * recipe.flops_per_token() / 1e12, abs=1e-4)


def test_random_documents_are_as_long_as_abstracts() -> None:
    lengths = random_batch(192, 30_522)["attention_mask"].sum(1)
    assert 215 < float(lengths.float().mean()) < 225 and int(lengths.max()) == 256 and int(lengths.min()) < 60
