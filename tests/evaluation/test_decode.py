"""From logits to predictions: both scales of entities, spans of several windows."""

import numpy as np
import pytest

from compact_biomed.benchmarks.examples import QuestionExample, WordsExample
from compact_biomed.evaluation.features import (
    LONGEST_ANSWER,
    decode_answers,
    decode_words,
    encode_questions,
    encode_words,
)
from compact_biomed.evaluation.kinds import KINDS

LABELS = ["B", "I", "O"]
# Pieces: the | kin ##as ##e | fever | of | frogs
SENTENCE = WordsExample("test/0", ("the", "kinase", "fever", "of", "frogs"), ("O", "B", "I", "O", "B"))


def logits_of(tags: str, labels=LABELS) -> np.ndarray:
    """One-hot rows, one a position."""
    return np.eye(len(labels))[[labels.index(tag) for tag in tags.split()]]


def decoded(tokenizer, tags: str, *, max_length: int = 64, published: bool = False):
    features = encode_words([SENTENCE], tokenizer, label_ids={}, max_length=max_length)
    [prediction] = decode_words([SENTENCE], features, [logits_of(tags)], labels=LABELS, published=published)
    return prediction


def test_words_take_the_tag_of_their_first_piece_on_both_scales(tokenizer) -> None:
    tags = "I O B O I I O B I"  # [CLS] the kin ##as ##e fever of frogs [SEP]
    standard, published = (decoded(tokenizer, tags, published=flag) for flag in (False, True))
    assert standard.tags == published.tags == ["O", "B", "I", "O", "B"]
    assert standard.pieces == ["O", "B", "B", "B", "I", "O", "B"]
    assert published.pieces == ["O", "B", "O", "I", "I", "O", "B"]


@pytest.mark.parametrize("published", [False, True])
def test_words_beyond_the_limit_are_o_and_counted(tokenizer, published: bool) -> None:
    found = decoded(tokenizer, "I B B B I", max_length=5, published=published)  # [CLS] the kin ##as [SEP]
    assert found.tags == ["B", "B", "O", "O", "O"]
    assert found.read == 2
    # Unread pieces of a word that was read: its own tag, or O where each piece speaks for itself.
    assert found.pieces == ["B", "B", "B", "O" if published else "B", "O", "O", "O"]
    assert found.word_pieces == [1, 3, 1, 1, 1]


def test_rows_of_padding_are_not_read(tokenizer) -> None:
    padded = "I O B O I I O B I" + " B" * 7
    assert decoded(tokenizer, padded) == decoded(tokenizer, "I O B O I I O B I")
    assert decoded(tokenizer, padded, published=True) == decoded(tokenizer, "I O B O I I O B I", published=True)


CONTEXT = " ".join(f"frogs {number}" for number in range(100, 400))


def question(context: str = CONTEXT) -> QuestionExample:
    return QuestionExample("q_1", "q", "old ?", context, ())


def encoded(tokenizer, example: QuestionExample):
    features = encode_questions([example], tokenizer, max_length=128, stride=32)
    return features, [np.full((len(feature["input_ids"]), 2), -5.0) for feature in features]


def test_the_best_span_of_any_window_wins_and_windows_agree_on_a_span(tokenizer) -> None:
    features, logits = encoded(tokenizer, question())
    assert len(features) > 3
    start = CONTEXT.index("frogs 250")
    raised = 0
    for feature, scores in zip(features, logits, strict=True):
        for position, span in enumerate(feature["offsets"]):
            scores[position, 0] += 9 * (span is not None and span[0] == start)
            scores[position, 1] += 9 * (span is not None and span[1] == start + len("frogs 250"))
            raised += span is not None and span[0] == start
    logits[0][0] = 50  # [CLS] and the question are no answers
    logits[0][1] = 40
    [found] = decode_answers([question()], features, logits)
    assert found.ranked[0][0] == "frogs 250"
    assert raised >= 1
    assert sum(probability for _, probability in found.ranked) == pytest.approx(1)
    probabilities = [probability for _, probability in found.ranked]
    assert probabilities == sorted(probabilities, reverse=True)


def test_backward_and_overlong_spans_are_no_answers(tokenizer) -> None:
    example = question(" ".join(["frogs"] * 60))
    features, logits = encoded(tokenizer, example)
    first = next(place for place, span in enumerate(features[0]["offsets"]) if span)
    logits[0][first + 20, 0] += 20
    logits[0][first + 5, 1] += 20  # before the start
    logits[0][first + 20 + LONGEST_ANSWER, 1] += 19  # one piece too long
    logits[0][first + 20 + LONGEST_ANSWER - 1, 1] += 18
    [found] = decode_answers([example], features, logits)
    assert found.ranked[0][0] == " ".join(["frogs"] * LONGEST_ANSWER)


def test_against_every_span_tried_one_by_one(tokenizer) -> None:
    rng = np.random.default_rng(3)
    example = question(" ".join(f"frogs {number}" for number in range(10)))
    features, logits = encoded(tokenizer, example)
    scores = rng.normal(size=logits[0].shape)
    offsets = features[0]["offsets"]
    inside = [place for place, span in enumerate(offsets) if span]
    best = max((scores[a, 0] + scores[b, 1], a, b) for a in inside for b in inside if a <= b < a + LONGEST_ANSWER)
    [found] = decode_answers([example], features, [scores])
    assert found.ranked[0][0] == example.context[offsets[best[1]][0] : offsets[best[2]][1]]


def test_text_kinds() -> None:
    rows = [np.array([0.1, 2.0]), np.array([-1.0, -2.0])]
    assert KINDS["classification"].decode([], [], rows, labels=["a", "b"]) == ["b", "a"]
    assert KINDS["multilabel"].decode([], [], rows, labels=["a", "b"]) == [("a", "b"), ()]
    assert KINDS["regression"].decode([], [], [np.array([1.5])], labels=["score"]) == [1.5]
