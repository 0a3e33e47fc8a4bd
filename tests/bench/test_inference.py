"""`bench inference`: records of all variants, and the figures in them."""

import json

import pytest
from tiny_checkpoints import make_checkpoint

from compact_biomed import cli
from compact_biomed.bench import VARIANTS
from compact_biomed.bench.inference import percentile


def test_records_and_table_of_a_small_model(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = str(make_checkpoint(tmp_path / "tiny", "token"))
    records = tmp_path / "records.jsonl"
    flags = ["--lengths", "16", "--batches", "1", "2", "--threads", "1", "--rounds", "1", "--seconds", "0.01"]
    flags += ["--variants", "torch-bf16", "onnx-int8"]
    assert cli.main(["bench", "inference", "--models", f"tiny={model}", *flags, "--records", str(records)]) == 0
    found = {r["variant"]: r for r in map(json.loads, records.read_text().splitlines())}
    assert tuple(found) == ("torch-bf16", "onnx-int8") and set(found) < set(VARIANTS)
    for record in found.values():
        assert (record["model"], record["timed"]) == ("tiny", model)
        assert record["latency_ms"] <= record["latency_ms_p95"] and record["tokens_per_s"] > 0
        assert record["peak_memory_mb"] > 20 and record["best_batch"] in (1, 2)
    # An exported model needs no torch, and is not charged for it.
    assert found["onnx-int8"]["peak_memory_mb"] < 0.5 * found["torch-bf16"]["peak_memory_mb"]
    assert found["torch-bf16"]["disk_bytes"] == (tmp_path / "tiny" / "model.safetensors").stat().st_size
    # 2 layers of 4 * 16 * 16 + 2 * 16 * 32 weights, and the classifier's 16 * 5: 2 operations each; and attention.
    assert found["torch-bf16"]["flops"] == 16 * (2 * (2 * (4 * 256 + 2 * 512) + 80) + 4 * 16 * 16 * 2)
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 4 and all(f" {name} " in "".join(table) for name in found)


@pytest.mark.parametrize(("share", "value"), [(0.95, 19), (1.0, 20), (0.0, 1), (0.5, 10)])
def test_percentiles_by_nearest_rank(share: float, value: int) -> None:
    assert percentile(list(range(20, 0, -1)), share) == value


def test_an_architecture_that_is_not_known(capsys) -> None:
    assert cli.main(["bench", "inference", "--models", "paper:nothing"]) == 2
    assert "no such architecture" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--threads", "--batches", "--lengths", "--rounds"])
def test_counts_are_at_least_one(flag: str, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["bench", "inference", "--models", "mini:tinybiobert", flag, "0"])
    assert f"{flag}: a whole number above 0" in capsys.readouterr().err


def test_inputs_longer_than_the_model_reads(tmp_path, capsys) -> None:
    model = str(make_checkpoint(tmp_path / "tiny", "token"))
    flags = ["--variants", "torch-fp32", "--lengths", "16", "100000"]
    assert cli.main(["bench", "inference", "--models", model, *flags]) == 2
    assert "tokens at most" in capsys.readouterr().err
