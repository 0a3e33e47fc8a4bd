"""Flags that cannot be meant: one line each, and nothing is made."""

from pathlib import Path

import pytest
from transformers import BertForMaskedLM

from compact_biomed.cli import main
from compact_biomed.cli.recipe import main as recipe_main
from compact_biomed.cli.recipe import parsed_run, parser_of
from compact_biomed.errors import UserError, flag_of
from compact_biomed.models.architectures import ARCHITECTURES
from compact_biomed.models.locate import find_checkpoint, unreadable
from compact_biomed.objectives.terms import FEATURES
from compact_biomed.training import arguments, build
from compact_biomed.training.hyperparameters import DistillationHyperparameters
from compact_biomed.training.recipe import load_recipe


def refused(recipe: str, flags: list[str], tmp_path: Path, capsys, monkeypatch) -> str:
    """The one line that a recipe says to these flags."""
    monkeypatch.chdir(tmp_path)
    assert recipe_main(load_recipe(recipe), ["--preset", "smoke", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
    return error


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--label-smoothing-factor 0.5", "no effect"),
        ("--eval-strategy steps", "--heldout-documents"),
        ("--do-eval=True", "--heldout-documents"),
        ("--bf16 True", "use --precision"),
        ("--load-best-model-at-end True", "no effect"),
        ("--resume-from-checkpoint x", "resumes by itself"),
        ("--num-train-epochs 3", "use --max-steps"),
        ("--logging-steps 0", "logging"),
        ("--logging-strategy no --logging-steps 0", "--logging-steps 0"),
        ("--lr-scheduler-kwargs {", "transformers refuses"),
        ("--learning-rate -1", "above 0"),
        ("--learning-rate inf", "above 0"),
        ("--adam-beta2 1", "below 1"),
        ("--learning-rate abc", "--learning-rate: invalid float value: 'abc'"),
        ("--report-to paper", "--report-to: no tracker 'paper' (use one of azure_ml, "),
        ("--optim foo", "--optim: invalid choice: 'foo'"),
    ],
)
def test_fields_of_transformers(flags: str, said: str, tmp_path: Path, capsys, monkeypatch) -> None:
    error = refused("biotinybert_cl", flags.split(), tmp_path, capsys, monkeypatch)
    assert said in error and len(error) < 250


def test_a_tracker_that_is_not_installed(capsys, monkeypatch) -> None:
    monkeypatch.setattr(arguments, "get_available_reporting_integrations", lambda: ["tensorboard"])
    assert recipe_main(load_recipe("biotinybert_cl"), ["--preset", "smoke", "--report-to", "wandb"]) == 1
    assert (
        capsys.readouterr().err
        == "error: --report-to: wandb is not installed (pip install wandb; installed: tensorboard)\n"
    )


@pytest.mark.parametrize(
    ("flag", "least"), [("replicas", 0), ("micro_batch_tokens", 0), ("pseudo_positions", 0), ("heldout_documents", 1)]
)
def test_numbers_that_are_too_small(flag: str, least: int, tmp_path: Path, capsys, monkeypatch) -> None:
    error = refused("biotinybert_cl", [flag_of(flag), str(least - 1)], tmp_path, capsys, monkeypatch)
    assert f"{flag_of(flag)} {least - 1} must be at least {least}" in error


@pytest.mark.parametrize(
    ("flag", "meant"), [("--temp", "--temperature"), ("--replica", "--replicas"), ("--hel", "--heldout-fraction")]
)
def test_a_beginning_suggests_the_flag(flag: str, meant: str, tmp_path: Path, capsys, monkeypatch) -> None:
    assert f"did you mean {meant}?" in refused("distilbiobert", [flag, "3"], tmp_path, capsys, monkeypatch)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_temperatures_that_are_none(value: str, tmp_path: Path, capsys, monkeypatch) -> None:
    error = refused("distilbiobert", ["--temperature", value], tmp_path, capsys, monkeypatch)
    assert "--temperature" in error and "above 0" in error


@pytest.mark.parametrize(
    ("recipe", "flags", "said"),
    [
        (
            "compactbiobert",
            "--cell-average on --loss distilbiobert",
            "--cell-average has no effect with the loss distilbi",
        ),
        ("distilbiobert", "--start own --layer-map odd", "--layer-map has no effect with the loss distilbiobert and"),
        ("tinybiobert", "--copy-head on", "--copy-head has no effect with --start random"),
        ("distilbiobert", "--maps-after-dropout on", "--maps-after-dropout has no effect with the loss distilbiobert"),
        ("distilbiobert", "--raw-scores off", "--raw-scores has no effect with the loss distilbiobert"),
        ("distilbiobert", "--start own/model --student-layers 2", "--student-layers has no effect with --start own"),
        ("distilbiobert", "--start random --layer-map odd", "--layer-map has no effect"),
        ("compactbiobert", "--student-layers 0", "--student-layers 0 must be at least 1"),
        ("compactbiobert", "--student-layers -1", "--student-layers -1 must be at least 1"),
        ("compactbiobert", "--teacher random", "--teacher: random weights"),
        ("compactbiobert", "--relation-heads 4", "--relation-heads has no effect with the loss compactbiobert"),
        ("compactbiobert", "--relation-layer last", "--relation-layer has no effect with the loss compactbiobert"),
        ("relationbiobert", "--relation-heads 0", "--relation-heads 0 must be at least 1"),
        ("relationbiobert", "--relation-layer middle", "--relation-layer middle must be a number from 0, last"),
        ("relationbiobert", "--layer-map odd", "--layer-map has no effect with the loss relationbiobert and"),
        ("relationbiobert", "--loss distilbiobert", "--mask-probability 0 leaves no word to predict"),
        ("distilbiobert", "--mask-probability 0", "--mask-probability 0 leaves no word to predict"),
        ("distilbiobert", "--mask-probability 1", "not between 0 and 1"),
    ],
)
def test_flags_of_distillation(recipe: str, flags: str, said: str, tmp_path: Path, capsys, monkeypatch) -> None:
    assert said in refused(recipe, flags.split(), tmp_path, capsys, monkeypatch)


