"""Whether a tokenizer fits its model and its own vocabulary. One that does not trains without any error."""

import json
import os
import re
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from transformers import PreTrainedTokenizerFast

from compact_biomed.console import say
from compact_biomed.errors import UserError

# Embeddings padded to a multiple of 128 are fine; the vocabulary of another model differs by more.
SPARE_ROWS = 127
# Share of entries with capital letters from which on a vocabulary is cased: 0 in BERT's uncased one, about 0.4 in its
# cased one.
_CASED_SHARE = 0.05


def check_vocabulary(tokenizer: PreTrainedTokenizerFast, config, *, where: str, spare: int = 0) -> None:
    """Raise a `UserError` if the ids of the tokenizer and the rows of the embedding do not match.

    With a wrong vocabulary a model trains without any error, on [UNK] or on other words.
    Published BERT vocabularies match to the unit; the embeddings of some models are padded.

    Args:
        spare: number of rows that may remain unused.
    """
    if not 0 <= config.vocab_size - len(tokenizer) <= spare:
        raise UserError(
            f"the tokenizer has {len(tokenizer):,} entries, the model's embedding {config.vocab_size:,} rows",
            where=where,
            remedy="use the tokenizer that was saved with these weights",
        )


def check_case(tokenizer: PreTrainedTokenizerFast, *, where: str) -> None:
    """Check whether a cased vocabulary is lower-cased, which leaves all its entries with capital letters unused.

    transformers does so if no file states the case: BERT's tokenizer lower-cases by default. If a file does state
    it, that is followed, and said.

    Args:
        where: folder or hub name of the tokenizer.

    Raises:
        UserError: no file states the case.
    """
    normalizer = tokenizer.is_fast and tokenizer.backend_tokenizer.normalizer
    if not normalizer or normalizer.normalize_str("A") != "a":
        return
    entries = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    share = sum(re.search("[A-Z]", entry) is not None for entry in entries) / max(len(entries), 1)
    if share < _CASED_SHARE:
        return
    problem = f"{share:.0%} of the vocabulary has capital letters, but text is lower-cased"
    if _states_case(where):
        say(f"{where}: {problem}, as its tokenizer files say")
        return
    raise UserError(
        f"{problem}, because no file says that it is cased",
        where=where,
        remedy='write {"do_lower_case": false} to tokenizer_config.json there, or true if it must be so',
    )


def _states_case(where: str) -> bool:
    """Return whether a file of the tokenizer says whether text is lower-cased."""
    if _file("tokenizer.json", where) is not None:
        return True
    config = _file("tokenizer_config.json", where)
    return config is not None and "do_lower_case" in json.loads(config.read_text(encoding="utf-8"))


def _file(name: str, where: str) -> Path | None:
    path = Path(where) / name if os.path.isdir(where) else try_to_load_from_cache(where, name)
    return Path(path) if isinstance(path, str | Path) and os.path.isfile(path) else None
