"""Blocks, tokens, windows, words and entities: nothing lost or doubled at a seam; strict IOB2."""
# ruff: noqa: RUF001

import io
import json
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tiny_checkpoints import build_tokenizer

from compact_biomed.corpus.pieces import Pieces
from compact_biomed.corpus.sentences import sentence_spans
from compact_biomed.inference.formats import brat_lines, conll_lines, entity_lines, inline_lines
from compact_biomed.inference.words import (
    Span,
    Token,
    Window,
    Word,
    as_iob2,
    blocks,
    entities,
    in_order,
    sentence_windows,
    tokens,
    windows,
    words,
)

ODD = "  The kinase TNF-α (β–γ) of Müller…\n\n\tin  frogs é́ \u00a0and 🐸🐸 \r\n[SEP] 日本 fevers.  "


@pytest.fixture(scope="module")
def pieces() -> Pieces:
    return Pieces(build_tokenizer().backend_tokenizer, unknown=1)


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
def test_pieces_words_and_places_do_not_depend_on_the_blocks(pieces, size: int) -> None:
    text = ODD * 3
    backend = build_tokenizer().backend_tokenizer
    backend.encode_special_tokens = True
    whole = backend.encode(text, add_special_tokens=False)
    found = list(tokens(read(text), pieces, size))
    assert [token.id for token in found] == whole.ids  # BERT's vocabularies read running text alike
    starts = [a != b for a, b in zip([None, *whole.word_ids], whole.word_ids, strict=False)]
    assert [token.word is not None for token in found] == starts
    words = [token.word for token in found if token.word]
    assert "".join(word.lead + word.surface for word in words) == text.rstrip()
    assert all(text[word.start : word.end] == word.surface for word in words)


def test_no_text_no_tokens(pieces) -> None:
    assert list(tokens(read(""), pieces)) == [] == list(tokens(read(" \n "), pieces))


@pytest.mark.parametrize("n", [0, 1, 9, 10, 11, 17, 100, 101])
@pytest.mark.parametrize("overlap", [0, 1, 2, 3, 5])
def test_each_token_is_answered_once_where_it_is_deepest(n: int, overlap: int) -> None:
    cut = list(windows(range(n), 10, overlap))
    assert [token for w in cut for token in w.tokens[w.first : w.last]] == list(range(n))
    assert all(len(w.tokens) == 10 for w in cut[:-1])

    def depth(window, token: int) -> int:
        left = token - window.tokens[0] if window.tokens[0] > 0 else n
        right = window.tokens[-1] - token if window.tokens[-1] < n - 1 else n
        return min(left, right)

    for w in cut:
        for token in w.tokens[w.first : w.last]:
            assert depth(w, token) == max(depth(other, token) for other in cut if token in other.tokens)


def test_neighbors_share_the_overlap() -> None:
    first, second, last = windows(range(24), 10, 3)
    assert first.tokens[-3:] == second.tokens[:3] and second.tokens[-3:] == last.tokens[:3] and last.tokens[-1] == 23


def test_sentences_of_a_stream_are_those_of_the_text(pieces) -> None:
    parts = [
        "Fever",
        "e.g.",
        "al.",
        "S.",
        "?",
        ".",
        "!)",
        ".”",
        "(A",
        '"B',
        "b",
        "7",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\u2028",
        "é",
    ]
    for seed in range(300):
        text = "".join(random.Random(seed).choices(parts, weights=[*[1] * 12, 4, 1, 1, 1, 1, 1], k=40))
        found = list(tokens(read(text), pieces, 1 + seed % 23, by_sentence=True))
        cut = [window.tokens for window in sentence_windows(found, 1000, 0)]
        assert [token for sentence in cut for token in sentence] == found
        whole = [(words[0].start, words[-1].end) for s in cut if (words := [t.word for t in s if t.word])]
        assert whole == list(sentence_spans(text)), repr(text)
    assert [list(sentence_spans(text)) for text in ("", " \n")] == [[], []]


def test_no_entity_goes_on_in_the_next_sentence() -> None:
    parted = [
        Word(0, 1, "B-X", 0.9, "", "a"),
        Word(2, 3, "I-X", 0.9, "\n", "b", True),
        Word(4, 5, "I-X", 0.9, " ", "c"),
    ]
    assert [entity.text for entity in entities(parted)] == ["a"]
    assert [entity.text for entity in entities(as_iob2(parted))] == ["a", "b c"]


def test_a_stream_is_computed_in_order_a_few_at_a_time() -> None:
    taken = []

    def items():
        for i in range(100):
            taken.append(i)
            yield i

    with ThreadPoolExecutor(2) as pool:
        for i, (item, square) in enumerate(in_order(lambda x: x * x, items(), pool, ahead=4)):
            assert (item, square) == (i, i * i) and len(taken) <= i + 4


def test_a_failure_reaches_the_caller() -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(ZeroDivisionError):
        list(in_order(lambda x: 1 / x, [1, 0, 1], pool, ahead=2))


