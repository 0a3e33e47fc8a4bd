"""The whole reproduction at the smoke preset: planned, run in slices, killed, resumed; nothing is done twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from in_process import here

from compact_biomed.cli.reproduce import main

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(autouse=True)
def no_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMPACT_BIOMED_DATA", raising=False)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.slow
def test_the_whole(tmp_path: Path, capsys) -> None:
    flags = ["--preset", "smoke", "--folder", str(tmp_path / "all"), "--only", "pretraining,evaluation"]
    results = tmp_path / "all" / "results"
    assert main(RECIPES, flags, start=here) == 0, capsys.readouterr().err
    trained = {record["model"]: record for record in lines(results / "smoke" / "pretraining.jsonl")}
    assert list(trained) == ["BioMiniLM", "BioTinyBERT", "DistilBioBERT", "BioTinyBERT-start"]
    start, tiny = trained["BioTinyBERT-start"], trained["BioTinyBERT"]
    assert start["tokens"] == 0 and start["heldout"]["after"]["loss"] == tiny["heldout"]["before"]["loss"]
    assert trained["BioMiniLM"]["tokens"] == trained["DistilBioBERT"]["tokens"] == tiny["tokens"] > 0
    assert trained["DistilBioBERT"]["hyperparameters"]["teacher_sha256"] == trained["BioMiniLM"]["weights_sha256"]
    scored = lines(results / "smoke" / "evaluation.jsonl")
    assert {(r["model"]["name"], r["seed"]) for r in scored} == {(name, seed) for name in trained for seed in (1, 2)}
    assert {r["model"]["training"]["seed"] for r in scored} == {42}
    assert {r["model"]["weights_sha256"] for r in scored} == {r["weights_sha256"] for r in trained.values()}
    assert {"claims.md", "scores.md", "pretraining.md"} <= {path.name for path in (results / "smoke").iterdir()}
    # Again: nothing is left, nothing changes.
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    assert main(RECIPES, flags, start=here) == 0
    assert "12 of 12 steps are done" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_killed_and_resumed(tmp_path: Path, capsys) -> None:
    """A real kill -9 while a training runs as a process of its own."""
    folder = tmp_path / "all"
    flags = ["--preset", "smoke", "--folder", str(folder), "--only", "BioTinyBERT,pretraining"]
    command = [sys.executable, str(RECIPES / "reproduce.py"), *flags]
    process = subprocess.Popen(command, env=dict(os.environ), stderr=subprocess.DEVNULL)
    end = time.monotonic() + 200
    while not list(folder.glob("BioTinyBERT/checkpoint-*")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # The step that was running saves and ends; until then the folder is locked.
    while (code := main(RECIPES, flags, start=here)) == 1 and "another reproduction" in capsys.readouterr().err:
        assert time.monotonic() < end
        time.sleep(0.2)
    assert code == 0, capsys.readouterr().err
    (record,) = lines(folder / "results" / "smoke" / "pretraining.jsonl")
    assert record["model"] == "BioTinyBERT" and record["from"]["command"].startswith("python ")
    assert "biotinybert_cl.py --preset smoke --max-steps 6" in record["from"]["command"]


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(RECIPES, ["--preset", "smoke", "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "Reproduction, preset smoke: 13 steps" in said and "compressing BioTinyBERT for smoke, seed 1" in said
    assert "BioMiniLM: biominilm_cl" in said and "DistilBioBERT, seed 2: smoke" in said
    assert "FLOPs" in said and "0 done, 13 left" in said and "detect a difference of 0.5 points" in said
    assert not list(tmp_path.iterdir())


def test_claims_without_records(tmp_path: Path) -> None:
    assert main(RECIPES, ["--preset", "smoke", "--claims", "--folder", str(tmp_path / "none")]) == 0
    text = (tmp_path / "none" / "results" / "smoke" / "claims.md").read_text()
    assert "holds here**" not in text and text.count("**cannot be tested here**") > 10


def test_one_thing_in_place_of_the_run(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(RECIPES, ["--preset", "smoke", "--dry-run", "--release", str(tmp_path / "out")])


def test_the_release_of_a_reproduction_that_is_not_there(tmp_path: Path, capsys) -> None:
    flags = ["--preset", "smoke", "--folder", str(tmp_path / "none"), "--release", str(tmp_path / "out")]
    assert main(RECIPES, flags) == 1
    assert (
        "BioMiniLM, BioTinyBERT, DistilBioBERT: not trained yet (run the reproduction first)" in capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", ["reproduce.py", "ablations/temperature.py", "ablations/scoring_scale.py"])
def test_help_imports_nothing_heavy(script: str) -> None:
    command = [sys.executable, "-X", "importtime", str(RECIPES / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: ")
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "argparse" in imported and not imported & {"torch", "transformers", "numpy", "scipy"}