@pytest.mark.parametrize(
    ("recipe", "flags"),
    [
        ("distilbiobert", "--temperature 3 --layer-map odd --copy-head off --copy-embeddings off --teacher-dropout on"),
        ("compactbiobert", "--layer-map first --cell-average on --maps-after-dropout on --copy-head on"),
        ("compactbiobert", "--temperature 2"),
        ("tinybiobert", "--layer-map first"),
        ("relationbiobert", "--relation-layer upper-middle --relation-heads 12"),
        ("relationbiobert", "--relation-layer 3 --mask-probability 0.15"),
        ("tinybiobert", "--loss relationbiobert --relation-heads 4"),
        ("compactbiobert", "--start random --layer-map first --student-layers 2"),
        ("tinybiobert", "--padding-in-mse on --maps-after-dropout on --raw-scores on --teacher-dropout on"),
        ("tinybiobert", "--loss distilbiobert --leave-out soft_kl hidden_cosine"),
        *((recipe, "--fidelity published") for recipe in ("distilbiobert", "compactbiobert", "tinybiobert")),
    ],
)
def test_flags_that_have_an_effect(recipe: str, flags: str) -> None:
    own = load_recipe(recipe)
    changed, _ = parsed_run(own, ["--preset", "paper", *flags.split()])
    assert changed.hyperparameters != parsed_run(own, ["--preset", "paper"])[0].hyperparameters


def test_every_loss_is_in_the_help() -> None:
    shown = parser_of(load_recipe("distilbiobert")).format_help()
    assert [loss for loss in FEATURES if loss != "task_loss" and loss not in shown] == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["train", "--help"], ("usage: compact-biomed train ", "mlm", "distill")),
        (["train", "mlm", "--help"], ("usage: compact-biomed train mlm ", "--start")),
        (["train", "distill", "-h"], ("usage: compact-biomed train distill ", "--teacher", "attention_score_mse")),
    ],
)
def test_help_of_train(flags: list[str], words: tuple[str, ...], capsys) -> None:
    try:
        code = main(flags)
    except SystemExit as end:  # argparse's own --help
        code = end.code
    assert code == 0
    said = capsys.readouterr().out
    assert [word for word in words if word not in said] == []


def test_train_passes_its_flags_on(capsys) -> None:
    assert main(["train", "mlm", "--start", "random", "--seed", "3", "--mask-probability", "2"]) == 2
    assert "--mask-probability 2.0" in capsys.readouterr().err
    assert main(["train", "distill", "--teacher", "own/model"]) == 2
    assert "--student-layers" in capsys.readouterr().err


def test_every_script_is_listed_with_its_purpose_and_has_help(capsys) -> None:
    assert main(["recipe"]) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert {"biomobilebert_cl", "pruning", "reproduce", "ablations/temperature", "ablations/scoring_scale"} <= set(
        listed
    )
    assert all(len(purpose) > 20 for purpose in listed.values())
    for name in listed:
        with pytest.raises(SystemExit, match="0"):
            main(["recipe", name, "--help"])
        said = capsys.readouterr().out
        assert said.startswith(f"usage: compact-biomed recipe {name} ") and "python recipes/" not in said
    assert main(["recipe", "none such"]) == 2
    assert "no recipe 'none such' (there are: " in capsys.readouterr().err


def test_recipe_passes_its_flags_on(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["recipe", "biotinybert_cl", "--preset", "smoke", "--mask-probability", "2"]) == 2
    assert "--mask-probability 2.0" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_teacher(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="not a checkpoint folder"):
        find_checkpoint(str(tmp_path / "model.safetensors"))


def test_a_hub_name_that_fails_names_no_flag() -> None:
    """Teachers, evaluated models and start weights come this way."""
    error = unreadable("own/model", OSError("not found"))
    assert "name a folder instead" in str(error) and "--start" not in str(error)


def test_a_student_that_does_not_fit_names_the_flags() -> None:
    teacher = BertForMaskedLM(ARCHITECTURES["biobert"]["smoke"].config(60))
    hyperparameters = DistillationHyperparameters(
        recipe="own",
        preset="smoke",
        model="student",
        start="teacher",
        tokenizer="teacher",
        sources=(),
        student_layers=9,
    )
    with pytest.raises(UserError, match=r"layers 0 to 3.*--student-layers N.*--teacher"):
        build.build_student(hyperparameters, teacher, 60)
