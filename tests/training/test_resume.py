"""A run that is killed at any moment goes on by the same command and ends with the same bits."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

KILL, INTERRUPT = int(signal.SIGKILL), int(signal.SIGINT)
# Saved at steps that log, so that the means in the log are over the same steps.
LONG = ("--max_steps", 16, "--save_steps", 4, "--pseudo_positions", 0, "--heldout_documents", 8)
TRAINER = "compact_biomed.training.trainer:PretrainingTrainer"
# One moment for each thing that a run does: learn, write each file of a checkpoint, give it its
# name, delete an old one, write the results.
MOMENTS = {
    "in the first step": {"at": f"{TRAINER}.training_step", "call": 1, "after": True},
    "before the optimizer's state is written": {"at": "compact_biomed.training.checkpoint:save_file", "call": 1},
    "after the optimizer's tensors": {"at": "compact_biomed.training.checkpoint:save_file", "call": 2, "after": True},
    "before the checkpoint's name": {"at": "compact_biomed.files:os.replace", "call": 4},
    "while leftovers are swept away": {"at": "compact_biomed.training.checkpoint:shutil.rmtree", "call": 1},
    "while an old checkpoint goes": {"at": "compact_biomed.training.checkpoint:Path.rename", "call": 1, "after": True},
    "in a step after a checkpoint": {"at": f"{TRAINER}.training_step", "call": 3},
    "before the model has its name": {"at": "compact_biomed.training.summary:model_card", "call": 1, "after": True},
    "before the record": {"at": "compact_biomed.training.summary:loss_picture", "call": 1, "after": True},
}


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "moments", "flags"),
    [
        ("biomobilebert_cl", slice(None), ()),
        ("biodistilbert_cl", slice(2, 7, 4), ()),
        # Here dropout comes from torch's own generator.
        ("biotinybert_cl", slice(2, 7, 4), ("--kernels", "transformers", "--micro_batch_tokens", 128)),
    ],
)
def test_killed_at_every_kind_of_moment(runs, tmp_path: Path, recipe: str, moments: slice, flags: tuple) -> None:
    """One run, killed again and again; all models have dropout."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, said = runs(recipe, *LONG, *flags, "--output_dir", whole)
    assert code == 0, said
    for moment, where in list(MOMENTS.items())[moments]:
        code, said = runs(recipe, *LONG, *flags, "--output_dir", killed, signal={"number": KILL, **where})
        assert code == -KILL, f"{moment}: {code}\n{said}"
        assert not (killed / "record.json").exists()
    code, said = runs(recipe, *LONG, *flags, "--output_dir", killed)
    assert code == 0, said
    assert "Resuming from" in said
    assert weights(killed) == weights(whole)
    assert names(killed) == names(whole)  # nothing is left of the interrupted saves
    records = [json.loads((folder / "record.json").read_text()) for folder in (whole, killed)]
    assert records[0]["tokens"] == records[1]["tokens"]
    assert records[0]["heldout"] == records[1]["heldout"]
    assert [e["loss"] for e in records[0]["log"]] == [e["loss"] for e in records[1]["log"]]


def test_killed_from_outside_while_it_saves(runs, tmp_path: Path) -> None:
    """As a machine's owner would: the process is watched, and killed amid a save or a step."""
    often = ("--max_steps", 16, "--save_steps", 1, "--logging_steps", 1, *LONG[4:])
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, said = runs("biomobilebert_cl", *often, "--output_dir", whole)
    assert code == 0, said
    for _ in range(3):
        left = set(killed.glob(".checkpoint-*.tmp"))
        running = runs.start("biomobilebert_cl", *often, "--output_dir", killed)
        deadline = time.monotonic() + 60
        while not set(killed.glob(".checkpoint-*.tmp")) - left:
            assert time.monotonic() < deadline
        os.kill(running.pid, KILL)
        assert running.wait()[0] == -KILL
    code, said = runs("biomobilebert_cl", *often, "--output_dir", killed)
    assert code == 0, said
    assert weights(killed) == weights(whole)
    assert names(killed) == names(whole)