def test_what_came_before_a_broken_item_is_answered_first() -> None:
    def items():
        yield from (1, 2, 3)
        raise ValueError("the fourth")

    answered = []
    with ThreadPoolExecutor(2) as pool, pytest.raises(ValueError, match="the fourth"):
        for _, square in in_order(lambda x: x * x, items(), pool, ahead=8):
            answered.append(square)
    assert answered == [1, 4, 9]


def tagged(text: str, *tags: str) -> list[Word]:
    """The words of a text, cut at single spaces and line breaks, with tags and scores 0.5, 0.6, ..."""
    found, at = [], 0
    for i, (word, tag) in enumerate(zip(text.replace("\n", " ").split(" "), tags, strict=True)):
        found.append(Word(at, at + len(word), tag, 0.5 + i / 10, text[at - 1 : at] if at else "", word))
        at += len(word) + 1
    return found


def test_entities_of_several_words_and_neighbors() -> None:
    text = "wet lungs and β kinase kinase"
    tags = ("B-Disease", "I-Disease", "O", "B-Gene", "I-Gene", "B-Gene")
    found = list(entities(tagged(text, *tags)))
    assert [(e.label, e.text) for e in found] == [("Disease", "wet lungs"), ("Gene", "β kinase"), ("Gene", "kinase")]
    assert all(text[e.start : e.end] == e.text for e in found)
    assert found[0].score == pytest.approx(0.55)


def test_an_inside_without_its_beginning_is_none_as_in_the_scores() -> None:
    from compact_biomed.evaluation.scoring import strict_entities

    generator = np.random.default_rng(0)
    for _ in range(200):
        tags = list(generator.choice(["B-A", "I-A", "B-B", "I-B", "O"], 8))
        mine = {(e.label, e.start // 2, (e.end + 1) // 2) for e in entities(tagged("a b c d e f g h", *tags))}
        assert mine == next(strict_entities([tags]))


def test_bare_tags_have_no_type() -> None:
    (entity,) = entities(tagged("a b", "B", "I"))
    assert entity.label == "Entity" and entity.text == "a b"


def test_tags_without_a_begin_are_entities_too() -> None:
    found = list(as_iob2(tagged("a b c d e f", "I-A", "I-A", "B-A", "I-B", "O", "I-B")))
    assert [word.tag for word in found] == ["B-A", "I-A", "B-A", "B-B", "O", "B-B"]
    assert [(e.label, e.text) for e in entities(found)] == [("A", "a b"), ("A", "c"), ("B", "d"), ("B", "f")]


def test_a_word_has_the_tag_of_its_first_piece_also_across_windows() -> None:
    spans = [Span(0, 4, "", "xyxy"), None, Span(4, 10, "", "xyxyxy"), None, None, Span(10, 12, "", "xy")]
    pieces = [Token(i, span) for i, span in enumerate(spans)]
    one_hot = np.eye(2)[[0, 1, 1, 0, 0, 0]] * 9
    answered = [(Window(pieces[:5], 0, 3), one_hot[:5]), (Window(pieces[2:], 1, 4), one_hot[2:])]
    found = list(words(answered, ["B", "O"]))
    assert [(w.start, w.end, w.tag, w.surface) for w in found] == [
        (0, 4, "B", "xyxy"),
        (4, 10, "O", "xyxyxy"),
        (10, 12, "B", "xy"),
    ]
    assert found[0].score == pytest.approx(1 / (1 + np.exp(-9)))


def test_the_forms() -> None:
    text = "old lung\nfever in β"
    found = tagged(text, "O", "B-Big Disease", "I-Big Disease", "O", "B-Gene")
    assert json.loads(next(entity_lines("a", found))) == {
        "document": "a",
        "start": 4,
        "end": 14,
        "label": "Big Disease",
        "score": 0.65,
        "text": "lung\nfever",
    }
    assert list(brat_lines("a.txt", found)) == [
        "T1\tBig_Disease 4 8;9 14\tlung fever",
        "#1\tAnnotatorNotes T1\tscore 0.6500",
        "T2\tGene 18 19\tβ",
        "#2\tAnnotatorNotes T2\tscore 0.9000",
    ]
    tags = [line.split("\t") for line in conll_lines("a.txt", found)]
    assert tags == [
        ["old", "O"],
        ["lung", "B-Big Disease"],
        [""],
        ["fever", "I-Big Disease"],
        ["in", "O"],
        ["β", "B-Gene"],
        [""],
    ]
    assert list(inline_lines("a.txt", found)) == ["old [lung", "fever|Big Disease] in [β|Gene]"]
    stray = tagged("a b c . d", "B", "B", "I-Gene", "O", "I")
    assert list(inline_lines("a.txt", stray)) == ["[a|Entity] [b|Entity] c . d"]
    assert list(conll_lines("a.txt", stray)) == ["a\tB", "b\tB", "c\tO", ".\tO", "d\tO", ""]
    assert list(inline_lines("a.txt", [])) == []
