"""Runs in several processes are the runs of one process, and what ends a process loses nothing that is recorded."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import make_checkpoint, make_ner_set

from compact_biomed import cli, finetune
from compact_biomed.errors import UsageError

QUICK = ("--precision", "fp32", "--replicas", "1", "--learning-rate", "1e-2", "--epochs", "2")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("parallel")
    make_checkpoint(folder / "small")
    make_ner_set(folder / "fevers")
    return folder


def flags_of(place: Path, records: Path, *more: str) -> list[str]:
    start = ["evaluate", "--model", str(place / "small"), "--ner-dir", str(place / "fevers"), "--records", str(records)]
    return [*start, *QUICK, *more]


def results(records: Path) -> dict[str, tuple]:
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    assert len({line["run"] for line in lines}) == len(lines)
    return {line["run"]: (line["seed"], line["score"], line["metrics"], line["counts"]) for line in lines}


def test_the_same_records_as_of_one_process(place: Path, tmp_path: Path, capfd) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    shutil.copytree(place / "small", tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"")
    assert cli.main(flags_of(place, one, "--seeds", "1,2,3")) == 0
    capfd.readouterr()
    models = {"small": place / "small", "broken": tmp_path / "broken"}
    options = {"ner_dirs": place / "fevers", "learning_rate": 1e-2, "epochs": 2, "precision": "fp32", "replicas": 1}
    result = finetune(models, seeds=[1, 2, 3], records=two, save=tmp_path / "kept", jobs=2, **options)
    assert results(one) == results(two)
    assert sorted(record["seed"] for record in result.records) == [1, 2, 3] and not result.remaining
    assert sorted(result.failed) == [f"broken on fevers, seed {seed}" for seed in (1, 2, 3)]
    assert sorted(folder.name for folder in result.saved) == [f"small-fevers-seed{seed}" for seed in (1, 2, 3)]
    said = capfd.readouterr().err
    assert "2 runs at the same time" in said and said.count("\nScores on test in percent") == 1
    begun = re.findall(r"^\[[12]\] \[(\d)/6\] (\w+) on fevers, seed (\d)", said, re.MULTILINE)
    both = [(str(2 * seed - 1 + i), model, str(seed)) for seed in (1, 2, 3) for i, model in enumerate(models)]
    assert sorted(begun) == both  # none is tried twice, those that fail neither
    # What is recorded starts no process; a dry run starts none either.
    assert cli.main(flags_of(place, two, "--seeds", "1,2,3,4,5", "--jobs", "2", "--dry-run")) == 0
    assert cli.main(flags_of(place, two, "--seeds", "1,2,3", "--jobs", "2")) == 0
    said = capfd.readouterr().err
    assert "3 of 3 runs are recorded already" in said and "[1]" not in said and said.count("at the same time") == 1
    with pytest.raises(UsageError, match="--jobs"):
        finetune(models, jobs=0, records=two, **options)


def test_a_record_that_cannot_be_used_is_the_failure_of_its_run(place: Path, tmp_path: Path, capfd) -> None:
    records, flags = tmp_path / "r.jsonl", ("--seeds", "1,2")
    assert cli.main(flags_of(place, records, *flags)) == 0
    first, second = records.read_text().splitlines()
    records.write_text(first.replace('"small"', '"other"') + "\n" + second + "\n")
    assert cli.main(flags_of(place, records, *flags, "--jobs", "2")) == 1
    said = capfd.readouterr().err
    assert "already recorded as other" in said and "1 run failed for the reasons above: small on fevers, seed 1" in said


def test_ctrl_c_saves_and_the_same_command_continues(place: Path, tmp_path: Path) -> None:
    records, whole = tmp_path / "r.jsonl", tmp_path / "whole.jsonl"
    make_ner_set(tmp_path / "many", n=600)  # so that an epoch lasts long enough to be interrupted
    longer = ["--ner-dir", str(tmp_path / "many"), "--epochs", "4", "--seeds", "1,2"]
    start = ["evaluate", "--model", str(place / "small"), *QUICK, *longer]
    flags = [*start, "--records", str(records)]
    command = [sys.executable, "-m", "compact_biomed", *flags, "--jobs", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    said = ""
    while ", epoch 1 of 4" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    said += process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in said
    # A process that is between two epochs has saved, and has no step to finish first.
    assert "Kept: 0 runs recorded" in said and "the training in progress is in" in said
    assert not records.exists()
    again = subprocess.run([*command], stderr=subprocess.PIPE, text=True, check=True).stderr
    assert "continues in epoch" in again
    assert cli.main([*start, "--records", str(whole)]) == 0
    assert results(records) == results(whole)
    assert not Path(f"{records}.checkpoints").exists()
