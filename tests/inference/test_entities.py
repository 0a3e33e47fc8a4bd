"""Tagged words -> entities, and their forms."""

import json

import numpy as np
import pytest

from compact_biomed.errors import UserError
from compact_biomed.inference.formats import brat_lines, conll_lines, entity_lines
from compact_biomed.inference.words import Token, Window, Word, check_tags, entities, words


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
        (0, 4, "B", "xyxy"), (4, 10, "O", "xyxyxy"), (10, 12, "B", "xy")
    ]  # fmt: skip
    assert found[0].score == pytest.approx(1 / (1 + np.exp(-9)))


def test_the_three_forms() -> None:
    text = "old lung\nfever in β"
    found = tagged(text, "O", "B-Big Disease", "I-Big Disease", "O", "B-Gene")
    assert json.loads(next(entity_lines("a", found))) == {
        "document": "a", "start": 4, "end": 14, "label": "Big Disease", "score": 0.65, "text": "lung\nfever"
    }  # fmt: skip
    assert list(brat_lines(found)) == [
        "T1\tBig_Disease 4 8;9 14\tlung fever", "#1\tAnnotatorNotes T1\tscore 0.6500",
        "T2\tGene 18 19\tβ", "#2\tAnnotatorNotes T2\tscore 0.9000",
    ]  # fmt: skip
    tags = [line.split("\t") for line in conll_lines(found)]
    assert tags == [["old", "O"], ["lung", "B-Big Disease"], [""], ["fever", "I-Big Disease"], ["in", "O"],
                    ["β", "B-Gene"], [""]]  # fmt: skip
