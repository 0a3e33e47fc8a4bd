"""A tokenizer reduced to what turning text into numbers needs, checked before it is trusted."""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from compact_biomed.corpus.store import corpus_cache
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_NEEDED = ("mask_token", "cls_token", "sep_token", "pad_token")


@dataclass(frozen=True)
class Vocabulary:
    """What a worker process needs of a tokenizer; small enough to send with every task.

    Args:
        path: the tokenizer as JSON, truncation and padding switched off, in the cache.
        sha256: of that JSON.
        size: len(tokenizer), added tokens included.
        prefix, suffix: ids that stand around every document ([CLS], [SEP]).
        special: ids that are never masked nor counted as text.
    """

    path: Path
    sha256: str
    size: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    special: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerFast", minimum: int = 1000) -> "Vocabulary":
        """Check a loaded tokenizer and put its JSON into the cache; the tokenizer is left as it was.

        Raises:
            UserError: not a fast tokenizer, fewer than `minimum` entries besides the
                special tokens (the sign of a vocabulary file that was not found), no
                [MASK], [CLS], [SEP] or [PAD], or an id outside of the vocabulary.
        """
        name = getattr(tokenizer, "name_or_path", "") or "tokenizer"
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UserError("not a fast tokenizer", where=name, remedy="save it with a tokenizer.json")
        special = tuple(sorted(set(tokenizer.all_special_ids)))
        size = len(tokenizer)
        if size - len(special) < minimum:
            raise UserError(
                f"a vocabulary of {size} entries; at least {minimum} are expected",
                where=name,
                remedy="is tokenizer.json or vocab.txt missing? Load the folder with AutoTokenizer.from_pretrained",
            )
        if missing := [token for token in _NEEDED if getattr(tokenizer, f"{token}_id", None) is None]:
            raise UserError(f"no {', '.join(missing)}", where=name, remedy="masked-language models need all of them")
        clone = Tokenizer.from_str(backend.to_str())
        # Saved tokenizers may carry a truncation or a fixed padding of their own.
        clone.no_truncation()
        clone.no_padding()
        text = clone.to_str()
        sha256 = hashlib.sha256(text.encode("utf-8")).hexdigest()
        prefix, suffix = _frame(clone, name)
        if max((*special, *prefix, *suffix)) >= size or max(clone.get_vocab().values()) >= size:
            raise UserError("an id outside of the vocabulary", where=name, remedy="the tokenizer's files do not fit")
        path = corpus_cache("tokenizers") / f"{sha256[:40]}.json"
        if not path.exists():
            with atomic_file(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return cls(path, sha256, size, prefix, suffix, special)

    @property
    def id_type(self) -> str:
        """The smallest integer type that holds every id; half of the disk and cache for most vocabularies."""
        return "uint16" if self.size <= 65536 else "int32"


@lru_cache(maxsize=1)
def load(path: Path) -> Tokenizer:
    """The tokenizer of `Vocabulary.path`.

    Special tokens written out in a text ("[MASK]") are text to it: only we place them.
    """
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return tokenizer


def _frame(tokenizer: Tokenizer, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids before and after the text, read off one framed example."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    framed = tokenizer.encode("a", add_special_tokens=True).ids
    for start in range(len(framed) - len(bare) + 1):
        if bare and framed[start : start + len(bare)] == bare:
            return tuple(framed[:start]), tuple(framed[start + len(bare) :])
    raise UserError(
        "cannot tell which tokens stand around a text",
        where=name,
        remedy="the tokenizer needs a post-processor such as BERT's",
    )


def digest(vocabulary: Vocabulary) -> str:
    """What of a vocabulary decides the tokens, in one hash: not its place in the cache."""
    parts = [vocabulary.sha256, vocabulary.size, vocabulary.prefix, vocabulary.suffix, vocabulary.special]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
