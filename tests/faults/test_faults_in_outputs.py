"""Places where a command cannot write, and models that are not what a command needs: one line, nothing written."""

import os
import shutil
from pathlib import Path

import pytest
from faults import Commands, check_all, nothing_half_written, refused
from tiny_checkpoints import make_checkpoint

from compact_biomed.compression.distillation.text import read_texts
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file, atomic_folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("token"), "token", num_hidden_layers=1)


# Arguments, in which M is a model, and what the line names.
CASES = {
    "an input as the output": ("predict --model M a.txt --output a.txt", ("a.txt: an input, which the output would",)),
    "an input as the output, by a link": ("predict --model M a.txt --output link.txt", ("a.txt: an input",)),
    "a folder as the output": ("predict --model M a.txt --output folder", ("folder: a folder, not a file",)),
    "BRAT over a file": ("predict --model M a.txt --format brat --output a.txt", ("a.txt: exists and is not",)),
    "below a file": ("predict --model M a.txt --output a.txt/x", ("a.txt: a file, where a folder is needed",)),
    "a system's folder": ("predict --model M a.txt --output /proc/x", ("/proc/x: Permission denied",)),
    "a mirror in a system's folder": ("push M --repo /proc/x", ("/proc/x: Permission denied",)),
    "a mirror over a file": ("push M --repo ./a.txt", ("a.txt: holds something else",)),
    "no license": ("push M --repo ./m --license a/b", ("--license: 'a/b' is no identifier",)),
    "no language": ("push M --repo ./m --language English", ("--language: 'English' is no code",)),
    "models in a system's folder": ("evaluate --model M --save /proc/x", ("error: /proc/x: Permission denied",)),
    "a card without a model": ("evaluate --model M --license mit --records r.jsonl", ("--license: no model is saved",)),
    "an export for a teacher": ("distill --teacher onnx --student 1", ("onnx: an export to ONNX",)),
    "an export of an export": ("export --model onnx --output x", ("onnx: an export to ONNX",)),
}


def test_what_cannot_be_done_is_one_line(command: Commands, model: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("the fever of frogs\n")
    os.link("a.txt", "link.txt")
    Path("folder").mkdir()
    shutil.copytree(model, "onnx")
    Path("onnx/model.safetensors").rename("onnx/model.onnx")
    before = sorted(path.name for path in Path().iterdir())

    def check(_: str, case: tuple[str, tuple[str, ...]]) -> None:
        arguments, named = case
        refused(command(*(str(model) if word == "M" else word for word in arguments.split())), *named)
        nothing_half_written(tmp_path)
        assert sorted(path.name for path in Path().iterdir()) == before
        assert Path("a.txt").read_text() == "the fever of frogs\n"

    check_all(CASES, check)


@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
def test_a_place_without_new_names_ends_at_once(write) -> None:
    with pytest.raises(PermissionError), write("/proc/compact-biomed"):
        pass


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as raised, atomic_file(tmp_path):
        pass
    assert raised.value.filename == str(tmp_path)


@pytest.mark.parametrize("line", ["[" * 100_000, '{"text": "\\ud83d"}', '{"text": NaN}', "7", '{"text": " "}'])
def test_unlabeled_texts_that_are_none(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "the fever"}\n' + line + "\n")
    with pytest.raises(UserError, match=r"a\.jsonl:2: .*each line is"):
        read_texts(path, pairs=False, questions=False)
