"""Flags that cannot be meant: one line each, and nothing is made."""

import runpy
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "recipes"


def refused(recipe: str, flags: list[str], tmp_path: Path, capsys, monkeypatch) -> str:
    """The one line that a recipe says to these flags."""
    monkeypatch.syspath_prepend(RECIPES)
    monkeypatch.chdir(tmp_path)
    assert runpy.run_path(str(RECIPES / f"{recipe}.py"))["RECIPE"].main(["--preset", "smoke", *flags]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
    return error


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--label_smoothing_factor 0.5", "no effect"),
        ("--eval_strategy steps", "--heldout_documents"),
        ("--do_eval=True", "--heldout_documents"),
        ("--bf16 True", "use --precision"),
        ("--load_best_model_at_end True", "no effect"),
        ("--resume-from-checkpoint x", "goes on by itself"),
        ("--num_train_epochs 3", "use --max_steps"),
        ("--logging_steps 0", "logging"),
        ("--logging_strategy no --logging_steps 0", "--logging_steps 0"),
        ("--lr_scheduler_kwargs {", "transformers refuses"),
        ("--learning_rate -1", "above 0"),
        ("--learning_rate inf", "above 0"),
        ("--adam_beta2 1", "below 1"),
        ("--learning_rate abc", "--learning_rate: invalid float value: 'abc'"),
        ("--optim foo", "--optim: invalid choice: 'foo'"),
    ],
)
def test_fields_of_transformers(flags: str, said: str, tmp_path: Path, capsys, monkeypatch) -> None:
    error = refused("biotinybert_cl", flags.split(), tmp_path, capsys, monkeypatch)
    assert said in error and len(error) < 250


@pytest.mark.parametrize(
    ("flag", "least"), [("replicas", 0), ("micro_batch_tokens", 0), ("pseudo_positions", 0), ("heldout_documents", 1)]
)
def test_numbers_that_are_too_small(flag: str, least: int, tmp_path: Path, capsys, monkeypatch) -> None:
    error = refused("biotinybert_cl", [f"--{flag}", str(least - 1)], tmp_path, capsys, monkeypatch)
    assert f"--{flag} {least - 1} must be at least {least}" in error


@pytest.mark.parametrize(
    ("flag", "meant"), [("--temp", "--temperature"), ("--replica", "--replicas"), ("--hel", "--heldout_fraction")]
)
def test_a_beginning_suggests_the_flag(flag: str, meant: str, tmp_path: Path, capsys, monkeypatch) -> None:
    assert f"did you mean {meant}?" in refused("distilbiobert", [flag, "3"], tmp_path, capsys, monkeypatch)
