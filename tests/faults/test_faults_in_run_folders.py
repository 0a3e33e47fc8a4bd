"""Faulty files in the folder of a training, which reads back what it wrote."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import Commands, Ended, check_all, nothing_half_written, refused
from mutations import BROKEN_VALUES, of_bytes, of_json, of_values
from safetensors.torch import load_file, save
from transformers import TrainerState

from compact_biomed.cli import guarded
from compact_biomed.cli.recipe import main
from compact_biomed.training import checkpoint
from compact_biomed.training.recipe import load_recipe

STEP = 4
FLAGS = ("--preset", "smoke", "--max-steps", STEP, "--save-steps", 2, "--pseudo-positions", 0, "--replicas", 1)
FLAGS += ("--warmup-steps", 1, "--heldout-documents", 4, "--sources", "SOURCE")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few invented documents."""
    path = tmp_path_factory.mktemp("source") / "documents.jsonl"
    words = ["ba", "di", "ko", "ru", "sel", "tam"]
    with path.open("w") as stream:
        for number in range(1, 301):
            text = " ".join(words[(number * k) % 6] for k in range(3, 20))
            stream.write(json.dumps({"pmid": number, "title": text, "abstract": text}) + "\n")
    return path


def train(command: Commands, source: Path, folder: Path, *more: object):
    flags = [source if flag == "SOURCE" else flag for flag in FLAGS]
    recipe = load_recipe("biotinybert_cl")
    return command(*flags, "--output-dir", folder, *more, main=lambda arguments: main(recipe, arguments))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, source: Path, session_cache: Path) -> Path:
    """The folder of a run that has finished."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    flags = [str(source if flag == "SOURCE" else flag) for flag in FLAGS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPACT_BIOMED_CACHE", str(session_cache))
        assert main(load_recipe("biotinybert_cl"), [*flags, "--output-dir", str(folder)]) == 0
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of that folder, as it was before the last steps: all is there but the results."""
    shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    (tmp_path / "run" / "record.json").unlink()
    return tmp_path / "run"


def check_file(command: Commands, source: Path, run: Path, name: str, faults: Mapping[str, bytes | str]) -> None:
    """Check that the same command refuses each faulty version of a file, and writes no result."""
    path = run / name
    sound = path.read_bytes()

    def check(_: str, content: bytes | str) -> None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        check_refusal(command, source, run, path.parent)

    check_all(faults, check)
    path.write_bytes(sound)


def check_refusal(command: Commands, source: Path, run: Path, *named: object) -> None:
    """Check that the same command is refused, and writes no result."""
    try:
        refused(train(command, source, run), *named)
        assert not (run / "model").exists()
        nothing_half_written(run)
    finally:
        (run / "record.json").unlink(missing_ok=True)
        shutil.rmtree(run / "model", ignore_errors=True)


def values(path: Path, *keys: str) -> dict[str, str]:
    """Return the file with one of these values missing, or of a type that it cannot have."""
    found = of_values(json.loads(path.read_text()), keys=keys)
    return {name: text for name, text in found.items() if name.split(" ", 1)[1] in ("missing", "table", *BROKEN_VALUES)}


def test_hyperparameters_and_record(command: Commands, finished: Path, run: Path, source: Path) -> None:
    name = "hyperparameters.json"
    check_file(command, source, run, name, of_json((run / name).read_bytes(), seed=1))
    shutil.copytree(finished / "model", run / "model")
    sound = (finished / "record.json").read_bytes()
    parts = values(finished / "record.json", "heldout", "heldout.after", "tokens", "corpus", "hyperparameters")

    def check(_: str, content: bytes) -> None:
        (run / "record.json").write_bytes(content)
        refused(train(command, source, run), "record.json")

    check_all(of_json(sound, seed=2) | {name: text.encode() for name, text in parts.items()}, check)


@pytest.mark.parametrize(("name", "keys"), [("corpus.json", ["fingerprint"]), ("before.json", ["settings", "scores"])])
def test_text_and_measurement(command: Commands, run: Path, source: Path, name: str, keys: list[str]) -> None:
    faults = of_json((run / name).read_bytes(), seed=3) | values(run / name, *keys)
    check_file(command, source, run, name, faults)


# ---- Checkpoints: most faults without a whole run around them


