"""What a run costs is told for the model that it will have."""

import pytest
from transformers import AutoModelForMaskedLM, BertConfig, BertModel

from compact_biomed.cli import main
from compact_biomed.cli.recipe import parsed_run
from compact_biomed.models.architectures import ARCHITECTURES
from compact_biomed.training.build import architecture_config, expected_config

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


@pytest.mark.parametrize(
    ("model", "flags", "message"),
    [
        ("biomobilebert", ["--student-layers", "1"], "cannot take parts of a mobilebert"),
        ("biobert", ["--student-layers", "9"], "4 layers"),
        ("headless", ["--student-layers", "1"], "no vocabulary head"),
    ],
)
def test_a_dry_run_refuses_the_teacher_that_the_run_refuses(tmp_path, capsys, model, flags, message):
    teacher = tmp_path / "teacher"
    if model == "headless":
        BertModel(BertConfig(**OWN)).save_pretrained(teacher)
    else:
        AutoModelForMaskedLM.from_config(ARCHITECTURES[model]["smoke"].config(1205)).save_pretrained(teacher)
    capsys.readouterr()
    command = ["train", "distill", "--teacher", str(teacher), *flags, "--preset", "smoke"]
    assert main([*command, "--output-dir", str(tmp_path / "run"), "--dry-run"]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1, error
    assert not (tmp_path / "run").exists()


def test_a_dry_run_refuses_the_tokenizer_that_the_run_refuses(tmp_path, capsys):
    start = tmp_path / "start"
    AutoModelForMaskedLM.from_config(ARCHITECTURES["biobert"]["smoke"].config(1205)).save_pretrained(start)
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"Word{n}" for n in range(1200))]
    (start / "vocab.txt").write_text("\n".join(entries) + "\n")  # nothing says that it is cased
    capsys.readouterr()
    command = ["train", "mlm", "--start", str(start), "--preset", "smoke", "--tokenizer", str(start)]
    assert main([*command, "--output-dir", str(tmp_path / "run"), "--dry-run"]) == 1
    error = capsys.readouterr().err
    assert "capital letters" in error and error.count("\n") == 1, error
    assert not (tmp_path / "run").exists()
