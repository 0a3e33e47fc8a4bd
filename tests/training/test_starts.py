"""Start weights that a recipe makes, and those that are sliced out of a wider checkpoint."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoConfig, BertModel

from compact_biomed.errors import UserError
from compact_biomed.models.locate import REGISTRY_MINILM as MINILM
from compact_biomed.training import prerequisites
from compact_biomed.training.data import SHARES, documents_of
from compact_biomed.training.recipe import load_recipe
from compact_biomed.training.resolve import resolve
from compact_biomed.training.shapes import architecture_config


def finished(runs, folder: Path, recipe: str, *flags: object) -> tuple[dict, str]:
    code, said = runs(recipe, "--output-dir", folder, *flags)
    assert code == 0, said
    return json.loads((folder / "record.json").read_text()), said


def distance(record: dict, when: str) -> dict[str, float]:
    return record["heldout"][when]["terms"]


@pytest.fixture(scope="module")
def general(runs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, str]:
    """A general TinyBERT: its folder, its record, and what the run said."""
    folder = tmp_path_factory.mktemp("general") / "run"
    return folder, *finished(runs, folder, "tinybert_general", "--max-steps", 24)


def test_a_general_tinybert_comes_nearer_to_its_teacher(general: tuple[Path, dict, str]) -> None:
    _folder, record, said = general
    before, after = distance(record, "before"), distance(record, "after")
    assert [name for name in before if name.startswith("hidden")] == [
        "hidden_mse_0_0",
        "hidden_mse_1_2",
        "hidden_mse_2_4",
    ]
    assert sum(after.values()) < sum(before.values())
    assert record["hyperparameters"]["documents"] == "start"
    assert "teacher" not in record["heldout"]  # its vocabulary head teaches nothing
    assert "MLM loss" not in said.rpartition("Done in")[2]


def test_a_sliced_start_is_nearer_than_a_random_one(runs, general: tuple[Path, dict, str], tmp_path: Path) -> None:
    random, _ = finished(runs, tmp_path / "random", "tinybert_general", "--max-steps", 0, "--start", "random")
    for name, value in distance(general[1], "before").items():
        assert value < 0.8 * distance(random, "before")[name], name


def test_a_general_mobilebert_comes_nearer_to_its_teacher(runs, tmp_path: Path) -> None:
    record, _ = finished(runs, tmp_path / "run", "mobilebert_general", "--max-steps", 24)
    before, after = distance(record, "before"), distance(record, "after")
    assert list(before) == ["hidden_mse_0_0", "hidden_mse_1_1", "hidden_mse_2_2"]
    assert all(after[name] < before[name] for name in before)


def test_a_start_that_is_missing_is_made_once_and_read_from_then_on(runs, tmp_path: Path) -> None:
    flags = ("--start", "recipe:tinybert_general", "--documents", "rest", "--max-steps", 2)
    record, said = finished(runs, tmp_path / "first", "biotinybert_cl", *flags)
    assert "start weights do not exist yet: tinybert_general, preset smoke" in said
    digest = record["hyperparameters"]["start_sha256"]
    assert len(digest) == 64 and record["start_sha256"] == {"recipe:tinybert_general": digest}
    again, said = finished(runs, tmp_path / "again", "biotinybert_cl", *flags)
    assert "do not exist" not in said
    assert again["weights_sha256"] == record["weights_sha256"]
    distilled, _ = finished(runs, tmp_path / "student", "tinybiobert", *flags)
    assert distilled["hyperparameters"]["start_sha256"] == digest


def test_a_start_can_be_sliced_out_of_a_checkpoint(runs, general: tuple[Path, dict, str], tmp_path: Path) -> None:
    folder, wide, _ = general
    flags = ("--start", f"sliced:{folder / 'model'}", "--max-steps", 0)
    record, _ = finished(runs, tmp_path / "run", "biotinybert_cl", *flags)
    assert list(record["start_sha256"].values()) == [wide["weights_sha256"]]
    assert record["hyperparameters"]["tokenizer"] == str(folder / "model")
    # Of the same size, it is the same model, but for the vocabulary bias.
    ours, theirs = (load_file(place / "model" / "model.safetensors") for place in (tmp_path / "run", folder))
    assert not any(name.startswith("cls.") for name in theirs)  # nothing trained its vocabulary head
    ids = torch.arange(10, 40)[None]
    states = [BertModel(AutoConfig.from_pretrained(folder / "model"), add_pooling_layer=False).eval() for _ in "ab"]
    for model, weights in zip(states, (ours, theirs), strict=True):
        encoder = {name.removeprefix("bert."): w for name, w in weights.items() if not name.startswith("cls.")}
        model.load_state_dict(encoder)
    torch.testing.assert_close(*(model(ids).last_hidden_state for model in states), rtol=1e-3, atol=1e-3)


def test_the_shares_of_the_documents_are_apart_and_stay_where_they_are() -> None:
    keys = np.random.default_rng(0).integers(0, 2**63, 4000).astype(np.uint64)
    split = Dataset.from_dict({"key": keys, "row": range(len(keys))})
    start, rest = (set(documents_of(split, share)["row"]) for share in ("start", "rest"))
    assert not start & rest and start | rest == set(range(len(keys)))
    assert len(start) / len(keys) == pytest.approx(SHARES["start"][1], abs=0.03)
    fewer = split.select(range(0, len(keys), 3))  # other documents do not move a document
    assert set(documents_of(fewer, "start")["row"]) == start & set(fewer["row"])
    assert documents_of(split, "all") is split
    lonely = split.select(sorted(rest)[:1])
    with pytest.raises(UserError, match=r"--documents.*none of 1 documents"):
        documents_of(lonely, "start")


def test_starts_have_no_paper_preset() -> None:
    for name in ("tinybert_general", "mobilebert_general"):
        with pytest.raises(UserError, match="no preset paper"):
            resolve(load_recipe(name), "paper")


@pytest.mark.parametrize("name", ["biotinybert_cl", "tinybiobert", "relationbiobert", "biomobilebert_cl"])
def test_a_start_and_what_follows_read_different_documents(name: str) -> None:
    following = resolve(load_recipe(name), "mini").hyperparameters
    start = resolve(load_recipe(following.start.removeprefix("recipe:")), "mini").hyperparameters
    assert (start.documents, following.documents) == ("start", "rest")
    sizes = [architecture_config(each, 30_522).to_dict() for each in (start, following)]
    assert sizes[0] == sizes[1]
    for setting in ("sources", "max_length", "heldout_fraction"):
        assert getattr(start, setting) == getattr(following, setting)


@pytest.mark.parametrize("name", ["tinybert_general", "mobilebert_general", "biotinybert_cl", "tinybiobert"])
def test_a_record_names_all_weights_that_a_model_derives_from(name: str, tmp_path: Path, monkeypatch) -> None:
    """A release takes its license from them."""
    made_start = {"start_sha256": {"teacher": "ab", MINILM: "cd"}}
    monkeypatch.setattr(prerequisites, "weights_sha256", lambda name: None if name == "random" else f"sum of {name}")
    monkeypatch.setattr(prerequisites.run_folder, "read_record", lambda path: made_start)
    resolved = resolve(load_recipe(name), "mini")
    made = resolved.hyperparameters.start.startswith("recipe:")
    needed = prerequisites.Ready(resolved, start=str(tmp_path / "model") if made else None)
    sums = prerequisites.start_checksums(needed)
    assert sums[MINILM] == ("cd" if made else f"sum of {MINILM}")
    assert sums.get("teacher") == ("" if resolved.is_distillation else None)
    assert set(sums) - {MINILM, "teacher"} == ({resolved.hyperparameters.start} if made else set())
