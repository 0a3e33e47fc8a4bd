"""A run from its start to a folder that anyone can open."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from compact_biomed.files import sha256_file

RECIPES = ("biodistilbert_cl", "biominilm_cl", "biomobilebert_cl", "biotinybert_cl")
# A process that knows nothing of this package.
OPEN = """
import json, sys
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, pipeline
folder, text = sys.argv[1:]
model, loading = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
bare = AutoModel.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
answers = pipeline("fill-mask", model=folder, tokenizer=folder)(text + " " + tokenizer.mask_token)
print(json.dumps({
    "missing": sorted(loading["missing_keys"]), "unexpected": sorted(loading["unexpected_keys"]),
    "entries": len(tokenizer), "rows": model.config.vocab_size, "answers": len(answers),
    "ours": [name for name in sys.modules if name.startswith("compact_biomed")],
}))
"""


def finished(runs, folder: Path, recipe: str = "biotinybert_cl", *flags: object) -> tuple[dict, str]:
    code, said = runs(recipe, "--output-dir", folder, *flags)
    assert code == 0, said
    return json.loads((folder / "record.json").read_text()), said


def test_the_model_opens_without_this_package(runs, tmp_path: Path) -> None:
    finished(runs, tmp_path / "run", "biomobilebert_cl")
    done = subprocess.run(
        [sys.executable, "-I", "-c", OPEN, str(tmp_path / "run" / "model"), "ba"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == {"missing": [], "unexpected": [], "entries": 1205, "rows": 1205, "answers": 5, "ours": []}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_ends_with_all_that_was_promised(runs, tmp_path: Path, recipe: str) -> None:
    folder = tmp_path / "run"
    record, said = finished(runs, folder, recipe)
    model = folder / "model"
    needed = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"}
    assert {path.name for path in model.iterdir()} == needed  # and no pickle
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert list((folder / "logs").glob("events.*"))
    promised = {"kind", "hyperparameters", "corpus", "start_sha256", "speed", "from", "parameters", "tokens", "flops"}
    promised |= {"seconds", "peak_memory_bytes", "heldout", "log", "weights_sha256"}
    assert promised <= set(record)
    assert record["weights_sha256"] == sha256_file(model / "model.safetensors")
    assert record["hyperparameters"]["recipe"] == recipe
    assert [entry["step"] for entry in record["log"]] == [2, 4, 6, 8, 10, 12]
    assert {"loss", "grad_norm", "learning_rate", "tokens", "tokens_per_second"} <= set(record["log"][0])
    assert record["log"][-1]["tokens"] == record["tokens"]
    for row in ("before", "after"):
        assert {"loss", "accuracy", "pseudo_perplexity", "masked_tokens", "documents"} <= set(record["heldout"][row])
    assert "unigram" in record["heldout"]
    card = (model / "README.md").read_text()
    assert "\nlicense: mit\n" in card.split("---")[1]
    assert f"{record['heldout']['after']['loss']:.3f}" in card
    assert "2209.03182" in card
    # The last lines: what was made, how good it is, where it lies, what next.
    for words in ("Done in", "word frequencies alone", "after training", str(model), "Next:"):
        assert words in said, words


def test_a_second_call_says_that_it_is_finished(runs, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    finished(runs, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    _, said = finished(runs, folder)
    assert "finished already" in said
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_runs_repeat_and_seeds_differ(runs, tmp_path: Path) -> None:
    """The held-out numbers belong to weights and test alone: the same before training, whatever the learning rate."""
    one, _ = finished(runs, tmp_path / "1")
    two, _ = finished(runs, tmp_path / "2")
    assert one["heldout"] == two["heldout"]
    assert one["weights_sha256"] == two["weights_sha256"]
    faster, _ = finished(runs, tmp_path / "3", "biotinybert_cl", "--learning-rate", 5e-3)
    assert faster["heldout"]["before"] == one["heldout"]["before"]
    assert faster["heldout"]["after"] != one["heldout"]["after"]
    other, _ = finished(runs, tmp_path / "4", "biotinybert_cl", "--seed", 7)
    assert other["heldout"]["unigram"] == one["heldout"]["unigram"]  # masks and documents of the test are fixed
    assert other["heldout"]["before"]["masked_tokens"] == one["heldout"]["before"]["masked_tokens"]
    assert other["weights_sha256"] != one["weights_sha256"]


@pytest.mark.slow
def test_training_learns_more_than_word_frequencies(runs, tmp_path: Path) -> None:
    """The invented text has topics; a model that reads its context finds them."""
    flags = ("--max-steps", 250, "--batch-size", 16, "--learning-rate", 5e-3, "--logging-steps", 50)
    record, _ = finished(runs, tmp_path / "run", "biominilm_cl", *flags, "--save-steps", 250)
    heldout = record["heldout"]
    assert heldout["after"]["loss"] < heldout["unigram"]["loss"] - 0.2
    assert heldout["after"]["pseudo_perplexity"] < heldout["before"]["pseudo_perplexity"]


def test_modules_of_transformers_learn_the_same(runs, tmp_path: Path) -> None:
    """Speed settings, both extremes: another encoder, one core, other micro-batches. No dropout in evaluation."""
    fast, _ = finished(runs, tmp_path / "1", "biotinybert_cl", "--precision", "fp32", "--learning-rate", 1e-9)
    flags = ("--kernels", "transformers", "--replicas", 1, "--micro-batch-tokens", 64, "--learning-rate", 1e-9)
    plain, _ = finished(runs, tmp_path / "2", "biotinybert_cl", "--precision", "fp32", *flags)
    assert (fast["speed"]["kernels"], plain["speed"]["kernels"]) == ("fast", "transformers")
    assert fast["hyperparameters"] == plain["hyperparameters"]
    assert plain["tokens"] == fast["tokens"]
    for row in ("before", "after"):
        assert plain["heldout"][row] == pytest.approx(fast["heldout"][row], rel=1e-5)


def test_no_steps_give_the_start_weights(runs, tmp_path: Path) -> None:
    record, said = finished(runs, tmp_path / "start", "biotinybert_cl", "--max-steps", 0)
    trained, _ = finished(runs, tmp_path / "trained", "biotinybert_cl")
    assert record["tokens"] == 0 and record["log"] == []
    assert record["heldout"]["before"] == record["heldout"]["after"] == trained["heldout"]["before"]
    assert record["weights_sha256"] != trained["weights_sha256"]
    code, said = runs("biotinybert_cl", "--output-dir", tmp_path / "start", "--max-steps", 0)
    assert code == 0 and "finished already" in said
