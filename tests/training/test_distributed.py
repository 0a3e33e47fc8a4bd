"""Two processes on CPUs learn what one learns from the same documents a step."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from compact_biomed.corpus.smoke import smoke_tokenizer_folder
from compact_biomed.models.architectures import ARCHITECTURES

RECIPE = Path(__file__).parents[2] / "recipes" / "biomobilebert_cl.py"

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A small checkpoint without dropout: its draw differs between numbers of processes, the rest does not."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smoke_tokenizer_folder())
    architecture = ARCHITECTURES["biomobilebert"]["smoke"]
    torch.manual_seed(0)
    config = architecture.config(len(tokenizer), attention_probs_dropout_prob=0.0)
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    return tmp_path / "start"


def command(processes: int, *arguments: object) -> list[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # --multi_gpu is accelerate's word for several processes on one machine; with --cpu it starts a single one.
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes)]
    launcher += ["--num_machines", "1"]
    launcher += ["--main_process_port", str(port), "--mixed_precision", "no", "--dynamo_backend", "no"]
    return [sys.executable, *launcher, str(RECIPE), "--preset", "smoke", "--precision", "fp32", *map(str, arguments)]


def launch(processes: int, *arguments: object) -> str:
    done = subprocess.run(command(processes, *arguments), env=ONE_THREAD, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def record(folder: Path) -> dict:
    return json.loads((folder / "record.json").read_text())


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(runs, start: Path, tmp_path: Path) -> None:
    settings = ("--start", start, "--pseudo_positions", 8, "--logging_steps", 1)
    code, said = runs("biomobilebert_cl", *settings, "--precision", "fp32", "--output_dir", tmp_path / "one")
    assert code == 0, said
    # Four documents each; one process after the other's leave two accumulated batches of two.
    launch(2, *settings, "--gradient_accumulation_steps", 2, "--output_dir", tmp_path / "two")
    one, two = record(tmp_path / "one"), record(tmp_path / "two")
    assert (two["speed"]["processes"], two["speed"]["per_device_batch"], two["speed"]["accumulation"]) == (2, 2, 2)
    assert one["hyperparameters"] == two["hyperparameters"]
    assert one["tokens"] == two["tokens"]
    losses = [[entry["loss"] for entry in r["log"]] for r in (one, two)]
    assert len(losses[0]) == 12
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    norms = [[entry["grad_norm"] for entry in r["log"]] for r in (one, two)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)
    assert two["heldout"]["after"]["loss"] == pytest.approx(one["heldout"]["after"]["loss"], rel=1e-4)
    assert two["heldout"]["after"]["loss"] != one["heldout"]["before"]["loss"]


@pytest.mark.slow
def test_accumulation_changes_nothing(runs, start: Path, tmp_path: Path) -> None:
    """Documents differ in their number of masked tokens: a mean of means would not do."""
    settings = ("--start", start, "--pseudo_positions", 0, "--heldout_documents", 8, "--precision", "fp32")
    curves = []
    for accumulation in (1, 4, 8):
        folder = tmp_path / str(accumulation)
        arguments = (*settings, "--gradient_accumulation_steps", accumulation, "--logging_steps", 1)
        code, said = runs("biomobilebert_cl", *arguments, "--output_dir", folder)
        assert code == 0, said
        curves.append([(e["loss"], e["grad_norm"]) for e in record(folder)["log"]])
    for curve in curves[1:]:
        for (loss, norm), (expected_loss, expected_norm) in zip(curve, curves[0], strict=True):
            assert loss == pytest.approx(expected_loss, rel=1e-5)
            assert norm == pytest.approx(expected_norm, rel=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_all_processes_stop_when_one_of_them_gets_a_signal(start: Path, tmp_path: Path) -> None:
    settings = ("--start", start, "--logging_steps", 1, "--max_steps", 400, "--output_dir", tmp_path / "run")
    with subprocess.Popen(command(2, *settings), env=ONE_THREAD, stderr=subprocess.PIPE, text=True) as launcher:
        alarm = threading.Timer(180, launcher.kill)  # if they wait for each other
        alarm.start()
        said = []
        for line in launcher.stderr:
            said.append(line)
            if "step" in line and "of 400: loss" in line:
                break
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGINT)  # the second process, which writes nothing
        said.append(launcher.stderr.read())
        alarm.cancel()
    text = "".join(said)
    (saved,) = (path for path in (tmp_path / "run").iterdir() if path.name.startswith("checkpoint-"))
    assert f"Stopped after step {saved.name.partition('-')[2]} of 400" in text, text
