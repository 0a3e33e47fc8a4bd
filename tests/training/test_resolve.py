"""Runs, resolved: the user's changes in a recipe's settings, at every scale."""

from dataclasses import fields

import pytest

from compact_biomed.cli.recipe import parsed_run
from compact_biomed.errors import UserError
from compact_biomed.objectives.terms import Term
from compact_biomed.training.hyperparameters import FIDELITY, OPTIMIZER_FIELDS
from compact_biomed.training.recipe import load_recipe
from compact_biomed.training.resolve import resolve, resolve_own


def test_fidelity_sets_every_quirk_and_a_switch_wins() -> None:
    student = load_recipe("compactbiobert")
    corrected = resolve(student, "paper").hyperparameters
    assert {k: getattr(corrected, k) for k in FIDELITY["corrected"]} == FIDELITY["corrected"]  # the default
    changes = {"fidelity": "published", "copy_head": True}
    published = resolve(student, "paper", changes=changes).hyperparameters
    assert {k: getattr(published, k) for k in FIDELITY["published"]} == {**FIDELITY["published"], "copy_head": True}


def test_a_record_has_the_settings_of_a_distillation_last_and_in_order() -> None:
    pretraining, distillation = (resolve(load_recipe(name), "mini") for name in ("biominilm_cl", "compactbiobert"))
    shared = [field.name for field in fields(pretraining.hyperparameters)]
    assert [name for name in pretraining.record() if name in ("teacher", "student_layers", "layer_map")] == []
    own = [name for name in distillation.record() if name not in (*shared, *OPTIMIZER_FIELDS)]
    assert own[:6] == ["teacher", "teacher_sha256", "loss", "terms", "layer_map", "student_layers"]


def test_fields_of_training_arguments_in_their_usual_spelling() -> None:
    flags = ["--learning-rate", "3e-4", "--adam-beta2=0.98", "--max-steps", "7", "--seed", "9", "--save-steps", "2"]
    arguments = resolve(load_recipe("biotinybert_cl"), "quick", argument_flags=flags).arguments
    got = (arguments.learning_rate, arguments.adam_beta2, arguments.max_steps, arguments.seed, arguments.save_steps)
    assert got == (3e-4, 0.98, 7, 9, 2)


@pytest.mark.parametrize(
    ("flags", "given", "expected"),
    [
        ([], None, (192, 1)),
        ([], 64, (64, 1)),
        (["--per-device-train-batch-size", "24"], None, (24, 8)),
        (["--gradient-accumulation-steps=4"], None, (48, 4)),
        (["--per-device-train-batch-size", "6", "--gradient-accumulation-steps", "2"], 12, (6, 2)),
    ],
)
def test_a_batch_is_divided_as_asked(flags: list[str], given: int | None, expected: tuple[int, int]) -> None:
    run = resolve(load_recipe("biotinybert_cl"), "paper", changes={"batch_size": given}, argument_flags=flags)
    arguments = run.arguments
    assert (arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps) == expected


@pytest.mark.parametrize(
    ("flags", "given"),
    [
        (["--per-device-train-batch-size", "7"], None),
        (["--gradient-accumulation-steps", "5"], None),
        (["--per-device-train-batch-size", "400"], None),
        (["--per-device-train-batch-size", "0"], None),
        (["--per-device-train-batch-size", "many"], None),
        (["--per-device-train-batch-size", "6", "--gradient-accumulation-steps", "2"], 13),
    ],
)
def test_a_batch_that_cannot_be_divided_is_refused(flags: list[str], given: int | None) -> None:
    with pytest.raises(UserError):
        resolve(load_recipe("biotinybert_cl"), "paper", changes={"batch_size": given}, argument_flags=flags)


def test_terms_of_ones_own_and_what_is_unknown() -> None:
    own = [Term("soft_kl", 1.0), Term("hidden_cosine", 1.0, "each", "mapped")]
    run = resolve(load_recipe("compactbiobert"), "smoke", changes={"terms": tuple(own)})
    assert run.hyperparameters.terms == tuple(own) and run.hyperparameters.loss == "own"
    with pytest.raises(UserError, match="did you mean --learning-rate"):
        resolve(load_recipe("compactbiobert"), "smoke", changes={"learning_rte": 1e-3})
    with pytest.raises(UserError, match="a student is needed"):
        resolve_own(True, "smoke", changes={"teacher": "own/model"})
    with pytest.raises(UserError, match="no recipe 'biobert'"):
        load_recipe("biobert")
    with pytest.raises(UserError, match="unknown loss 'kl'"):
        Term("kl", 1.0)


@pytest.mark.parametrize(
    ("recipe", "flags", "expected"),
    [
        ("biodistilbert_cl", [], ("registry:all-minilm-l6-v2", "registry:all-minilm-l6-v2", (0, 2, 4), None)),
        ("biodistilbert_cl", ["--start", "random"], ("random", "registry:all-minilm-l6-v2", None, None)),
        ("biodistilbert_cl", ["--start", "a/b"], ("a/b", "a/b", None, None)),
        ("biodistilbert_cl", ["--start", "a/b", "--tokenizer", "c/d"], ("a/b", "c/d", None, None)),
        ("biotinybert_cl", [], ("recipe:tinybert_general", "registry:all-minilm-l6-v2", None, None)),
        ("biotinybert_cl", ["--start", "random"], ("random", "registry:all-minilm-l6-v2", None, None)),
        (
            "biotinybert_cl",
            ["--start", "random", "--embeddings-from", "a/b"],
            ("random", "registry:all-minilm-l6-v2", None, "a/b"),
        ),
        ("biotinybert_cl", ["--start", "a/b"], ("a/b", "a/b", None, None)),
        ("biotinybert_cl", ["--start", "sliced:a/b"], ("sliced:a/b", "a/b", None, None)),
        ("biominilm_cl", ["--start", "recipe:tinybert_general"], ("recipe:tinybert_general",) * 2 + (None, None)),
        ("mobilebert_general", ["--embeddings-from", "none"], ("random", "teacher", None, None)),
        ("tinybert_general", ["--start", "random"], ("random", "teacher", None, None)),
    ],
)
def test_where_weights_come_from(recipe: str, flags: list[str], expected: tuple) -> None:
    run, _ = parsed_run(load_recipe(recipe), ["--preset", "mini", *flags])
    found = run.hyperparameters
    assert (found.start, found.tokenizer, found.layers_from, found.embeddings_from) == expected


@pytest.mark.parametrize("flags", [["--embeddings-from", "none"], ["--start", "a/b", "--embeddings-from", "c/d"]])
def test_embeddings_alone_are_not_set_in_other_start_weights(flags: list[str]) -> None:
    with pytest.raises(UserError, match="--start random"):
        parsed_run(load_recipe("biotinybert_cl"), ["--preset", "mini", *flags])


@pytest.mark.parametrize("start", ["random", "sliced:teacher", "sliced:a/b"])
def test_a_student_of_ones_own_needs_a_size(start: str) -> None:
    flags = ["--teacher", "own/model", "--start", start]
    with pytest.raises(UserError, match=r"--student-layers.*no size"):
        parsed_run(None, flags, distillation=True)
    found = parsed_run(None, [*flags, "--student-layers", "2"], distillation=True)[0].hyperparameters
    assert (found.start, found.student_layers) == (start, 2)
