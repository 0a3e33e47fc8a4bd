"""Faulty checkpoints and exported folders, as `predict` and `score` open them."""

import json
import shutil
from itertools import count
from pathlib import Path

import pytest
from faults import Commands, Ended, check_all, nothing_half_written, refused, refused_or_same
from mutations import of_bytes, of_json, of_values
from tiny_checkpoints import make_checkpoint

from compact_biomed import cli

TEXT = "the kinase of frogs and fevers\n"
# File of a checkpoint -> how many of its values are changed.
MOST = {"config.json": 60, "tokenizer_config.json": 30, "tokenizer.json": 40, "manifest.json": 50}
RECORD = {"record": "scores", "version": 1, "run": "r", "seed": 1, "split": "test", "score": 50.0, "settings": {}}
RECORD |= {"task": {"name": "GAD", "fold": 1, "metric": "f1", "data_sha256": {}, "kind": "text"}, "metrics": {}}
RECORD |= {"model": {"name": "m", "weights_sha256": "w"}, "protocol": {"name": "standard", "overrides": {}}}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, its export, a text, and what `predict` says about it."""
    folder = tmp_path_factory.mktemp("sound")
    make_checkpoint(folder / "checkpoint", "token")
    (folder / "text.txt").write_text(TEXT)
    assert cli.main(["export", "--model", str(folder / "checkpoint"), "--output", str(folder / "exported")]) == 0
    return folder


SOUND: dict[str, Ended] = {}


def predict(command: Commands, sound: Path, model: Path) -> Ended:
    return command("predict", "--model", model, "--precision", "auto", "--threads", "1", sound / "text.txt")


def check(command: Commands, sound: Path, folder: Path, kind: str, name: str, content: bytes) -> None:
    """Replace a file of a copy of the sound folder, and predict with it."""
    if kind not in SOUND:
        SOUND[kind] = predict(command, sound, sound / kind)
        assert SOUND[kind].status == 0 and SOUND[kind].out
    model = folder / "model"
    shutil.copytree(sound / kind, model)
    (model / name).write_bytes(content)
    refused_or_same(predict(command, sound, model), SOUND[kind], "model")
    nothing_half_written(folder)


def mutated(kind: str, name: str, sound: Path) -> dict[str, bytes]:
    content = (sound / kind / name).read_bytes()
    if not name.endswith(".json"):
        faults = of_bytes(content)
        if kind == "checkpoint":  # which has no checksums
            del faults["flipped bits"]
        return faults
    values = of_values(json.loads(content), seed=4, most=MOST[name])
    return of_json(content, seed=5) | {key: text.encode() for key, text in values.items()}


CASES = [("checkpoint", name) for name in ("config.json", "tokenizer_config.json", "tokenizer.json")]
CASES += [("checkpoint", "model.safetensors"), ("exported", "manifest.json"), ("exported", "model.onnx")]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_file_of_a_model(command: Commands, sound: Path, tmp_path: Path, kind: str, name: str) -> None:
    folders = (tmp_path / str(number) for number in count())
    check_all(mutated(kind, name, sound), lambda _, content: check(command, sound, next(folders), kind, name, content))


def test_the_record_of_a_fine_tuned_model(command: Commands, sound: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(sound / "checkpoint", model)
    content = json.dumps(RECORD).encode()
    values = {name: text.encode() for name, text in of_values(RECORD, seed=6, most=50).items()}

    def check(_: str, faulty: bytes) -> None:
        (model / "record.json").write_bytes(faulty)
        refused(command("score", "--model", model, "--data", tmp_path, "--records", tmp_path / "r.jsonl"))

    check_all(of_json(content, seed=7) | values, check)
