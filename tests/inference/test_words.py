"""Blocks, tokens, windows, words and entities: nothing lost or doubled at a seam; strict IOB2."""
# ruff: noqa: RUF001

import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tiny_checkpoints import build_tokenizer

from compact_biomed.errors import UserError
from compact_biomed.inference.formats import brat_lines, conll_lines, entity_lines
from compact_biomed.inference.words import (
    Token,
    Window,
    Word,
    blocks,
    check_tags,
    entities,
    in_order,
    tokens,
    windows,
    words,
)

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


def test_labels_must_be_tags() -> None:
    check_tags(["B", "I", "O"], where="m")
    for labels in (["yes", "no"], ["B-x", "I-x"], ["LABEL_0", "O"]):
        with pytest.raises(UserError, match="no IOB2 tags"):
            check_tags(labels, where="m")


def test_a_word_has_the_tag_of_its_first_piece_also_across_windows() -> None:
    pieces = [Token(i, 2 * i, 2 * i + 2, word, "", "xy") for i, word in enumerate([0, 0, 1, 1, 1, 2])]
    one_hot = np.eye(2)[[0, 1, 1, 0, 0, 0]] * 9
    answered = [(Window(pieces[:5], 0, 3), one_hot[:5]), (Window(pieces[2:], 1, 4), one_hot[2:])]
    found = list(words(answered, ["B", "O"]))
    assert [(w.start, w.end, w.tag, w.surface) for w in found] == [
        (0, 4, "B", "xyxy"),
        (4, 10, "O", "xyxyxy"),
        (10, 12, "B", "xy"),
    ]
    assert found[0].score == pytest.approx(1 / (1 + np.exp(-9)))


def test_the_three_forms() -> None:
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
