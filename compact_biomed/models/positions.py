"""The longest input of a model, as its table of position embeddings has it."""

import copy
from functools import lru_cache

import torch
import transformers

from compact_biomed.errors import UserError

_TABLES = ("position_embeddings", "embed_positions")  # transformers' names


def longest_input(config) -> int | None:
    """Return the largest number of tokens that has positions, special tokens included; None = no limit.

    It is the number of rows of the model's table of positions, without those up to the padding index: RoBERTa and its
    relatives number positions from behind it. A model without such a table, or with more rows than it uses, reads what
    its configuration says.
    """
    stated = getattr(config, "max_position_embeddings", None) or 0
    limits = [limit for limit in (stated, _table_rows(_Configuration(config))) if limit > 0]
    return min(limits, default=None)


def require_positions(config, length: int, *, where: object, flag: str = "--max-length") -> None:
    """Raise a `UserError` if inputs of so many tokens are longer than the model reads.

    Args:
        where: model or file, for the message.
        flag: by which the user chose the length.
    """
    limit = longest_input(config)
    if limit is not None and length > limit:
        raise UserError(
            f"{flag} {length}, but this model reads at most {limit} tokens", where=where, remedy=f"{flag} {limit}"
        )


class _Configuration:
    """A configuration as a key of a cache: equal if the content is."""

    def __init__(self, config):
        self.config, self._content = config, (config.model_type, config.to_json_string())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Configuration) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)


@lru_cache(maxsize=32)
def _table_rows(key: _Configuration) -> int:
    """Return how many positions the smallest table has; 0 if there is none. No weights are made."""
    try:
        with torch.device("meta"):
            model = transformers.AutoModel.from_config(copy.deepcopy(key.config))
    except Exception:  # each architecture has its own requirements; whoever loads the model reports them
        return 0
    tables = [module for name, module in model.named_modules() if name.rpartition(".")[2] in _TABLES]
    rows = [
        table.weight.shape[0] - (0 if getattr(table, "padding_idx", None) is None else table.padding_idx + 1)
        for table in tables
        if getattr(getattr(table, "weight", None), "ndim", 0) == 2
    ]
    return min(rows, default=0)