CHECKPOINT = {
    "trainer_state.json": ["global_step", "log_history", "max_steps", "epoch"],
    "training.json": ["values", "groups", "groups.0", "groups.0.lr", "scheduler", "scheduler.last_epoch", "extra"],
}


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Any, Any]:
    """A checkpoint of a small optimizer, and the optimizer with its scheduler."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    scheduler.step()
    folder = tmp_path / f"checkpoint-{STEP}"
    folder.mkdir()
    checkpoint.save_optimizer(folder, optimizer, scheduler, {"tokens_seen": 7})
    TrainerState(global_step=STEP, max_steps=STEP).save_to_json(str(folder / "trainer_state.json"))
    return folder, optimizer, scheduler


def load(command: Commands, folder: Path, optimizer: Any, scheduler: Any) -> Ended:
    def resume() -> None:
        checkpoint.check_progress(folder)
        checkpoint.load_optimizer(folder, optimizer, scheduler)

    return command(main=lambda _: guarded(resume))


@pytest.mark.parametrize("name", CHECKPOINT)
def test_settings_of_a_checkpoint(command: Commands, saved: tuple, name: str) -> None:
    path = saved[0] / name
    assert load(command, *saved).status == 0
    sound = path.read_bytes()

    def check(_: str, content: bytes | str) -> None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        refused(load(command, *saved), path, "delete")

    check_all(of_json(sound, seed=4) | values(path, *CHECKPOINT[name]), check)


@pytest.mark.parametrize(
    ("field", "value"), [("best_model_checkpoint", ["a"]), ("best_model_checkpoint", 10**30), ("best_metric", "x")]
)
def test_a_field_that_only_the_trainer_reads(command: Commands, saved: tuple, field: str, value: Any) -> None:
    path = saved[0] / "trainer_state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    refused(load(command, *saved), path, field, "delete")


def test_tensors_of_an_optimizer(command: Commands, saved: tuple) -> None:
    path = saved[0] / "optimizer.safetensors"
    sound, tensors = path.read_bytes(), load_file(path)
    faults = of_bytes(sound, seed=5)
    del faults["flipped bits"]  # a checkpoint has no checksums
    for name, tensor in tensors.items():
        faults |= {
            f"{name} missing": save({key: each for key, each in tensors.items() if key != name}),
            f"{name} wider": save(tensors | {name: tensor.flatten()[:1].repeat(5)}),
            f"{name} renamed": save({key + "x" * (key == name): each for key, each in tensors.items()}),
        }
    faults["none"] = save({})
    faults["all renamed"] = save({key.replace("exp_avg", "mean"): each for key, each in tensors.items()})
    faults["one more"] = save(tensors | {"999.exp_avg": torch.ones(2)})
    faults["no number"] = save(tensors | {"exp_avg": torch.ones(2)})

    def check(_: str, content: bytes) -> None:
        path.write_bytes(content)
        refused(load(command, *saved), path, "delete")

    check_all(faults, check)


def test_a_checkpoint_within_its_run(command: Commands, run: Path, source: Path) -> None:
    folder = run / f"checkpoint-{STEP}"
    tensors = load_file(folder / "model.safetensors")
    first = sorted(tensors)[0]
    faults = {
        "trainer_state.json": {"cut": (folder / "trainer_state.json").read_bytes()[:50]},
        "training.json": {"empty": b""},
        "optimizer.safetensors": {"cut": (folder / "optimizer.safetensors").read_bytes()[:500]},
        "model.safetensors": {
            "cut": (folder / "model.safetensors").read_bytes()[:500],
            "missing": save({key: tensor for key, tensor in tensors.items() if key != first}),
            "other width": save(tensors | {first: tensors[first].flatten()[:1].repeat(3)}),
        },
    }
    for name, of_file in faults.items():
        check_file(command, source, run, f"{folder.name}/{name}", of_file)


def test_a_checkpoint_that_was_renamed(command: Commands, run: Path, source: Path) -> None:
    (run / f"checkpoint-{STEP}").rename(run / "checkpoint-7")
    refused(train(command, source, run), "checkpoint-7", f"rename the folder to checkpoint-{STEP}")


def test_what_a_kill_leaves_is_swept(command: Commands, run: Path, source: Path) -> None:
    """A kill between the folder and its first file leaves a temporary name alone; one amid a save leaves a folder."""
    new = run.with_name("new")
    new.mkdir()
    (new / ".hyperparameters.json.tmp").write_text("{")
    (run / ".checkpoint-4.tmp").mkdir()
    (run / ".checkpoint-4.tmp" / "model.safetensors").write_bytes(b"half")
    (run / ".before.json.1a2b3c4d.tmp").write_text("half")
    for folder in (new, run):
        assert train(command, source, folder).status == 0
        nothing_half_written(folder)
