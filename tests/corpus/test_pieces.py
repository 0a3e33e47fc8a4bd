"""Pieces of words are those of running text, in every family of tokenizers; how texts are split into words."""
# ruff: noqa: RUF001

import ast
import sys
from itertools import pairwise

import pytest
from tokenizer_families import FAMILIES, build
from tokenizers import Tokenizer, models

from compact_biomed.corpus import pieces as module
from compact_biomed.corpus.pieces import Pieces, split_words, trimmed

WORDS = ["fever", "(", "naïve", "0.5", "a", "kinase", ",", "β", "日", "Müller", "frogs"]


@pytest.fixture(params=FAMILIES)
def family(request) -> tuple[Tokenizer, Pieces]:
    tokenizer = build(request.param)
    return tokenizer.backend_tokenizer, Pieces(tokenizer.backend_tokenizer, tokenizer.unk_token_id)


def test_a_word_has_the_pieces_that_it_has_behind_a_blank(family) -> None:
    tokenizer, pieces = family
    before = tokenizer.encode("of", add_special_tokens=False).ids
    for word, ids in zip(WORDS, pieces.of_words(WORDS), strict=True):
        assert tokenizer.encode(f"of {word}", add_special_tokens=False).ids == before + ids


def test_words_and_texts_are_read_alike(family) -> None:
    _, pieces = family
    words = "saw the mild fever ( grade 2 ) of naïve frogs .".split()
    (text,) = pieces.of_texts([" ".join(["of", *words])])
    (first,) = pieces.of_texts(["of"])
    assert text == first + [piece for ids in pieces.of_words(words) for piece in ids]


def test_special_tokens_in_a_text_are_text_and_settings_of_the_tokenizer_have_no_effect(family) -> None:
    tokenizer, pieces = family
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=40)
    own = Pieces(tokenizer, 3)
    text = "the <mask> of </s> frogs and the fever of mice"
    assert own.of_texts([text]) == pieces.of_texts([text])
    if "Unigram" not in str(tokenizer.model):  # whose own vocabulary spells out special tokens
        assert not {0, 1, 2, 4} & set(pieces.of_texts([text])[0])
    assert tokenizer.truncation["max_length"] == 4
    ids = own.of_text(text, 12)
    assert ids == [0, *pieces.of_texts([text])[0][:10], 2]
    assert len(own.of_pair("fever of mice " * 9, text, 16)) == 16


def test_windows_of_a_question_share_the_stride_and_cover_the_context(family) -> None:
    _, pieces = family
    context = "the fever of old frogs rose . " * 12
    windows = pieces.of_question("who saw it ?", context, 48, stride=8)
    inside = [[i for i, sequence in enumerate(w.sequence_ids) if sequence == 1] for w in windows]
    ids = [[w.ids[i] for i in positions] for w, positions in zip(windows, inside, strict=True)]
    assert len(windows) > 2 and all(len(w) <= 48 for w in windows)
    assert all(here[-8:] == after[:8] for here, after in pairwise(ids))
    joined = ids[0] + [piece for window in ids[1:] for piece in window[8:]]
    assert windows[0].offsets[inside[0][0]][0] == 0 and len(joined) > 60
    (whole,) = pieces.of_question("who saw it ?", context, 2000)
    assert joined == [piece for piece, sequence in zip(whole.ids, whole.sequence_ids, strict=True) if sequence == 1]


def test_a_word_without_a_piece_is_the_unknown_token() -> None:
    tokenizer = build("WordPiece").backend_tokenizer
    assert Pieces(tokenizer, 3).of_words(["\u200b", "fever"])[0] == [3]
    assert Pieces(tokenizer).of_words(["\u200b"]) == [[2]]


def test_special_tokens_around_a_text() -> None:
    assert Pieces(Tokenizer(models.WordLevel({"b": 0}, "b"))).prefix == []
    with pytest.raises(ValueError, match="special tokens"):
        Pieces(Tokenizer(models.BPE({"b": 0}, [])))  # no letter of the example is in the vocabulary


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ovarian cancer.", "ovarian cancer ."),
        ("TNF-α (β–γ), 0.5%", "TNF - α ( β – γ ) , 0 . 5 %"),
        ("  two\n\tblanks \u00a0 \u2028\x1c\x1d ", "two blanks"),
        ("a\x1cb", "a b"),
        ("[SEP] <mask>", "[ SEP ] < mask >"),
        ("日本 x中y 🐸🐸 é́t", "日 本 x 中 y 🐸🐸 é́t"),
        ("", ""),
        (" \n\u3000", ""),
    ],
)
def test_white_space_separates_words_and_punctuation_marks_are_words(text: str, words: str) -> None:
    spans = split_words(text)
    assert [text[start:end] for start, end in spans] == words.split(" " if words else None)
    assert all(start < end for start, end in spans) and spans == sorted(spans)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, 3, (1, 3)), (1, 3, (1, 3)), (0, 7, (1, 6)), (3, 4, (4, 4)), (0, 1, (1, 1)), (2, 2, (2, 2))],
)
def test_answers_lose_white_space_at_both_ends(start: int, end: int, expected: tuple[int, int]) -> None:
    assert trimmed(" ab cd\u2003", start, end) == expected


def test_it_needs_nothing_that_an_exported_folder_lacks() -> None:
    tree = ast.parse(open(module.__file__, encoding="utf-8").read())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names) == {"tokenizers"}
