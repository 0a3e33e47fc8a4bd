"""`recipes/pruning.py`: a model kept by evaluate, pruned and fine-tuned again; records, folders, bad input."""

import json
import runpy
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_runs import make_checkpoint, make_ner_set
from tiny_checkpoints import make_checkpoint as make_task_checkpoint

from compact_biomed import cli
from compact_biomed.cli.prune import main
from compact_biomed.compression import to_onnx
from compact_biomed.records.lines import read_lines, score_lines
from compact_biomed.report.measured import measure

FAST = ("--precision", "fp32", "--replicas", "1")
QUICK = ("--learning-rate", "0.01", "--epochs", "2")
RECIPE = Path(__file__).parents[2] / "recipes" / "pruning.py"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a set (fevers), a checkpoint (small), and it fine-tuned with two seeds (kept, base.jsonl)."""
    folder = tmp_path_factory.mktemp("pruning")
    make_ner_set(folder / "fevers", n=12)
    make_checkpoint(folder / "small", num_attention_heads=4)
    records = ["--records", str(folder / "base.jsonl"), "--save", str(folder / "kept"), "--seeds", "1,2"]
    flags = ["--model", str(folder / "small"), "--ner-dir", str(folder / "fevers"), *records, *QUICK, *FAST]
    assert cli.main(["evaluate", *flags]) == 0
    return folder


def prune(place: Path, to: Path, *flags: str, models=("small-fevers-seed1",)) -> int:
    given = [] if "--start" in flags else ["--model", *(str(place / "kept" / name) for name in models)]
    where = ["--ner-dir", str(place / "fevers"), "--records", str(to / "r.jsonl"), "--save", str(to / "kept")]
    return main("about", [*given, *where, *flags, *FAST])


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def opened(folder: Path):
    from transformers import AutoModelForTokenClassification

    return AutoModelForTokenClassification.from_pretrained(folder).eval()


def test_three_ways_and_the_control(place: Path, tmp_path: Path, capsys) -> None:
    models = ("small-fevers-seed1", "small-fevers-seed2")
    assert prune(place, tmp_path, "--share", "0", "0.5", models=models) == 0
    said = capsys.readouterr().err
    assert "2 fine-tuned model(s), each pruned in 4 way(s)" in said and "Next: compact-biomed export" in said
    found = read(tmp_path / "r.jsonl")
    names = ["small-again", "small-weights50", "small-heads50-taylor", "small-units50-taylor"]
    assert [(r["model"]["name"], r["seed"]) for r in found] == [(n, seed) for seed in (1, 2) for n in names]
    base = read(place / "base.jsonl")
    for record in found:
        mine, told = record["model"], record["model"]["pruning"]
        source = base[record["seed"] - 1]
        # The pipeline starts where the source started, so that its seeds stand in one row.
        assert mine["weights_sha256"] == source["model"]["weights_sha256"]
        assert told["source"] == f"small-fevers-seed{record['seed']}" and told["source_score"] == source["score"]
        assert len(told["source_sha256"]) == 64 and told["source_sha256"] != mine["weights_sha256"]
        assert record["protocol"]["overrides"] == source["protocol"]["overrides"]
        kept = tmp_path / "kept" / f"{mine['name']}-fevers-seed{record['seed']}"
        model = opened(kept)
        assert sum(p.numel() for p in model.parameters()) == told["after"]["parameters"]
        assert json.loads((kept / "record.json").read_text())["run"] == record["run"]
    again, weights, heads, units = (record["model"]["pruning"] for record in found[:4])
    assert again["before"] == again["after"] and again["removed"] == "nothing"
    matrices = 2 * (4 * 16 * 16 + 2 * 16 * 32)
    assert weights["before"]["parameters"] - weights["after"]["nonzero"] >= matrices // 2
    assert sum(heads["heads"]) == 4 and heads["importance"] == "taylor" and heads["examples"] == 512
    assert units["units"] == [16, 16] and units["after"]["parameters"] < units["before"]["parameters"]
    # One table holds the model, the control and the pruned ones.
    measured = measure(score_lines(read_lines([place / "base.jsonl", tmp_path / "r.jsonl"])))
    assert {(m.model, tuple(key.seed for key in m.seeds)) for m in measured if m.column.metric == "f1"} == {
        (name, (1, 2)) for name in ["small", *names]
    }
    card = (tmp_path / "kept" / "small-heads50-taylor-fevers-seed1" / "README.md").read_text()
    assert "`recipes/pruning.py`, 50% of heads of small-fevers-seed1 removed" in card
    # The same command does nothing again.
    assert prune(place, tmp_path, "--share", "0", "0.5", models=models) == 0
    assert capsys.readouterr().err.count("recorded already") == 8 and read(tmp_path / "r.jsonl") == found


def test_what_is_gone_stays_gone_and_the_rest_learns(place: Path, tmp_path: Path) -> None:
    assert prune(place, tmp_path, "--share", "0.5", "--remove", "weights", "heads", "--importance", "magnitude") == 0
    before = load_file(place / "kept" / "small-fevers-seed1" / "model.safetensors")
    after = load_file(tmp_path / "kept" / "small-weights50-fevers-seed1" / "model.safetensors")
    for name, weight in after.items():
        if ".layer." in name and weight.dim() == 2:
            assert int((weight == 0).sum()) == weight.numel() // 2
            least = before[name].abs().flatten().sort().values[: weight.numel() // 2]
            assert torch.equal(before[name][weight == 0].abs().sort().values, least)
        moved = weight[weight != 0] != before[name][weight != 0]
        assert moved.float().mean() > 0.2 or not moved.numel() or "position" in name
    heads = load_file(tmp_path / "kept" / "small-heads50-fevers-seed1" / "model.safetensors")
    told = read(tmp_path / "r.jsonl")[1]["model"]["pruning"]["heads"]
    for i, alive in enumerate(told):
        output = heads[f"bert.encoder.layer.{i}.attention.output.dense.weight"].view(16, 4, 4)
        assert int((output.abs().amax((0, 2)) > 0).sum()) == alive


def test_both_in_one(place: Path, tmp_path: Path, capsys) -> None:
    flags = ["--start", str(place / "small"), "--seeds", "3", *QUICK, "--remove", "units"]
    assert prune(place, tmp_path, *flags, "--dry-run") == 0
    assert "small on fevers; seeds 3" in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert prune(place, tmp_path, *flags) == 0
    first, second = read(tmp_path / "r.jsonl")
    assert (first["model"]["name"], second["model"]["name"]) == ("small", "small-units50-taylor")
    assert first["seed"] == second["seed"] == 3
    assert prune(place, tmp_path, *flags) == 0
    shutil.rmtree(tmp_path / "kept" / "small-fevers-seed3")
    assert prune(place, tmp_path, *flags) == 1
    assert "recorded, but not saved here" in capsys.readouterr().err


def test_export_takes_the_heads_out(place: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(to_onnx, "EXPORTERS", {"TorchScript": False})  # the other takes seconds
    assert prune(place, tmp_path, "--remove", "heads") == 0
    model = str(tmp_path / "kept" / "small-heads50-taylor-fevers-seed1")
    assert cli.main(["export", "--model", model, "--output", str(tmp_path / "onnx")]) == 0
    assert "Removed 4 pruned attention heads, whose weights are zeros" in capsys.readouterr().err
    manifest = json.loads((tmp_path / "onnx" / "manifest.json").read_text())
    (record,) = read(tmp_path / "r.jsonl")
    assert manifest["removed_heads"] == 4
    per_head = 3 * (4 * 16 + 4) + 16 * 4
    assert manifest["parameters"] == record["model"]["pruning"]["after"]["parameters"] - 4 * per_head


@pytest.mark.parametrize(
    ("flags", "said", "status"),
    [
        (("--share", "0.99", "--remove", "heads"), "0.99 of 8 heads leaves 0, and 2 have to stay (at most 0.750)", 2),
        (("--share", "0.01", "--remove", "units"), "0.01 of 32 feed-forward units is none", 2),
        (("--remove", "weights", "--importance", "taylor"), "--importance: weights are removed by magnitude", 2),
        (("--remove", "heads", "--scope", "model"), "--scope: no weights are removed", 2),
        (("--epochs", "3"), "--epochs: the model's record already defines this", 2),
        (("--shar", "0.5"), "did you mean --share?", 2),
        (("--model", "no/such"), "no/such: no such folder", 1),
        (("--ner-dir", "no/such"), "no/such: no such folder", 1),
        (("--start", "small", "--task", "GAD"), "exactly one task is needed", 2),
    ],
)
def test_what_cannot_be_done_is_one_line(place: Path, flags, said: str, status: int, tmp_path: Path, capsys) -> None:
    assert prune(place, tmp_path, *flags) == status
    error = capsys.readouterr().err.splitlines()[-1]
    assert said in error and error.startswith("error: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("share", ["1", "-0.1", "nan", "half"])
def test_shares_from_0_to_below_1(place: Path, tmp_path: Path, share: str, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        prune(place, tmp_path, f"--share={share}")
    assert "share" in capsys.readouterr().err


def test_folders_that_cannot_be_pruned(place: Path, tmp_path: Path, capsys) -> None:
    assert main("about", ["--model", str(place / "small")]) == 1
    assert f"{place / 'small'}: no record.json of a run in this folder" in capsys.readouterr().err
    odd = shutil.copytree(place / "kept" / "small-fevers-seed1", tmp_path / "odd")
    record = json.loads((odd / "record.json").read_text())
    (odd / "record.json").write_text(json.dumps(record | {"task": {"name": "GAD"}}))
    assert prune(place, tmp_path, "--model", str(odd)) == 1
    assert "the model was fine-tuned on GAD" in capsys.readouterr().err
    (odd / "record.json").write_text(json.dumps(record))
    config = json.loads((odd / "config.json").read_text())
    config["id2label"]["0"], config["label2id"] = "X", {"X": 0, "I": 1, "O": 2}
    (odd / "config.json").write_text(json.dumps(config))
    assert prune(place, tmp_path, "--model", str(odd), "--remove", "units") == 1
    assert "its head (token: X, I, O) is not that of fevers (token: B, I, O)" in capsys.readouterr().err


def test_the_recipe_says_its_method(capsys) -> None:
    recipe = runpy.run_path(str(RECIPE))
    with pytest.raises(SystemExit, match="0"):
        recipe["main"](recipe["__doc__"], ["--help"])
    said = capsys.readouterr().out
    assert "Michel" in said and "--importance" in said


def test_a_distilbert(place: Path, tmp_path: Path) -> None:
    """Its layers and its width have other names; the record is lent from the other model."""
    folder = make_task_checkpoint(tmp_path / "distil", "token", "distilbert", labels=["B", "I", "O"])
    shutil.copy(place / "kept" / "small-fevers-seed1" / "record.json", folder)
    assert prune(place, tmp_path, "--model", str(folder), "--share", "0.25") == 0
    for way in ("weights25", "heads25-taylor", "units25-taylor"):
        model = opened(tmp_path / "kept" / f"small-{way}-fevers-seed1")
        assert model.config.hidden_dim == (24 if "units" in way else 32)
        assert torch.isfinite(model(input_ids=torch.arange(5, 15)[None]).logits).all()
    weights = load_file(tmp_path / "kept" / "small-weights25-fevers-seed1" / "model.safetensors")
    assert all(int((w == 0).sum()) == w.numel() // 4 for n, w in weights.items() if ".layer." in n and w.dim() == 2)
