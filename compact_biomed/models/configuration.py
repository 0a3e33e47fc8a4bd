"""The files beside a checkpoint's weights: which entries are read, and of which type they must be.

transformers takes some wrong types without a word, and meets others with an error that names neither file nor entry.
"""

from pathlib import Path
from typing import Annotated, Any, TypedDict

from compact_biomed.settings import Range, read_json

COPY_AGAIN = "copy the file again from where the weights are from"
_Size = Annotated[int, Range(1, 2**31)]


class _Config(TypedDict, total=False):
    """Entries of config.json that this package reads, or whose wrong type transformers does not report."""

    model_type: str
    architectures: list[str] | None
    problem_type: str | None
    id2label: dict[str, str]
    label2id: dict[str, int]
    vocab_size: _Size
    hidden_size: _Size
    num_hidden_layers: _Size
    num_attention_heads: _Size
    intermediate_size: _Size
    max_position_embeddings: Annotated[int, Range(-1, 2**31)]
    type_vocab_size: Annotated[int, Range(0, 2**31)]
    pad_token_id: Annotated[int, Range(-1, 2**31)] | None
    layer_norm_eps: float
    initializer_range: float
    hidden_dropout_prob: Annotated[float, Range(0, 1)]
    attention_probs_dropout_prob: Annotated[float, Range(0, 1)]
    return_dict: bool


class _TokenizerConfig(TypedDict, total=False):
    model_max_length: Annotated[float, Range(1)]
    tokenizer_class: str
    do_lower_case: bool


_SCHEMAS: dict[str, Any] = {
    "config.json": _Config,
    "tokenizer_config.json": _TokenizerConfig,
    "tokenizer.json": dict[str, Any],
    "special_tokens_map.json": dict[str, Any],
}


def check_configuration(folder: Path) -> None:
    """Check the settings of a local checkpoint before transformers reads them.

    Raises:
        UserError: not JSON, or an entry of the wrong type.
    """
    for name, schema in _SCHEMAS.items():
        if (folder / name).is_file():
            read_json(folder / name, schema, remedy=COPY_AGAIN)
