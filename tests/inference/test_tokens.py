"""A text read in blocks has the tokens, words and places that it has as a whole."""
# ruff: noqa: RUF001

import io

import numpy as np
import pytest
from tiny_checkpoints import build_tokenizer

from compact_biomed.inference.words import blocks, tokens

ODD = "  The kinase TNF-α (β–γ) of Müller…\n\n\tin  frogs é́ \u00a0and 🐸🐸 \r\n[SEP] 日本 fevers.  "


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer().backend_tokenizer


def read(text: str):
    return io.StringIO(text, newline="").read


def test_blocks_are_the_text_and_end_with_words() -> None:
    text = "ab cd  efg\nh " * 50
    for size in (1, 3, 7, 1000):
        cut = list(blocks(read(text), size))
        assert "".join(cut) == text
        assert all(not block[-1].isspace() and block[0].isspace() for block in cut[1:-1])


def test_a_run_without_white_space_does_not_fill_the_memory(monkeypatch) -> None:
    monkeypatch.setattr("compact_biomed.inference.words._LONGEST_RUN", 64)
    cut = list(blocks(read("x" * 1000), 16))
    assert "".join(cut) == "x" * 1000 and max(map(len, cut)) <= 80


@pytest.mark.parametrize("size", [1, 4, 9, 10_000])
def test_pieces_words_and_places_do_not_depend_on_the_blocks(tokenizer, size: int) -> None:
    text = ODD * 3
    whole = tokenizer.encode(text, add_special_tokens=False)
    found = list(tokens(read(text), tokenizer, size))
    assert [token.id for token in found] == whole.ids
    starts = np.diff([token.word for token in found]) > 0
    assert list(starts) == [a != b for a, b in zip(whole.word_ids, whole.word_ids[1:], strict=False)]
    assert [(token.start, token.end) for token in found] == [tuple(span) for span in whole.offsets]


def test_leads_and_surfaces_in_a_row_are_the_text(tokenizer) -> None:
    found = list(tokens(read(ODD), tokenizer, 5))
    assert "".join(token.lead + token.surface for token in found) == ODD.rstrip()
    assert all(ODD[token.start : token.end] == token.surface for token in found)


def test_byte_level_tokens_leave_the_space_before_a_word(tokenizer) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    alphabet = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bytes_alone = Tokenizer(models.BPE(alphabet, []))
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found = list(tokens(read("a µg of 🐸"), bytes_alone, 3))
    assert "".join(token.lead + token.surface for token in found) == "a µg of 🐸"
    words = {}
    for token in found:
        words.setdefault(token.word, []).append(token.surface)
    assert ["".join(pieces) for pieces in words.values()] == ["a", "µg", "of", "🐸"]


def test_no_text_no_tokens(tokenizer) -> None:
    assert list(tokens(read(""), tokenizer)) == [] == list(tokens(read(" \n "), tokenizer))
