"""Pretraining and distillation from Python: the command line's names, defaults and results."""

import json
from pathlib import Path

import pytest

import compact_biomed
from compact_biomed.cli import main
from compact_biomed.files import sha256_file
from compact_biomed.objectives.textbrewer import library

MATCHES = [{"layer_S": 0, "layer_T": 1, "feature": "attention", "loss": "attention_mse", "weight": 2.0}]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, session_cache) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPACT_BIOMED_CACHE", str(session_cache))
        folder = tmp_path_factory.mktemp("teacher") / "run"
        result = compact_biomed.pretrain("biominilm_cl", preset="smoke", output_dir=folder)
    assert result.finished and result.scores["loss"] > 0
    return result.model


def test_python_and_command_line_train_the_same_weights(teacher: Path, tmp_path: Path) -> None:
    flags = ["--preset", "smoke", "--max-steps", "4", "--warmup-steps", "1", "--learning-rate", "1e-3"]
    command = ["train", "mlm", "--start", str(teacher), "--sources", "smoke", "--output-dir", str(tmp_path / "cli")]
    assert main([*command, *flags]) == 0
    result = compact_biomed.pretrain(
        start=teacher,
        preset="smoke",
        sources=["smoke"],
        max_steps=4,
        warmup_steps=1,
        learning_rate=1e-3,
        output_dir=tmp_path / "python",
    )
    weights = [sha256_file(folder / "model.safetensors") for folder in (tmp_path / "cli" / "model", result.model)]
    assert weights[0] == weights[1]


def test_a_finished_run_is_returned_and_not_trained_again(teacher: Path) -> None:
    before = (teacher / "model.safetensors").stat().st_mtime_ns
    again = compact_biomed.pretrain("biominilm_cl", preset="smoke", output_dir=teacher.parent)
    assert again.finished and (teacher / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("backend", ["own", "textbrewer"])
def test_a_users_textbrewer_configuration_is_trained(teacher: Path, tmp_path: Path, backend: str) -> None:
    config = library().DistillationConfig(
        temperature=2, kd_loss_type="ce", kd_loss_weight=4, hard_label_weight=1, intermediate_matches=MATCHES
    )
    result = compact_biomed.distill(
        teacher=teacher,
        student_layers=1,
        loss=config,
        preset="smoke",
        max_steps=2,
        warmup_steps=1,
        loss_backend=backend,
        output_dir=tmp_path / "run",
    )
    terms = result.record["hyperparameters"]["terms"]
    assert [(term["loss"], term["weight"]) for term in terms] == [
        ("mlm_cross_entropy", 1),
        ("soft_cross_entropy", 4),
        ("attention_mse", 2.0),
    ]
    assert any("attention_mse_0_1" in name for name in result.record["log"][-1])


def test_both_backends_train_to_the_same_loss(teacher: Path, tmp_path: Path) -> None:
    losses = []
    for backend in ("own", "textbrewer"):
        folder = tmp_path / backend
        flags = ["--preset", "smoke", "--max-steps", "4", "--warmup-steps", "1", "--precision", "fp32"]
        how = ["--loss-backend", backend, "--output-dir", str(folder), "--teacher", str(teacher)]
        assert main(["train", "distill", "--student-layers", "1", "--loss", "compactbiobert", *how, *flags]) == 0
        losses.append(json.loads((folder / "record.json").read_text())["heldout"]["after"]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_matches_in_a_file_replace_the_terms_on_layers(teacher: Path, tmp_path: Path) -> None:
    file = tmp_path / "matches.json"
    file.write_text(json.dumps(MATCHES))
    from compact_biomed.cli.recipe import parsed_run

    flags = ["--teacher", str(teacher), "--student-layers", "1", "--textbrewer-config", str(file)]
    run, _ = parsed_run(None, flags, distillation=True)
    losses = [term.loss for term in run.hyperparameters.terms]
    assert losses == ["mlm_cross_entropy", "soft_kl", "attention_mse"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not JSON"),
        ('{"temperture": 2}', "temperture"),
        ('[{"layer_S": 0}]', "not a TextBrewer configuration"),
        (json.dumps([MATCHES[0] | {"loss": "mmd"}]), "'mmd' is not supported"),
    ],
)
def test_a_broken_configuration_is_one_line(content: str, says: str, tmp_path: Path, capsys) -> None:
    file = tmp_path / "loss.json"
    file.write_text(content)
    flags = ["--teacher", "own/model", "--student-layers", "1", "--textbrewer-config", str(file)]
    assert main(["train", "distill", *flags]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(file) in error and says in error
