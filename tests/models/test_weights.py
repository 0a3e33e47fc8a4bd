"""Weights that do not fit their model: refused, or said aloud; never random without a word."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import SIZES, make_checkpoint
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

from compact_biomed.errors import UserError
from compact_biomed.models.checkpoints import load_masked_lm, load_with_head, load_with_new_head
from compact_biomed.models.weights import check_finite

LAST_LAYER = "bert.encoder.layer.1."
NORM = "bert.embeddings.LayerNorm.weight"
Weights = dict[str, Tensor]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "checkpoint", "mlm")


def edit(folder: Path, change: Callable[[Weights], Weights], **config) -> Path:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})
    saved = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(saved | config))
    return folder


def unchanged(weights: Weights) -> Weights:
    return weights


def without(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: tensor for name, tensor in weights.items() if not name.startswith(prefix)}


def renamed(prefix: str, other: str) -> Callable[[Weights], Weights]:
    return lambda weights: {
        (other + name.removeprefix(prefix) if name.startswith(prefix) else name): tensor
        for name, tensor in weights.items()
    }


def with_number(name: str, number: float) -> Callable[[Weights], Weights]:
    def change(weights: Weights) -> Weights:
        weights[name].view(-1)[1] = number
        return weights

    return change


REFUSED = {
    "wrapped": (renamed("", "module."), {}, "lacks 37 weights of the encoder", "save the model inside the wrapper"),
    "compiled": (renamed("", "_orig_mod."), {}, "lacks 37 weights of the encoder", "save the model inside the wrapper"),
    "another prefix": (renamed("bert.", "encoder_model."), {}, "lacks 37 weights of the encoder", "config.json"),
    "a layer less": (without(LAST_LAYER), {}, "lacks 16 weights of the encoder", LAST_LAYER),
    "a layer more": (unchanged, {"num_hidden_layers": 1}, "no place for 16 of the weights", LAST_LAYER),
    "wider": (unchanged, {"intermediate_size": 30}, "is 32 in the weights and 30 by config.json", "config.json"),
    "another vocabulary": (unchanged, {"vocab_size": 30}, "in the weights and 30 x 16 by config.json", "embeddings"),
    "not a number": (with_number(NORM, float("nan")), {}, "1 of the 16 numbers in", NORM),
    "infinite": (with_number(NORM, -float("inf")), {}, "1 of the 16 numbers in", NORM),
}


@pytest.mark.parametrize("case", REFUSED)
def test_weights_of_another_encoder_are_refused(checkpoint: Path, case: str) -> None:
    change, config, *words = REFUSED[case]
    edit(checkpoint, change, **config)
    attempts = (
        lambda: load_masked_lm(str(checkpoint)),
        lambda: load_with_head(str(checkpoint)),
        lambda: load_with_new_head(str(checkpoint), "token", ["B", "I", "O"], seed=1),
    )
    for attempt in attempts:
        with pytest.raises(UserError) as caught:
            attempt()
        message = str(caught.value)
        assert message.startswith(f"{checkpoint}: ") and "\n" not in message
        for word in words:
            # A bare encoder has its weights without a prefix.
            assert word in message or word.removeprefix("bert.") in message, (word, message)


def as_saved_long_ago(weights: Weights) -> Weights:
    weights = renamed("", "")(weights)
    old = {n.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): t for n, t in weights.items()}
    return old | {
        "bert.embeddings.position_ids": torch.arange(64)[None],
        "bert.pooler.dense.weight": torch.ones(16, 16),
        "bert.pooler.dense.bias": torch.ones(16),
        "cls.seq_relationship.weight": torch.ones(2, 16),
        "cls.seq_relationship.bias": torch.ones(2),
    }


def test_buffers_other_heads_and_old_names_are_fine(checkpoint: Path) -> None:
    expected = load_masked_lm(str(checkpoint)).state_dict()
    loaded = load_masked_lm(str(edit(checkpoint, as_saved_long_ago)), head="required").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("kind", ["bare", "half a head"])
def test_a_missing_vocabulary_head_is_said_or_refused(checkpoint: Path, kind: str, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "other"
    if kind == "half a head":
        folder = edit(checkpoint, without("cls.predictions.transform"))
    else:
        AutoModel.from_config(AutoConfig.for_model("bert", vocab_size=50, **SIZES["bert"])).save_pretrained(folder)
    load_masked_lm(str(folder))
    assert "head" not in capsys.readouterr().err
    load_masked_lm(str(folder), head="wanted")
    assert f"{folder} has no whole vocabulary head" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"no vocabulary head: .* cls\.predictions"):
        load_masked_lm(str(folder), head="required")


def test_an_unusual_configuration_gives_the_same_logits(checkpoint: Path) -> None:
    ids = torch.tensor([[2, 7, 9, 3]])
    expected = load_masked_lm(str(checkpoint)).eval()(ids).logits
    edit(checkpoint, unchanged, return_dict=False, output_hidden_states=True, pad_token_id=None)
    output = load_masked_lm(str(checkpoint)).eval()(ids)
    assert torch.equal(output.logits, expected) and output.hidden_states is None


def test_large_numbers_whose_sum_overflows_are_finite() -> None:
    check_finite([("large", torch.full((4,), 3e38)), ("whole", torch.arange(3))], where="here")
    with pytest.raises(UserError, match="2 of the 3 numbers in broken"):
        check_finite([("broken", torch.tensor([float("inf"), 1.0, -float("inf")]))], where="here")


def test_positions_numbered_from_the_padding_need_its_id(tmp_path: Path) -> None:
    sizes = {"vocab_size": 50, "max_position_embeddings": 20, **SIZES["bert"]}
    AutoModelForMaskedLM.from_config(AutoConfig.for_model("roberta", **sizes)).save_pretrained(tmp_path)
    edit(tmp_path, unchanged, pad_token_id=None)
    with pytest.raises(UserError, match="pad_token_id is null"):
        load_masked_lm(str(tmp_path))


def test_saved_configurations_do_not_change(checkpoint: Path, tmp_path: Path) -> None:
    AutoModelForMaskedLM.from_pretrained(checkpoint).save_pretrained(tmp_path / "plain")
    load_masked_lm(str(checkpoint)).save_pretrained(tmp_path / "ours")
    assert (tmp_path / "plain" / "config.json").read_bytes() == (tmp_path / "ours" / "config.json").read_bytes()
