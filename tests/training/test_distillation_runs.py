"""Runs of distillation: teacher and student, from start to end, killed and gone on with, in the published way."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open
from test_resume import KILL, LONG, TRAINER, names, weights
from transformers import AutoModel, AutoTokenizer

from compact_biomed.files import sha256_file

STUDENTS = {
    "distilbiobert": {"mlm_cross_entropy", "soft_kl", "hidden_cosine"},
    "compactbiobert": {"mlm_cross_entropy", "soft_kl", "hidden_cosine", "attention_kl"},
    "tinybiobert": {"soft_cross_entropy", "hidden_mse", "attention_mse"},
}


def finished(runs, folder: Path, recipe: str, *flags: object) -> tuple[dict, str]:
    code, said = runs(recipe, "--output_dir", folder, *flags)
    assert code == 0, said
    return json.loads((folder / "record.json").read_text()), said


@pytest.fixture(scope="module")
def teacher(runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of the user's own."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    finished(runs, folder, "biominilm_cl", "--seed", 5)
    return folder / "model"


@pytest.mark.parametrize("recipe", STUDENTS)
def test_a_student_and_its_record(runs, tmp_path: Path, recipe: str) -> None:
    record, said = finished(runs, tmp_path / "run", recipe, "--gradient_shares")
    assert record["kind"] == "distillation"
    assert len(record["hyperparameters"]["teacher_sha256"]) == 64
    assert record["weights_sha256"] == sha256_file(tmp_path / "run" / "model" / "model.safetensors")
    assert {"unigram", "before", "after", "teacher"} <= set(record["heldout"])
    assert record["heldout"]["after"]["kl_to_teacher"] > 0
    assert "the teacher" in said and "KL to the teacher" in said
    assert list((tmp_path / "run" / "logs").glob("events.*"))  # also where the teacher was made in this process
    assert "its teacher" in (tmp_path / "run" / "model" / "README.md").read_text()
    first, last = record["log"][0], record["log"][-1]
    terms = {key.removeprefix("term/") for key in last if key.startswith("term/")}
    assert {name.rstrip("_0123456789") for name in terms} == STUDENTS[recipe]
    for entry in record["log"]:
        assert entry["loss"] == pytest.approx(sum(entry[f"weighted/{term}"] for term in terms), rel=1e-3)
        assert sum(entry[f"gradient_share/{term}"] for term in terms) == pytest.approx(1, abs=1e-2)
    # No term is constant, and each moves the student.
    assert all(first[f"term/{term}"] != last[f"term/{term}"] for term in terms)
    assert all(last[f"gradient_share/{term}"] > 0 for term in terms)


def test_a_student_by_relations_is_an_encoder(runs, tmp_path: Path) -> None:
    """No term reads its vocabulary head: neither is it saved, nor is the prediction of words measured."""
    record, said = finished(runs, tmp_path / "run", "relationbiobert")
    terms = {f"{vectors}_relation_kl_1_3" for vectors in ("query", "key", "value")}
    assert record["heldout"].keys() == {"before", "after"}
    for row in record["heldout"].values():
        assert row.keys() == {"distillation_loss", "terms", "documents"} and row["terms"].keys() == terms
        assert row["distillation_loss"] == pytest.approx(sum(row["terms"].values()))
    assert 0 < record["heldout"]["after"]["distillation_loss"] < record["heldout"]["before"]["distillation_loss"]
    said = said.rpartition("relationbiobert, preset smoke")[2]  # before it, the first run trains the teacher
    assert "fine-tune it" in said and "MLM loss" not in said and "AutoModel." in said
    with safe_open(tmp_path / "run" / "model" / "model.safetensors", "pt") as tensors:
        assert "embeddings.word_embeddings.weight" in tensors.keys()
        assert not [name for name in tensors.keys() if "predictions" in name]
        assert record["parameters"] == sum(tensors.get_tensor(name).numel() for name in tensors.keys())
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "feature-extraction" in card and "masked-lm" not in card and "value_relation_kl_1_3" in card
    assert record["hyperparameters"]["relation_heads"] == 8 and "relation_layer" not in record["hyperparameters"]
    # Nothing was masked, and the student resumes from a whole masked-LM.
    assert record["hyperparameters"]["mask_probability"] == 0
    with safe_open(tmp_path / "run" / "checkpoint-12" / "model.safetensors", "pt") as tensors:
        assert [name for name in tensors.keys() if "predictions" in name]


def test_a_bare_encoder_teaches_by_relations_and_not_by_logits(runs, tmp_path: Path, teacher: Path) -> None:
    encoder = tmp_path / "encoder"
    AutoModel.from_pretrained(teacher).save_pretrained(encoder)
    AutoTokenizer.from_pretrained(teacher).save_pretrained(encoder)
    record, _ = finished(runs, tmp_path / "run", "relationbiobert", "--teacher", encoder, "--max_steps", 2)
    assert record["hyperparameters"]["teacher_sha256"] == sha256_file(encoder / "model.safetensors")
    code, said = runs("distilbiobert", "--teacher", encoder, "--output_dir", tmp_path / "other")
    assert code == 1 and "no vocabulary head" in said


@pytest.mark.slow
def test_relations_of_another_layer_and_with_mlm(runs, tmp_path: Path) -> None:
    flags = ("--relation_layer", "upper-middle", "--relation_heads", 4)
    upper, _ = finished(runs, tmp_path / "upper", "relationbiobert", *flags)
    assert "key_relation_kl_1_2" in upper["heldout"]["after"]["terms"]
    assert {term["heads"] for term in upper["hyperparameters"]["terms"]} == {4}
    code, said = runs("relationbiobert", "--relation_heads", 5, "--output_dir", tmp_path / "five")
    assert code == 1 and "5 relation heads" in said and "1, 2, 4, 8" in said


def test_the_projection_is_not_exported(runs, tmp_path: Path) -> None:
    finished(runs, tmp_path / "run", "tinybiobert")
    checkpoint = sorted(names(tmp_path / "run") & {"checkpoint-12"})
    assert checkpoint and (tmp_path / "run" / "checkpoint-12" / "projections.safetensors").is_file()
    assert not (tmp_path / "run" / "model" / "projections.safetensors").exists()
    with safe_open(tmp_path / "run" / "model" / "model.safetensors", "pt") as tensors:
        assert not [name for name in tensors.keys() if "projection" in name]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["compactbiobert", "tinybiobert", "relationbiobert"])
def test_killed_and_gone_on_with_it_ends_in_the_same_bits(runs, tmp_path: Path, recipe: str) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    record, _ = finished(runs, whole, recipe, *LONG)
    for where in (
        {"at": f"{TRAINER}.training_step", "call": 6},
        {"at": "compact_biomed.training.checkpoint:save_file", "call": 1, "after": True},
        {"at": f"{TRAINER}.training_step", "call": 5, "after": True},
    ):
        code, said = runs(recipe, *LONG, "--output_dir", killed, signal={"number": KILL, **where})
        assert code == -KILL, said
    again, said = finished(runs, killed, recipe, *LONG)
    assert "Resuming from" in said
    assert weights(killed) == weights(whole)
    assert names(killed) == names(whole)
    last = f"checkpoint-{LONG[1]}"
    for name in ("optimizer.safetensors", *(["projections.safetensors"] if recipe == "tinybiobert" else [])):
        assert (killed / last / name).read_bytes() == (whole / last / name).read_bytes()
    assert [e["loss"] for e in record["log"]] == [e["loss"] for e in again["log"]]


@pytest.mark.parametrize("recipe", STUDENTS)
def test_the_published_way(runs, tmp_path: Path, recipe: str) -> None:
    record, _ = finished(runs, tmp_path / "run", recipe, "--fidelity", "published", "--teacher_dropout", "off")
    hyperparameters = record["hyperparameters"]
    assert (hyperparameters["teacher_dropout"], hyperparameters["copy_head"]) == (
        False,
        False,
    )  # the single switch wins
    assert (
        hyperparameters["maps_after_dropout"] and hyperparameters["cell_average"] and hyperparameters["padding_in_mse"]
    )


def test_the_modules_of_transformers_teach_as_well(runs, tmp_path: Path) -> None:
    fast, _ = finished(runs, tmp_path / "fast", "compactbiobert", "--max_steps", 2)
    slow, _ = finished(runs, tmp_path / "slow", "compactbiobert", "--max_steps", 2, "--kernels", "transformers")
    # The draw of dropout differs, the held-out measurement of the start does not.
    assert slow["heldout"]["before"]["loss"] == pytest.approx(fast["heldout"]["before"]["loss"], rel=1e-2)
    assert slow["heldout"]["teacher"]["loss"] == pytest.approx(fast["heldout"]["teacher"]["loss"], rel=1e-2)


def test_mlm_alone_is_a_control_of_the_same_start(runs, tmp_path: Path) -> None:
    flags = ("--leave_out", "soft_kl", "hidden_cosine")
    control, _ = finished(runs, tmp_path / "control", "distilbiobert", *flags)
    student, _ = finished(runs, tmp_path / "student", "distilbiobert")
    assert control["heldout"]["before"] == student["heldout"]["before"]
    assert control["weights_sha256"] != student["weights_sha256"]
    assert control["flops"] < student["flops"]  # no teacher is computed
    assert control["log"][0]["loss"] == pytest.approx(2 * control["log"][0]["term/mlm_cross_entropy"], rel=1e-3)


def test_a_teacher_of_ones_own(runs, tmp_path: Path, teacher: Path) -> None:
    own, _ = finished(runs, tmp_path / "run", "distilbiobert", "--teacher", teacher)
    assert own["hyperparameters"]["teacher_sha256"] == sha256_file(teacher / "model.safetensors")
    # The folder remembers whose student it holds.
    code, said = runs("distilbiobert", "--output_dir", tmp_path / "run")
    assert (code, said.count("\n")) == (1, 1)
    assert "teacher" in said and "--fresh" in said


def test_the_teacher_reads_the_students_text_and_no_other(runs, tmp_path: Path) -> None:
    """What is held out from the student is held out from its teacher: another share makes another teacher."""
    usual, _ = finished(runs, tmp_path / "usual", "distilbiobert")
    other, said = finished(runs, tmp_path / "other", "distilbiobert", "--heldout_fraction", 0.3)
    assert other["hyperparameters"]["teacher_sha256"] != usual["hyperparameters"]["teacher_sha256"]
    assert "does not exist yet" in said
    assert list((tmp_path / "other" / "logs").glob("events.*"))


def test_other_text_under_the_same_name_is_refused(runs, tmp_path: Path) -> None:
    text, run = tmp_path / "text.jsonl", tmp_path / "run"
    flags = ("--sources", text, "--keep_title_only", "--heldout_fraction", 0.3, "--output_dir", run)

    def write(word: str) -> None:
        lines = [{"pmid": n, "title": f"{word} bo", "abstract": f"{word} " * 9} for n in range(1, 60)]
        text.write_text("".join(json.dumps(line) + "\n" for line in lines))

    write("ba")
    at = {"at": f"{TRAINER}.training_step", "call": 6, "number": KILL}
    assert runs("biotinybert_cl", *flags, signal=at)[0] == -KILL
    write("be")
    code, said = runs("biotinybert_cl", *flags)
    assert code == 1 and "text of this run's sources has changed" in said, said
    write("ba")
    assert runs("biotinybert_cl", *flags)[0] == 0


@pytest.mark.parametrize(
    ("flags", "words", "status"),
    [
        (("--layer_map", "0,9"), ("layer", "0 to 3"), 1),
        (("--layer_map", "sideways"), ("sideways",), 1),
        (("--leave_out", "attention_kl"), ("attention_kl", "soft_kl"), 2),
        (("--leave_out", "soft_kl", "hidden_cosine", "mlm_cross_entropy"), ("every term",), 2),
        (("--teacher", "./nowhere"), ("nowhere",), 1),
    ],
)
def test_what_does_not_fit_is_one_line(runs, tmp_path: Path, flags: tuple, words: tuple, status: int) -> None:
    code, said = runs("distilbiobert", "--output_dir", tmp_path / "run", *flags)
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == status and len(errors) == 1 and "Traceback" not in said, said
    assert all(word in errors[0] for word in words), errors
