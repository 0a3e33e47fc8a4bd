"""Tag schemes: detection, repair and rejection."""

import random

import pytest

from compact_biomed.benchmarks.tags import are_iob1, check_labels, is_tag, to_iob2
from compact_biomed.errors import UserError


def normalize(*sentences: str):
    return to_iob2([sentence.split() for sentence in sentences], lambda s, w: f"sentence {s}, word {w}")


@pytest.mark.parametrize(
    ("tags", "expected", "scheme", "repaired"),
    [
        ("B I O B B I", "B I O B B I", "IOB2", 0),
        ("B-X I-X B-X I-Y", "B-X I-X B-X B-Y", "IOB2", 1),
        ("O I I B O B", "O B I B O B", "IOB2", 1),
        ("O I I B O", "O B I B O", "IOB1", 0),
        ("I-X I-Y I-Y B-Y O", "B-X B-Y I-Y B-Y O", "IOB1", 0),
        ("I I O I", "B I O B", "IOB1", 0),
        ("S O B E B I I E", "B O B I B I I I", "IOBES", 0),
        ("S-X B-X E-X O", "B-X B-X I-X O", "IOBES", 0),
        ("U-X B-X L-X O", "B-X B-X I-X O", "IOBES", 0),
        ("S O E O", "B O B O", "IOBES", 1),
        ("O O", "O O", "IOB2", 0),
    ],
)
def test_schemes_are_detected_and_written_in_iob2(tags: str, expected: str, scheme: str, repaired: int) -> None:
    normalized = normalize(tags)
    assert (normalized.tags, normalized.scheme, normalized.repaired) == ([expected.split()], scheme, repaired)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ("S O B I O", "mixed schemes.*|sentence 0, word 3"),
        ("S B-X", "bare and typed"),
        ("B O I-X", "sentence 0, word 2: bare and typed"),
        ("S O B B E", "sentence 0, word 2: mixed"),
    ],
)
def test_two_schemes_in_one_file_are_refused_with_their_place(tags: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        normalize(tags)


def test_what_is_a_tag() -> None:
    assert all(map(is_tag, ["O", "B", "I-x", "B-cell_type", "S-a-b", "U", "L-x"]))
    assert not any(map(is_tag, ["", "o", "X", "B-", "B_x", "O-x ", "BX", "Disease"]))


def to_spans(tags: list[str]) -> list[tuple[int, int, str]]:
    """(start, end, type) of IOB2, written apart from the code under test."""
    spans: list[tuple[int, int, str]] = []
    for place, tag in enumerate(tags):
        if tag.startswith("B"):
            spans.append((place, place + 1, tag[2:]))
        elif tag.startswith("I"):
            start, _, kind = spans.pop()
            spans.append((start, place + 1, kind))
    return spans


def write(spans, length: int, scheme: str) -> list[str]:
    tags = ["O"] * length
    for number, (start, end, kind) in enumerate(spans):
        for place in range(start, end):
            prefix = "B" if place == start else "I"
            if scheme == "IOBES":
                prefix = "S" if end - start == 1 else "E" if place == end - 1 else prefix
            elif scheme == "IOB1" and place == start:
                touches = number and spans[number - 1][1] == start and spans[number - 1][2] == kind
                prefix = "B" if touches else "I"
            tags[place] = f"{prefix}-{kind}"
    return tags


@pytest.mark.parametrize("scheme", ["IOB2", "IOB1", "IOBES"])
def test_any_entities_survive_any_scheme(scheme: str) -> None:
    chance = random.Random(7)
    for _ in range(50):
        sentences = []
        for _ in range(12):
            spans, place = [], 0
            while place < 12:
                end = place + chance.randint(1, 3)
                if chance.random() < 0.6:
                    spans.append((place, end, chance.choice("XY")))
                place = end
            sentences.append((spans, place))
        normalized = to_iob2([write(spans, length, scheme) for spans, length in sentences], lambda s, w: "")
        assert [to_spans(tags) for tags in normalized.tags] == [spans for spans, _ in sentences]
        assert normalized.scheme == scheme
        assert normalized.repaired == 0


def test_labels_of_a_model_must_be_tags() -> None:
    for labels in (["B", "I", "O"], ["O", "I-x"], ["B-x", "O"]):
        check_labels(labels, where="m")
    for labels in (["yes", "no"], ["B-x", "I-x"], ["LABEL_0", "O"], ["O"], [], ["B-x", "S-x", "O"], ["", "O"]):
        with pytest.raises(UserError, match="no IOB2 tags"):
            check_labels(labels, where="m")


def test_a_type_without_a_begin_shows_iob1() -> None:
    assert are_iob1(["O", "I-x"]) and are_iob1(["I", "O"]) and are_iob1(["B-x", "I-x", "I-y", "O"])
    assert not are_iob1(["B", "I", "O"]) and not are_iob1(["B-x", "I-x", "B-y", "O"])
