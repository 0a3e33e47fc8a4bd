"""Encode examples as features, the inputs of a model, and decode its logits into predictions.

A feature is a dictionary. Every feature has `input_ids` (list of int, special tokens included) and
`example` (the index of its example); text pairs and questions also have `token_type_ids`, which a
model without token types ignores. Each `encode_` function documents its further keys. Features are
not padded.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from transformers import PreTrainedTokenizerFast

from compact_biomed.benchmarks.examples import QuestionExample, TextExample, WordsExample
from compact_biomed.corpus.pieces import STRIDE, Pieces, trimmed
from compact_biomed.errors import UserError
from compact_biomed.objectives import IGNORED

Feature: TypeAlias = dict[str, Any]
# As in BERT's run_squad: pieces of an answer, and the number of starts and ends to combine per window, which is also
# the number of answers to keep per context.
LONGEST_ANSWER, BEST = 30, 20


@lru_cache(maxsize=8)
def pieces_of(tokenizer: PreTrainedTokenizerFast) -> Pieces:
    """Return what turns texts and words into this tokenizer's pieces; it is made once.

    Raises:
        UserError: not a fast tokenizer, or the special tokens around a text cannot be determined.
    """
    name = getattr(tokenizer, "name_or_path", "") or "tokenizer"
    if not getattr(tokenizer, "is_fast", False):
        raise UserError("not a fast tokenizer", where=name, remedy="save it with a tokenizer.json")
    try:
        return Pieces(tokenizer.backend_tokenizer, tokenizer.unk_token_id)
    except ValueError as error:
        raise UserError(str(error), where=name, remedy="use a tokenizer like BERT's, [CLS] text [SEP]") from error


def encode_words(
    examples: Sequence[WordsExample],
    tokenizer: PreTrainedTokenizerFast,
    *,
    label_ids: Mapping[str, int],
    max_length: int,
    published: bool = False,
) -> list[Feature]:
    """Encode each sentence as one feature, cut at `max_length`: word by word, see `corpus.pieces`.

    Further keys: `word_starts`, the position of the first piece of each word that begins inside
    the limit (always the first words); `word_pieces`, the number of pieces of *every* word, uncut;
    `text_end`, the position after the last piece; `labels`, one per position. A word without any
    piece is read as the unknown token.

    Args:
        label_ids: tag -> id; other tags are ignored in training.
        published: label every piece with its word's tag, B included, as the published ner.py does.
            By default the first piece is labeled and the others are ignored.
    """
    vocabulary = pieces_of(tokenizer)
    prefix, suffix, room = vocabulary.prefix, vocabulary.suffix, vocabulary.room(max_length)
    words = sorted({word for example in examples for word in example.words})
    pieces = dict(zip(words, vocabulary.of_words(words), strict=True))
    features = []
    for number, example in enumerate(examples):
        ids: list[int] = []
        labels: list[int] = []
        starts: list[int] = []
        for word, tag in zip(example.words, example.tags, strict=True):
            if len(ids) < room:
                starts.append(len(prefix) + len(ids))
            label = label_ids.get(tag, IGNORED)
            ids += pieces[word]
            labels += [label] + [label if published else IGNORED] * (len(pieces[word]) - 1)
        features.append(
            {
                "input_ids": [*prefix, *ids[:room], *suffix],
                "example": number,
                "word_starts": starts,
                "word_pieces": [len(pieces[word]) for word in example.words],
                "text_end": len(prefix) + min(len(ids), room),
                "labels": [*[IGNORED] * len(prefix), *labels[:room], *[IGNORED] * len(suffix)],
            }
        )
    return features


def encode_texts(
    examples: Sequence[TextExample], tokenizer: PreTrainedTokenizerFast, *, max_length: int
) -> list[Feature]:
    """Encode each text, or pair of texts, as one feature, without a label.

    A single text that is too long is cut at its end, but keeps its entity masks (`Pieces.of_text`). Of a pair, the
    longer text is cut.
    """
    pieces = pieces_of(tokenizer)
    features: list[Feature] = []
    for number, example in enumerate(examples):
        if example.pair is not None:
            encoded = pieces.of_pair(example.text, example.pair, max_length)
            features.append({"input_ids": encoded.ids, "example": number, "token_type_ids": encoded.type_ids})
        else:
            features.append({"input_ids": pieces.of_text(example.text, max_length), "example": number})
    return features


def encode_questions(
    examples: Sequence[QuestionExample],
    tokenizer: PreTrainedTokenizerFast,
    *,
    max_length: int,
    stride: int = STRIDE,
) -> list[Feature]:
    """Encode each window of a context as one feature; consecutive windows share `stride` pieces.

    Further keys: `offsets`, for each position the characters (start, end) of the context, None
    outside of it; `start` and `end`, the positions of the answer's first and last piece, both 0
    where the window does not contain the whole answer or no answer is known. Long questions are cut
    (`Pieces.of_question`).
    """
    pieces = pieces_of(tokenizer)
    features = []
    for number, example in enumerate(examples):
        for window in pieces.of_question(example.question, example.context, max_length, stride):
            offsets = [
                span if sequence == 1 else None
                for span, sequence in zip(window.offsets, window.sequence_ids, strict=True)
            ]
            start, end = _answer_positions(example.answers, offsets)
            features.append(
                {
                    "input_ids": window.ids,
                    "example": number,
                    "token_type_ids": window.type_ids,
                    "offsets": offsets,
                    "start": start,
                    "end": end,
                }
            )
    return features


def _answer_positions(answers: Sequence[tuple[str, int]], offsets: Sequence[tuple[int, int] | None]) -> tuple[int, int]:
    """Return first and last position of the first answer that is whole in this window, (0, 0) if none is."""
    for text, begin in answers:
        if begin < 0:
            continue
        finish = begin + len(text)
        touched = [p for p, span in enumerate(offsets) if span and span[0] < finish and span[1] > begin]
        if touched and offsets[touched[0]][0] <= begin and offsets[touched[-1]][1] >= finish:
            return touched[0], touched[-1]
    return 0, 0


# ---- decoding


def probabilities(logits: np.ndarray, *, several: bool = False) -> np.ndarray:
    """Return the probability of each label, float64 [..., labels].

    Args:
        logits: [..., labels].
        several: whether each label has a probability of its own (sigmoid); otherwise they add up to 1 (softmax).
    """
    x = np.asarray(logits, np.float64)
    if several:
        return 1 / (1 + np.exp(-x))
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


@dataclass(frozen=True)
class TaggedWords:
    """The predicted tags of one sentence.

    Args:
        tags: one per word, that of its first piece; O beyond the length limit.
        pieces: one per piece of every word, word after word; O beyond the limit.
        word_pieces: number of pieces per word; their sum is the length of `pieces`.
        read: number of words that begin inside the limit.
        scores: probability of each word's tag; 1 beyond the limit. Two predictions are equal if their tags are.
    """

    tags: list[str]
    pieces: list[str]
    word_pieces: list[int]
    read: int
    scores: list[float] = field(compare=False)


@dataclass(frozen=True)
class Choice:
    """The predicted class of a text, or its predicted classes.

    Args:
        label: the class; a tuple where there may be several.
        probabilities: of each label of the model, in their order. Two predictions are equal if their labels are.
    """

    label: str | tuple[str, ...]
    probabilities: tuple[float, ...] = field(compare=False)


@dataclass(frozen=True)
class Answers:
    """The predicted answers in one context.

    Args:
        ranked: (text, probability), the most probable first; the probabilities sum to 1 unless there is no answer.
    """

    ranked: list[tuple[str, float]]


def decode_words(
    features: Sequence[Feature],
    logits: Sequence[np.ndarray],
    *,
    labels: Sequence[str],
    published: bool = False,
) -> list[TaggedWords]:
    """Return the tags of every word and of every piece, the two scales of scores, from the same logits.

    Args:
        logits: for each feature [positions, labels]; rows beyond the feature's length are padding.
        published: give each piece its own predicted tag, as the published ner.py does. By default
            it has the tag of its word, because a model that was trained on first pieces predicts
            nothing for the others.
    """
    predictions = []
    for feature, scores in zip(features, logits, strict=True):
        best = np.asarray(scores).argmax(-1)
        starts, counts = feature["word_starts"], feature["word_pieces"]
        unread = len(counts) - len(starts)
        tags = [labels[best[start]] for start in starts] + ["O"] * unread
        certain = [*probabilities(np.asarray(scores)[starts]).max(-1).tolist(), *[1.0] * unread]
        pieces: list[str] = []
        for word, count in enumerate(counts):
            if published and word < len(starts):
                inside = best[starts[word] : min(starts[word] + count, feature["text_end"])]
                pieces += [labels[label] for label in inside] + ["O"] * (count - len(inside))
            else:
                pieces += [tags[word]] * count
        predictions.append(TaggedWords(tags, pieces, list(counts), len(starts), certain))
    return predictions


def decode_answers(
    examples: Sequence[QuestionExample], features: Sequence[Feature], logits: Sequence[np.ndarray]
) -> list[Answers]:
    """Return the best answers of each context over its windows, as `best_spans` ranks them.

    Args:
        logits: for each feature [positions, 2]: start, end.
    """
    contexts = [example.context for example in examples]
    return [
        Answers([(context[start:end], probability) for (start, end), probability in spans])
        for context, spans in zip(contexts, best_spans(contexts, features, logits), strict=True)
    ]


def best_spans(
    contexts: Sequence[str], features: Sequence[Feature], logits: Sequence[np.ndarray]
) -> list[list[tuple[tuple[int, int], float]]]:
    """Return characters (start, end) and probability of the best answers in each context.

    As in BERT's run_squad: the candidates are all pairs of one of the `BEST` highest starts and one
    of the `BEST` highest ends of a window that are inside the context, in order, and at most
    `LONGEST_ANSWER` pieces long. White space at the ends of an answer, which is part of the pieces of many
    vocabularies, is cut off, and an answer of white space alone left out. The score of a pair is the sum of its two
    logits; the probability is the softmax over the scores of the `BEST` answers kept.

    Args:
        logits: for each feature [positions, 2]: start, end.
    """
    scores_by_context: list[dict[tuple[int, int], float]] = [{} for _ in contexts]
    for feature, scores in zip(features, logits, strict=True):
        spans, context = scores_by_context[feature["example"]], contexts[feature["example"]]
        for (start, end), score in _candidates(feature["offsets"], np.asarray(scores, np.float64)):
            span = trimmed(context, start, end)
            if span[0] < span[1]:
                spans[span] = max(score, spans.get(span, -np.inf))
    return [_rank(spans) for spans in scores_by_context]


def _candidates(
    offsets: Sequence[tuple[int, int] | None], scores: np.ndarray
) -> Iterator[tuple[tuple[int, int], float]]:
    scores = scores[: len(offsets)]
    inside = np.array([span is not None and span[1] > span[0] for span in offsets])
    masked = np.where(inside[:, None], scores, -np.inf)
    starts, ends = (np.argsort(-masked[:, side], kind="stable")[:BEST] for side in (0, 1))
    for start in starts:
        for end in ends:
            if inside[start] and inside[end] and start <= end < start + LONGEST_ANSWER:
                yield (offsets[start][0], offsets[end][1]), float(scores[start, 0] + scores[end, 1])


def _rank(spans: dict[tuple[int, int], float]) -> list[tuple[tuple[int, int], float]]:
    best = sorted(spans.items(), key=lambda item: (-item[1], item[0]))[:BEST]
    if not best:
        return []
    scores = np.array([score for _, score in best])
    return [(span, float(p)) for (span, _), p in zip(best, probabilities(scores), strict=True)]
