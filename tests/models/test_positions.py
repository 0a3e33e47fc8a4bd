"""The longest input of each architecture, held against what its model computes."""

import pytest
import torch
from transformers import AutoConfig, AutoModel

from compact_biomed.errors import UserError
from compact_biomed.models.positions import longest_input, require_positions

ROWS = 20
COMMON = {
    **{"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16},
    "max_position_embeddings": ROWS,
}
ARCHITECTURES = {
    "bert": {},
    "distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16},
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "roberta": {},
    "roberta, padding 5": {"pad_token_id": 5},
    "camembert": {},
    "xlm-roberta": {},
    "mpnet": {},
    "esm": {"pad_token_id": 1, "mask_token_id": 3, "position_embedding_type": "absolute"},
    "nystromformer": {"num_landmarks": 2, "segment_means_seq_len": 4},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_model_reads_so_many_tokens_and_no_more(name: str) -> None:
    config = AutoConfig.for_model(name.partition(",")[0], **COMMON | ARCHITECTURES[name])
    limit = longest_input(config)
    model = AutoModel.from_config(config).eval()
    with torch.no_grad():
        model(torch.full((1, limit), 7))
        if name == "nystromformer":  # the table has two rows that it never uses
            assert limit == ROWS
            return
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, limit + 1), 7))


def test_other_positions() -> None:
    relative = AutoConfig.for_model("deberta-v2", max_position_embeddings=70, position_biased_input=False)
    assert longest_input(relative) == 70
    assert longest_input(AutoConfig.for_model("modernbert", max_position_embeddings=8192)) == 8192
    assert longest_input(AutoConfig.for_model("t5")) is None


def test_nothing_is_drawn_or_changed() -> None:
    config = AutoConfig.for_model("roberta", **COMMON)
    state, before = torch.get_rng_state(), config.to_json_string()
    assert longest_input(config) == ROWS - 2
    assert torch.equal(state, torch.get_rng_state()) and config.to_json_string() == before


def test_what_is_longer_is_one_line() -> None:
    config = AutoConfig.for_model("camembert", **COMMON)
    require_positions(config, ROWS - 2, where="m")
    with pytest.raises(UserError, match=r"m: --max-length 20, but .* at most 18 tokens.*--max-length 18"):
        require_positions(config, ROWS, where="m")