def test_ctrl_c_saves_and_says_how_to_go_on(runs, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert runs("biotinybert_cl", *LONG, "--output_dir", whole)[0] == 0
    at = {"at": f"{TRAINER}.training_step", "call": 5, "number": INTERRUPT}
    code, said = runs("biotinybert_cl", *LONG, "--output_dir", stopped, signal=at)
    assert code == 130, said
    assert "Traceback" not in said
    assert "Stopped after step 5 of 16" in said
    assert f"--output_dir {stopped}" in said.split("To resume:")[1]
    assert {"checkpoint-4", "checkpoint-5"} <= names(stopped)
    code, said = runs("biotinybert_cl", *LONG, "--output_dir", stopped)
    assert code == 0, said
    assert weights(stopped) == weights(whole)


def test_ctrl_c_in_the_last_step_finishes(runs, tmp_path: Path) -> None:
    at = {"at": f"{TRAINER}.training_step", "call": 12, "number": INTERRUPT}
    code, said = runs("biotinybert_cl", "--output_dir", tmp_path / "run", signal=at)
    assert code == 0, said
    assert (tmp_path / "run" / "record.json").is_file()


def test_ctrl_c_before_training_is_no_defect(runs, tmp_path: Path) -> None:
    at = {"at": "compact_biomed.training.heldout:HeldoutTest.measure", "call": 1, "number": INTERRUPT}
    code, said = runs("biotinybert_cl", "--output_dir", tmp_path / "run", signal=at)
    assert code == 130, said
    assert "Traceback" not in said
    assert runs("biotinybert_cl", "--output_dir", tmp_path / "run")[0] == 0


def test_a_folder_keeps_to_its_hyperparameters(runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert runs("biotinybert_cl", "--max_steps", 4, "--output_dir", run)[0] == 0
    before = weights(run)
    code, said = runs("biotinybert_cl", "--max_steps", 4, "--learning_rate", 0.5, "--output_dir", run)
    assert code == 1
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert str(run) in said and "learning_rate" in said and "--fresh" in said
    # What is speed may change, and a finished run stays finished.
    code, said = runs("biotinybert_cl", "--max_steps", 4, "--precision", "fp32", "--output_dir", run)
    assert (code, "finished already" in said) == (0, True)
    code, said = runs("biotinybert_cl", "--max_steps", 4, "--learning_rate", 0.5, "--fresh", "--output_dir", run)
    assert code == 0, said
    assert weights(run) != before
    assert weights(tmp_path / "run.old-1") == before


def test_a_folder_of_something_else_is_left_alone(runs, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    code, said = runs("biotinybert_cl", "--output_dir", tmp_path)
    assert (code, said.count("\n")) == (1, 1)
    assert names(tmp_path) == {"thesis.txt"}


def test_a_damaged_checkpoint_is_named(runs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    at = {"at": f"{TRAINER}.training_step", "call": 10, "number": KILL}
    assert runs("biotinybert_cl", "--output_dir", run, signal=at)[0] == -KILL
    for name in ("optimizer.safetensors", "model.safetensors", "training.json"):
        file = run / "checkpoint-8" / name
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        code, said = runs("biotinybert_cl", "--output_dir", run)
        assert code == 1, said
        last = said.strip().splitlines()[-1]
        assert last.startswith("error: ") and "checkpoint-8" in last and "delete" in last, last
        file.write_bytes(content)
    for name in ("optimizer.safetensors", "model.safetensors"):
        file = run / "checkpoint-8" / name
        content = file.read_bytes()
        tensors = load_file(file)
        broken = sorted(tensors)[0]
        save_file({n: tensor * (float("nan") if n == broken else 1) for n, tensor in tensors.items()}, file)
        code, said = runs("biotinybert_cl", "--output_dir", run)
        assert code == 1, said
        last = said.strip().splitlines()[-1]
        assert f"in {broken} are not finite" in last and str(file) in last and "delete" in last, last
        file.write_bytes(content)
    assert runs("biotinybert_cl", "--output_dir", run)[0] == 0
