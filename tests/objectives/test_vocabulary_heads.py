"""Masked-LMs of every supported type: encoder and head, called apart, compute what the model computes."""

import re
from pathlib import Path

import pytest
import torch
from small_models import SIZES, random_batch
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

from compact_biomed.cli import main
from compact_biomed.corpus.smoke import smoke_tokenizer_folder
from compact_biomed.engine.plan import dtype_of
from compact_biomed.errors import UserError
from compact_biomed.objectives.mlm import _MODULE_HEADS, MaskedLM

BERT = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
OWN = {
    "albert": {"embedding_size": 8},
    "convbert": {"embedding_size": 8},
    "electra": {"embedding_size": 8},
    "modernbert": {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": None, "eos_token_id": None},
}


def small(model_type: str, **options):
    sizes = SIZES.get(model_type, BERT) | OWN.get(model_type, {}) | {"vocab_size": 61, "pad_token_id": 0} | options
    torch.manual_seed(2)
    return AutoModelForMaskedLM.from_config(AutoConfig.for_model(model_type, **sizes)).eval()


@pytest.mark.parametrize(
    ("model_type", "options"),
    [(name, {}) for name in sorted(_MODULE_HEADS)]
    + [("deberta", {"legacy": False}), ("deberta-v2", {"legacy": False})],
)
def test_logits_are_those_of_the_model(model_type: str, options: dict) -> None:
    model = small(model_type, **options)
    ids, mask, labels = random_batch([9, 5], 9)
    objective = MaskedLM(model, fast=False).eval()
    scored = labels != -100
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).logits[scored]
        torch.testing.assert_close(objective.logits(ids, mask, scored), expected, atol=1e-5, rtol=1e-5)
    objective.train()(ids, mask, labels).loss_sum.backward()
    untouched = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert all("pooler" in name or "token_type" in name for name in untouched), untouched


def test_another_type_is_one_line_that_names_those_that_work() -> None:
    with pytest.raises(UserError, match="type fnet") as caught:
        MaskedLM(small("fnet"))
    assert "\n" not in str(caught.value)
    for name in ("electra", "albert", "modernbert", "roberta", "deberta"):
        assert name in str(caught.value)


def test_the_documentation_names_all_of_them() -> None:
    page = (Path(__file__).parents[2] / "docs" / "pretraining.md").read_text(encoding="utf-8")
    sentence = page.partition("that can be trained: ")[2].partition(". ")[0]
    assert re.findall("`([^`]+)`", sentence) == sorted(_MODULE_HEADS)


def test_a_model_that_bf16_breaks_is_computed_in_fp32() -> None:
    config = small("deberta").config
    assert dtype_of("auto", config) == torch.float32
    with pytest.raises(UserError, match="bf16"):
        dtype_of("bf16", config)
    assert MaskedLM(small("deberta"), dtype=torch.bfloat16).dtype == torch.float32


@pytest.mark.parametrize("model_type", ["albert", "deberta", "electra", "modernbert", "roberta"])
def test_pretraining_starts_from_it_with_a_padded_vocabulary(model_type: str, tmp_path, capsys) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smoke_tokenizer_folder())
    specials = {"pad_token_id": tokenizer.pad_token_id}
    if model_type == "modernbert":
        specials |= {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
    start = tmp_path / model_type
    small(model_type, vocab_size=len(tokenizer) + 59, **specials).save_pretrained(start)
    tokenizer.save_pretrained(start)
    flags = ("--preset", "smoke", "--max-steps", "1", "--heldout-documents", "4", "--pseudo-positions", "2")
    assert main(["train", "mlm", "--start", str(start), *flags, "--output-dir", str(tmp_path / "run")]) == 0
    trained = AutoModelForMaskedLM.from_pretrained(tmp_path / "run" / "model")
    assert trained.config.model_type == model_type
    assert trained.config.vocab_size == len(tokenizer) + 59
