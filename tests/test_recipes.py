"""The recipes: published settings to the digit, flags, and what is told before anything runs."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from compact_biomed.cli.recipe import main
from compact_biomed.errors import UserError
from compact_biomed.models.architectures import ARCHITECTURES, SCALE_OF_PRESET
from compact_biomed.objectives.evaluate import check_fit
from compact_biomed.objectives.terms import RELATIONS, expand_between
from compact_biomed.training.recipe import PRESETS, load_recipe
from compact_biomed.training.resolve import resolve

RECIPES = Path(__file__).parents[1] / "recipes"
NAMES = sorted(path.stem for path in RECIPES.glob("*_cl.py"))
HUB_NAMES = {
    ("biodistilbert_cl", "cased"): "distilbert-base-cased",
    ("biodistilbert_cl", "uncased"): "distilbert-base-uncased",
    ("biotinybert_cl", None): "huawei-noah/TinyBERT_General_4L_312D",
    ("biomobilebert_cl", None): "google/mobilebert-uncased",
}


def resolved(name: str, preset: str, variant: str | None = None):
    run = resolve(load_recipe(name), preset, variant)
    return run.hyperparameters, run.arguments


def run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("name", "variant"), [*HUB_NAMES, ("biominilm_cl", None)])
def test_paper_settings_are_the_published_ones(name: str, variant: str | None) -> None:
    """Typed here a second time, from the published scripts."""
    hyperparameters, arguments = resolved(name, "paper", variant=variant)
    assert hyperparameters.max_length == 256
    assert hyperparameters.mask_probability == 0.15
    assert hyperparameters.require_abstract is False  # title-only citations stay
    assert hyperparameters.sources == ("nlm",)
    assert arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps == 24 * 8 == 192
    assert arguments.max_steps == 200_000
    assert arguments.learning_rate == 1e-4
    assert arguments.warmup_steps == 10_000
    assert arguments.weight_decay == 0.01
    assert arguments.lr_scheduler_type == "linear"
    assert (arguments.adam_beta1, arguments.adam_beta2, arguments.adam_epsilon) == (0.9, 0.999, 1e-8)
    assert arguments.max_grad_norm == 1.0
    assert hyperparameters.embeddings_from is hyperparameters.layers_from is None
    if name != "biominilm_cl":  # has no paper model
        assert hyperparameters.start == hyperparameters.tokenizer == HUB_NAMES[name, variant]
        assert hyperparameters.decoder_bias is False  # a head start that the published runs did not have


@pytest.mark.parametrize(
    ("name", "warmup", "decay", "layers"),
    [
        ("distilbiobert", 5_000, 0.0, "even"),
        ("compactbiobert", 5_000, 1e-4, "odd"),
        ("tinybiobert", 10_000, 1e-4, "spaced"),
    ],
)
def test_paper_settings_of_distillation(name: str, warmup: int, decay: float, layers: str) -> None:
    """Typed here a second time, from the published scripts."""
    hyperparameters, arguments = resolved(name, "paper")
    assert hyperparameters.teacher == "dmis-lab/biobert-base-cased-v1.2"
    assert hyperparameters.loss == name
    assert (hyperparameters.max_length, hyperparameters.mask_probability, hyperparameters.sources) == (
        256,
        0.15,
        ("nlm",),
    )
    assert arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps == 192
    assert (arguments.max_steps, arguments.learning_rate) == (100_000, 5e-4)
    assert (arguments.warmup_steps, arguments.weight_decay) == (warmup, decay)
    assert arguments.lr_scheduler_type == "linear"
    assert hyperparameters.layer_map == layers
    assert hyperparameters.start == ("random" if name == "tinybiobert" else "teacher")
    assert hyperparameters.temperature == (2.0 if name == "distilbiobert" else 1.0)
    assert hyperparameters.embeddings_from is None and hyperparameters.decoder_bias is False


@pytest.mark.parametrize("preset", PRESETS)
def test_relations_fit_the_student_and_its_teacher_at_every_scale(preset: str) -> None:
    """The widths are unequal at every scale, and nothing but relations is compared."""
    hyperparameters, _ = resolved("relationbiobert", preset)
    scale = SCALE_OF_PRESET[preset]
    student, teacher = (ARCHITECTURES[name][scale].config(2000) for name in ("relationbiobert", "biobert"))
    terms = expand_between(hyperparameters.terms, student, teacher, layers=hyperparameters.layer_map)
    check_fit(terms, student, teacher)
    assert student.hidden_size != teacher.hidden_size
    assert tuple(term.loss for term in terms) == RELATIONS and {term.weight for term in terms} == {1.0}
    last = student.num_hidden_layers - 1, teacher.num_hidden_layers - 1
    assert {(term.layer_S, term.layer_T) for term in terms} == {last}
    beside = resolved("tinybiobert", preset)[0]  # the two differ by their loss
    assert (hyperparameters.start, hyperparameters.documents) == (beside.start, beside.documents)
    assert hyperparameters.mask_probability == 0
    if scale != "smoke":
        assert shape_of(student) == shape_of(ARCHITECTURES["tinybiobert"]["paper"].config(2000))


def shape_of(config) -> tuple[int, ...]:
    return config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.intermediate_size


def test_uncased_is_the_default_and_cased_is_for_paper_only() -> None:
    assert resolved("biodistilbert_cl", "paper")[0].start == "distilbert-base-uncased"
    with pytest.raises(UserError, match="paper preset only"):
        resolve(load_recipe("biodistilbert_cl"), "quick", "cased")


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_resolves(name: str) -> None:
    for preset in ("smoke", "quick", "mini", "paper"):
        hyperparameters, arguments = resolved(name, preset)
        assert (hyperparameters.recipe, hyperparameters.preset) == (name, preset)
        assert arguments.max_steps > arguments.warmup_steps


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--learning-rat", "1"], "did you mean --learning-rate?"),
        (["--presett", "quick"], "did you mean --preset?"),
        (["--outptu-dir=x"], "did you mean --output-dir?"),
        (["--zzzzzz"], "see --help"),
        (["quick"], "unexpected argument 'quick'"),
        (["--max-steps", "5", "quick"], "unexpected argument 'quick'"),
        (["--max-steps", "-1"], "at least 0"),
        (["--mask-probability", "15"], "between 0 and 1"),
        (["--max-length", "0"], "at least 1"),
    ],
)
def test_wrong_flags_are_one_line(flags: list[str], said: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(load_recipe("biotinybert_cl"), flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert said in error
    assert not list(tmp_path.iterdir())  # nothing was made


@pytest.mark.parametrize("flags", [["--preset", "huge"], ["--replicas", "two"]])
def test_wrong_values_are_wrong_usage(flags: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(load_recipe("biotinybert_cl"), flags)
    assert end.value.code == 2
    assert flags[0] in capsys.readouterr().err


COMMANDS = [*([str(RECIPES / f"{name}.py")] for name in NAMES), ["-m", "compact_biomed"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: Path(c[-1]).stem)
def test_help_answers_at_once(command: list[str]) -> None:
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        done = run(*command, "--help")
        seconds.append(time.monotonic() - start)
        assert done.returncode == 0, done.stderr
        if seconds[-1] < 1:
            break
    assert done.stdout.startswith("usage: ")
    assert min(seconds) < 1, seconds


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: Path(c[-1]).stem)
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    done = run("-X", "importtime", *command, "--help")
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "argparse" in imported
    assert not imported & {"torch", "transformers", "numpy", "datasets", "tokenizers", "pyarrow"}


@pytest.mark.parametrize(
    "flags",
    ["--sources /no/such/file", "--sources hub:x", "--start /no/such", "--tokenizer /no/such", "--teacher /no/such"],
)
def test_a_dry_run_misses_what_the_run_would_miss(flags: str, capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(load_recipe("compactbiobert"), ["--preset", "smoke", "--dry-run", *flags.split()]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {flags.split()[1]}: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def dry_run(name: str, *flags: str, capsys) -> str:
    assert main(load_recipe(name), ["--dry-run", "--preset", "paper", *flags]) == 0
    return capsys.readouterr().err


def assert_tells_the_plan(said: str) -> None:
    words = ("parameters", "tokens", "training FLOPs", "peak memory", "training time here", "200000", "matmul_ceiling")
    assert [word for word in words if word not in said] == []


def test_dry_run_of_a_paper_preset_needs_no_network(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = dry_run("biotinybert_cl", capsys=capsys)
    assert_tells_the_plan(said)
    # The head's transform has as many weights as the pooler that it replaces; a norm and the
    # decoder's bias come on top, the decoder's matrix being tied.
    assert f"{14_350_248 + 2 * 312 + 30_522:,}" in said
    assert "huawei-noah/TinyBERT_General_4L_312D" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_dry_run_of_the_largest_paper_preset(capsys) -> None:
    said = dry_run("biomobilebert_cl", capsys=capsys)
    assert_tells_the_plan(said)
    # The transform and its norm, MobileBERT's own part of the decoder, the decoder's bias.
    assert f"{24_581_888 + 512 * 513 + 2 * 512 + 384 * 30_522 + 30_522:,}" in said
