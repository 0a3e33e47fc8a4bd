"""Features and predictions: word starts, truncation, windows of contexts, both scales of entities, spans."""

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from compact_biomed.benchmarks.examples import QuestionExample, Splits, TextExample, WordsExample
from compact_biomed.corpus.pieces import STRIDE
from compact_biomed.evaluation.features import (
    LONGEST_ANSWER,
    decode_answers,
    decode_words,
    encode_questions,
    encode_texts,
    encode_words,
)
from compact_biomed.evaluation.kinds import KINDS

IDS = {"B": 0, "I": 1, "O": 2}
# "kinase" is kin ##as ##e, the others are one piece.
SENTENCE = WordsExample("test/0", ("the", "kinase", "fever", "of", "frogs"), ("O", "B", "I", "O", "B"))


def test_first_pieces_carry_the_tag_and_the_others_are_ignored(tokenizer) -> None:
    [feature] = encode_words([SENTENCE], tokenizer, label_ids=IDS, max_length=64)
    assert tokenizer.convert_ids_to_tokens(feature["input_ids"]) == [
        "[CLS]",
        "the",
        "kin",
        "##as",
        "##e",
        "fever",
        "of",
        "frogs",
        "[SEP]",
    ]
    assert feature["labels"] == [-100, 2, 0, -100, -100, 1, 2, 0, -100]
    assert feature["word_starts"] == [1, 2, 5, 6, 7]
    assert feature["word_pieces"] == [1, 3, 1, 1, 1]


def test_published_labels_repeat_the_tag_b_included(tokenizer) -> None:
    [feature] = encode_words([SENTENCE], tokenizer, label_ids=IDS, max_length=64, published=True)
    assert feature["labels"] == [-100, 2, 0, 0, 0, 1, 2, 0, -100]


@pytest.mark.parametrize(("length", "starts"), [(9, 5), (8, 4), (6, 2), (5, 2), (4, 2), (3, 1), (2, 0)])
def test_words_beyond_the_limit_have_no_start_but_their_pieces_are_counted(tokenizer, length: int, starts: int) -> None:
    for published in (False, True):
        [feature] = encode_words([SENTENCE], tokenizer, label_ids=IDS, max_length=length, published=published)
        assert len(feature["input_ids"]) == len(feature["labels"]) == length
        assert feature["word_starts"] == [1, 2, 5, 6, 7][:starts]
        assert feature["word_pieces"] == [1, 3, 1, 1, 1]
        assert feature["text_end"] == length - 1
        assert feature["input_ids"][-1] == tokenizer.sep_token_id


def test_a_word_without_pieces_is_the_unknown_token(tokenizer) -> None:
    sentence = WordsExample("x", ("old", "\u200b\x00", "frogs"), ("O", "B", "O"))
    [feature] = encode_words([sentence], tokenizer, label_ids=IDS, max_length=64)
    assert feature["word_starts"] == [1, 2, 3]
    assert feature["input_ids"][2] == tokenizer.unk_token_id


def test_a_tag_that_training_lacks_is_ignored(tokenizer) -> None:
    [feature] = encode_words([SENTENCE], tokenizer, label_ids={"O": 0}, max_length=64)
    assert set(feature["labels"]) == {-100, 0}


def decoded_text(tokenizer, text: str, max_length: int) -> str:
    [feature] = encode_texts([TextExample("x", text, None, "1")], tokenizer, max_length=max_length)
    assert len(feature["input_ids"]) <= max_length
    return tokenizer.decode(feature["input_ids"], skip_special_tokens=True).replace(" ", "")


@pytest.mark.parametrize("before", [0, 3, 20, 60])
@pytest.mark.parametrize("between", [0, 3, 40])
@pytest.mark.parametrize("after", [0, 50])
def test_no_mask_is_ever_cut_off(tokenizer, before: int, between: int, after: int) -> None:
    # A mask is three pieces: @ GENE $.
    text = "old " * before + "@GENE$ " + "mild " * between + "binds @DISEASE$ " + "fever " * after
    text = decoded_text(tokenizer, text, 24)
    assert "@GENE$" in text
    assert "@DISEASE$" in text


def test_texts_whose_masks_come_early_are_cut_at_their_end(tokenizer) -> None:
    text = "the @GENE$ binds @DISEASE$ " + "fever " * 40
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    [feature] = encode_texts([TextExample("x", text, None, "1")], tokenizer, max_length=16)
    assert feature["input_ids"] == [2, *whole[:14], 3]


