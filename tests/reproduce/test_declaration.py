"""The declaration is read whole, or refused with the place of what is wrong."""

from pathlib import Path

import pytest
from small_plan import TEXT, declared

from compact_biomed.cli.reproduce import PRESETS
from compact_biomed.errors import UserError
from compact_biomed.reproduce.declaration import load

REAL = Path(__file__).parents[2] / "recipes" / "reproduce.toml"


def test_a_declaration_and_its_models(tmp_path: Path) -> None:
    found = declared(tmp_path)
    assert list(found.models) == ["Teacher", "Student", "Alone", "General"]
    assert found.measurements[0].models == tuple(found.models)
    assert (found.measurements[1].models, found.measurements[1].seeds) == (("Student",), (2,))
    assert found.models["Student"].teacher == "Teacher" and found.results is None


def test_a_teacher_comes_with_its_student(tmp_path: Path) -> None:
    text = TEXT.replace("[presets.smoke]", '[presets.smoke]\nmodels = ["Student"]')
    found = declared(tmp_path, text)
    assert list(found.models) == ["Teacher", "Student"]
    assert found.measurements[0].models == ("Student",)  # nobody asked for the teacher's scores


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[power]", "[pow", "not TOML"),
        ("settings =", "setting =", "reproduce.toml:5: models.Alone.setting: unknown key (did you mean 'settings'?)"),
        ('"somewhere", like = "Teacher"', '"somewhere"', "a checkpoint is like a model that has a recipe"),
        ('like = "Teacher"', 'like = "General"', "a checkpoint is like a model that has a recipe"),
        ('{ recipe = "biominilm_cl" }', "{}", "a model has a recipe or a checkpoint"),
        ('models = ["Student"]', 'models = ["Studnet"]', "presets.smoke: no model 'Studnet'"),
        ('recipe = "biominilm_cl"', 'recipe = "biominilm_cl", teacher = "Student"', "declared before its students"),
        ("difference = 1.0", "", "power: no difference"),
        ("[presets.smoke]", '[presets.smoke]\nmodels = ["General"]', "General is like Teacher, which is not among"),
        ("protocol =", "protocols =", "presets.smoke.protocols: unknown key"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        declared(tmp_path, TEXT.replace(old, new))
    assert said in str(caught.value) and "reproduce.toml" in str(caught.value)


def test_an_unknown_preset_is_named(tmp_path: Path) -> None:
    declared(tmp_path)
    with pytest.raises(UserError, match="no preset 'mini'"):
        load(tmp_path / "reproduce.toml", "mini")


@pytest.mark.parametrize("preset", PRESETS)
def test_the_real_one(preset: str) -> None:
    found = load(REAL, preset)
    teacher = found.compression.teacher if found.compression else "BioMiniLM"
    assert teacher in found.models and found.measurements
    recipes = {path.stem for path in REAL.parent.glob("*.py")}
    assert {model.recipe for model in found.models.values() if model.recipe} <= recipes


def test_mini_has_the_family_and_a_control_for_each_claim() -> None:
    from compact_biomed.report.claims import CLAIMS

    named = {
        n for c in CLAIMS for pair in c.pairs for side in pair for n in ([side] if isinstance(side, str) else side)
    }
    for preset in ("sketch", "mini"):
        found = load(REAL, preset)
        assert named <= set(found.models)
        assert named <= {name for each in found.measurements for name in each.models if len(each.seeds) >= 3}


def test_mini_is_what_the_recipes_call_mini() -> None:
    """36 M tokens per model at 220 tokens per document, the teacher twice that; two pretraining seeds."""
    from compact_biomed.training.recipe import load_recipe

    mini = load(REAL, "mini")
    assert mini.scale == "mini" and not {"max_steps", "batch_size"} & set(mini.training)
    lengths = {model.recipe: load_recipe(model.recipe).at("mini") for model in mini.models.values() if model.recipe}
    tokens = {name: 220.8 * settings["max_steps"] * settings["batch_size"] for name, settings in lengths.items()}
    assert min(tokens.values()) >= 36e6 and tokens["biominilm_cl"] >= 70e6
    family = {name for name, model in mini.models.items() if model.recipe and "-" not in name} - {"RelationBioBERT"}
    assert [set(replicate.models) for replicate in mini.replicates[1:]] == [family]


def test_one_preset_is_shown_everywhere() -> None:
    from compact_biomed.report.manuscript.inputs import SHOWN

    assert [preset for preset in PRESETS if load(REAL, preset).shown] == [SHOWN]
    assert f"RECORDS = results/{SHOWN}/" in (REAL.parents[1] / "Makefile").read_text()
