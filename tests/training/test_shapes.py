"""What a run costs is told for the model that it will have."""

import pytest
from transformers import BertConfig

from compact_biomed.cli import main
from compact_biomed.cli.recipe import parsed_run
from compact_biomed.training.shapes import architecture_config, expected_config

OWN = {"num_hidden_layers": 5, "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 40, "vocab_size": 99}


@pytest.fixture
def folder(tmp_path) -> str:
    BertConfig(**OWN).save_pretrained(tmp_path / "own")
    return str(tmp_path / "own")


def test_a_checkpoint_that_is_loaded_whole_has_its_own_shape(folder, tmp_path):
    flags = ["--start", folder, "--sources", "text.txt", "--output-dir", str(tmp_path / "run")]
    hyperparameters = parsed_run(None, flags)[0].hyperparameters
    config = expected_config(hyperparameters, 30_522)
    assert {name: getattr(config, name) for name in OWN} == OWN


def test_a_folder_called_as_a_keyword_is_not_meant(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--start", "random", "--sources", "text.txt", "--output-dir", str(tmp_path / "run")]
    hyperparameters = parsed_run(None, flags)[0].hyperparameters
    before = expected_config(hyperparameters, 30_522)
    (tmp_path / "own").rename(tmp_path / "random")
    assert expected_config(hyperparameters, 30_522).hidden_size == before.hidden_size != OWN["hidden_size"]


def test_a_student_has_the_width_of_its_teacher(folder, tmp_path):
    flags = [
        "--teacher",
        folder,
        "--student-layers",
        "2",
        "--sources",
        "text.txt",
        "--output-dir",
        str(tmp_path / "run"),
    ]
    hyperparameters = parsed_run(None, flags, distillation=True)[0].hyperparameters
    config = expected_config(hyperparameters, 30_522)
    assert {name: getattr(config, name) for name in OWN} == {**OWN, "num_hidden_layers": 2}


def test_what_is_not_here_has_the_shape_of_the_recipe(tmp_path):
    flags = ["--start", "somebody/bert", "--sources", "text.txt", "--output-dir", str(tmp_path / "run")]
    hyperparameters = parsed_run(None, flags)[0].hyperparameters
    assert expected_config(hyperparameters, 100).to_dict() == architecture_config(hyperparameters, 100).to_dict()


@pytest.mark.parametrize(
    "flags",
    [
        ["--student-layers", "2"],
        ["--start", "somebody/small"],
        ["--start", "sliced:teacher", "--student-layers", "3"],
        ["--start", "sliced:somebody/bert", "--student-layers", "3"],
    ],
)
def test_the_cost_of_a_student_whose_teacher_is_not_here(tmp_path, capsys, flags):
    command = ["train", "distill", "--preset", "smoke", "--teacher", "somebody/bert", *flags]
    assert main([*command, "--output-dir", str(tmp_path / "run"), "--dry-run"]) == 0
    assert "Expected cost" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