def test_pairs_have_token_types_and_both_texts(tokenizer) -> None:
    examples = [TextExample("x", "old frogs", "mild fever " * 40, 1.0)]
    [feature] = encode_texts(examples, tokenizer, max_length=16)
    assert len(feature["input_ids"]) == len(feature["token_type_ids"]) == 16
    assert feature["token_type_ids"] == [0] * 4 + [1] * 12


def test_windows_cover_the_context_and_share_the_stride(tokenizer) -> None:
    context = " ".join(f"frogs {number}" for number in range(400))
    example = QuestionExample("q_1", "q", "the old ?", context, (("frogs 250", context.index("frogs 250")),))
    features = encode_questions([example], tokenizer, max_length=384)
    assert len(features) > 2
    assert all(len(feature["input_ids"]) <= 384 for feature in features)
    spans = [[span for span in feature["offsets"] if span] for feature in features]
    assert spans[0][0][0] == 0
    assert spans[-1][-1][1] == len(context)
    for here, after in pairwise(spans):
        assert here[-STRIDE:] == after[:STRIDE]
    for feature in features:
        start, end = feature["start"], feature["end"]
        assert (start == 0) == (end == 0)
        if start:
            assert context[feature["offsets"][start][0] : feature["offsets"][end][1]] == "frogs 250"
    assert any(feature["start"] for feature in features)


def test_an_answer_inside_a_piece_is_widened_and_an_answer_without_a_position_is_none(tokenizer) -> None:
    inside = QuestionExample("q_1", "q", "no ?", "old frogs binds", (("rog", 5),))
    unknown = QuestionExample("q_2", "q", "no ?", "old frogs binds", (("frogs", -1),))
    first, second = encode_questions([inside, unknown], tokenizer, max_length=64)
    assert first["offsets"][first["start"]] == first["offsets"][first["end"]] == (4, 9)
    assert (second["start"], second["end"]) == (0, 0)


def test_a_very_long_question_leaves_room_for_the_context(tokenizer) -> None:
    example = QuestionExample("q_1", "q", "old " * 500, "the frogs", ())
    for length in (384, 24):
        [feature] = encode_questions([example], tokenizer, max_length=length)
        assert len(feature["input_ids"]) <= length
        assert [span for span in feature["offsets"] if span] == [(0, 3), (4, 9)]


LABELS_SCRIPT = """
from compact_biomed.benchmarks.examples import Splits, TextExample, WordsExample
from compact_biomed.evaluation.kinds import KINDS
words = [WordsExample(str(n), ("w",), (f"B-{k}",)) for n, k in enumerate("zyxwvutsrq")]
texts = [TextExample(str(n), "w", None, k) for n, k in enumerate("zyxwvutsrq")]
many = [TextExample(str(n), "w", None, (k, k + "2")) for n, k in enumerate("zyxwvutsrq")]
for kind, examples in (("ner", words), ("relation", texts), ("classification", texts), ("multilabel", many)):
    print(kind, KINDS[kind].labels(Splits(examples, [], [])))
"""


def test_label_ids_are_the_same_in_every_process(capsys) -> None:
    exec(LABELS_SCRIPT, {})  # this process has a hash seed of its own
    outputs = {capsys.readouterr().out}
    for seed in ("0", "4711"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", LABELS_SCRIPT]
        outputs.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(outputs) == 1
    assert outputs.pop().startswith("ner ['B-q', 'B-r', 'B-s'")


def test_targets_of_each_kind(tokenizer) -> None:
    def target(kind: str, label, labels):
        examples = [TextExample("x", "old", None, label)]
        return KINDS[kind].encode(examples, tokenizer, labels=labels, max_length=8)[0]["labels"]

    assert target("classification", "no", ["maybe", "no"]) == 1
    assert target("relation", "CPR:3", ["CPR:4"]) == -100
    assert target("multilabel", ("c", "a"), ["a", "b", "c"]) == [1.0, 0.0, 1.0]
    assert target("regression", 2.4, ["score"]) == 2.4
    with pytest.raises(ValueError, match="level"):
        KINDS["ner"].encode([SENTENCE], tokenizer, labels=["O"], max_length=8, level="words")


def test_labels_come_from_train_and_dev_alone() -> None:
    def split(tag: str) -> list:
        return [WordsExample("x", ("w",), (tag,))]

    assert KINDS["ner"].labels(Splits(split("B-X"), split("B-Y"), split("B-Z"))) == ["B-X", "B-Y", "O"]


# ---- decoding


LABELS = ["B", "I", "O"]


def logits_of(tags: str, labels=LABELS) -> np.ndarray:
    """One-hot rows, one a position."""
    return np.eye(len(labels))[[labels.index(tag) for tag in tags.split()]]


def decoded(tokenizer, tags: str, *, max_length: int = 64, published: bool = False):
    features = encode_words([SENTENCE], tokenizer, label_ids={}, max_length=max_length)
    return decode_words(features, [logits_of(tags)], labels=LABELS, published=published)[0]


def test_words_take_the_tag_of_their_first_piece_on_both_scales(tokenizer) -> None:
    tags = "I O B O I I O B I"  # [CLS] the kin ##as ##e fever of frogs [SEP]
    standard, published = (decoded(tokenizer, tags, published=flag) for flag in (False, True))
    assert standard.tags == published.tags == ["O", "B", "I", "O", "B"]
    assert standard.pieces == ["O", "B", "B", "B", "I", "O", "B"]
    assert published.pieces == ["O", "B", "O", "I", "I", "O", "B"]


@pytest.mark.parametrize("published", [False, True])
def test_words_beyond_the_limit_are_o_and_counted(tokenizer, published: bool) -> None:
    prediction = decoded(tokenizer, "I B B B I", max_length=5, published=published)  # [CLS] the kin ##as [SEP]
    assert prediction.tags == ["B", "B", "O", "O", "O"]
    assert prediction.read == 2
    # Unread pieces of a word that was read: its own tag, or O where each piece speaks for itself.
    assert prediction.pieces == ["B", "B", "B", "O" if published else "B", "O", "O", "O"]
    assert prediction.word_pieces == [1, 3, 1, 1, 1]


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
    [prediction] = decode_answers([question()], features, logits)
    assert prediction.ranked[0][0] == "frogs 250"
    assert raised >= 1
    assert sum(probability for _, probability in prediction.ranked) == pytest.approx(1)
    probabilities = [probability for _, probability in prediction.ranked]
    assert probabilities == sorted(probabilities, reverse=True)


def test_backward_and_overlong_spans_are_no_answers(tokenizer) -> None:
    example = question(" ".join(["frogs"] * 60))
    features, logits = encoded(tokenizer, example)
    first = next(i for i, span in enumerate(features[0]["offsets"]) if span)
    logits[0][first + 20, 0] += 20
    logits[0][first + 5, 1] += 20  # before the start
    logits[0][first + 20 + LONGEST_ANSWER, 1] += 19  # one piece too long
    logits[0][first + 20 + LONGEST_ANSWER - 1, 1] += 18
    [prediction] = decode_answers([example], features, logits)
    assert prediction.ranked[0][0] == " ".join(["frogs"] * LONGEST_ANSWER)


def test_against_every_span_tried_one_by_one(tokenizer) -> None:
    rng = np.random.default_rng(3)
    example = question(" ".join(f"frogs {number}" for number in range(10)))
    features, logits = encoded(tokenizer, example)
    scores = rng.normal(size=logits[0].shape)
    offsets = features[0]["offsets"]
    inside = [i for i, span in enumerate(offsets) if span]
    best = max((scores[a, 0] + scores[b, 1], a, b) for a in inside for b in inside if a <= b < a + LONGEST_ANSWER)
    [prediction] = decode_answers([example], features, [scores])
    assert prediction.ranked[0][0] == example.context[offsets[best[1]][0] : offsets[best[2]][1]]


def test_text_kinds() -> None:
    rows = [np.array([0.1, 2.0]), np.array([-1.0, -2.0])]
    one, several = (KINDS[kind].decode([], [], rows, labels=["a", "b"]) for kind in ("classification", "multilabel"))
    assert [each.label for each in one] == ["b", "a"]
    assert [each.label for each in several] == [("a", "b"), ()]
    weights = np.exp(rows)
    np.testing.assert_allclose([each.probabilities for each in one], weights / weights.sum(1, keepdims=True))
    np.testing.assert_allclose([each.probabilities for each in several], weights / (1 + weights))
    assert KINDS["regression"].decode([], [], [np.array([1.5])], labels=["score"]) == [1.5]
