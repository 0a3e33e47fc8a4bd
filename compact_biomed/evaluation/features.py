"""Encode examples as features, the inputs of a model, and decode its logits into predictions.

A feature is a dictionary. Every feature has `input_ids` (list of int, special tokens included) and
`example` (the index of its example); text pairs and questions also have `token_type_ids`, which a
model without token types ignores. Each `encode_` function documents its further keys. Features are
not padded.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from transformers import PreTrainedTokenizerFast

from compact_biomed.benchmarks.examples import QuestionExample, TextExample, WordsExample
from compact_biomed.errors import UserError
from compact_biomed.objectives import IGNORED

Feature: TypeAlias = dict[str, Any]
MASK = re.compile(r"@[A-Z][A-Z-]*\$")  # @GENE$, @DISEASE$, @CHEM-GENE$
STRIDE = 128  # pieces that two windows of one context share (arXiv 2209.03182's qa.py)
# As in BERT's run_squad: pieces of a question and of an answer, and the number of starts and ends to combine per
# window, which is also the number of answers to keep per context.
LONGEST_QUESTION, LONGEST_ANSWER, BEST = 64, 30, 20


def encode_words(
    examples: Sequence[WordsExample],
    tokenizer: PreTrainedTokenizerFast,
    *,
    label_ids: Mapping[str, int],
    max_length: int,
    published: bool = False,
) -> list[Feature]:
    """Encode each sentence as one feature, cut at `max_length`.

    Further keys: `word_starts`, the position of the first piece of each word that begins inside
    the limit (always the first words); `word_pieces`, the number of pieces of *every* word, uncut;
    `text_end`, the position after the last piece; `labels`, one per position. A word without any
    piece is read as the unknown token.

    Args:
        label_ids: tag -> id; other tags are ignored in training.
        published: label every piece with its word's tag, B included, as the published ner.py does.
            By default the first piece is labeled and the others are ignored.
    """
    prefix, suffix = frame(tokenizer)
    room = max_length - len(prefix) - len(suffix)
    pieces = _pieces_of({word for example in examples for word in example.words}, tokenizer)
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

    A single text that is too long is cut at its end. If that would lose an entity mask (`MASK`),
    a window around the masks is kept instead; where they are too far apart for one window, the
    tokens after the first mask and those before the last one. Of a pair, the longer text is cut.
    """
    prefix, suffix = frame(tokenizer)
    room = max_length - len(prefix) - len(suffix)
    features: list[Feature] = []
    for number, example in enumerate(examples):
        if example.pair is not None:
            encoded = tokenizer(
                example.text,
                example.pair,
                truncation="longest_first",
                max_length=max_length,
                return_token_type_ids=True,
            )
            ids, types = list(encoded["input_ids"]), list(encoded["token_type_ids"])
            features.append({"input_ids": ids, "example": number, "token_type_ids": types})
        else:
            ids = _cut_around_masks(example.text, tokenizer, room)
            features.append({"input_ids": [*prefix, *ids, *suffix], "example": number})
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
    where the window does not contain the whole answer or no answer is known. Questions are cut at
    `LONGEST_QUESTION` pieces. Below a `max_length` of 384, questions and stride take at most a
    third of it each.
    """
    third = max_length // 3
    features = []
    for number, example in enumerate(examples):
        encoded = tokenizer(
            _cut_question(example.question, tokenizer, min(LONGEST_QUESTION, third)),
            example.context,
            truncation="only_second",
            max_length=max_length,
            stride=min(stride, third),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_token_type_ids=True,
        )
        for window in range(len(encoded["input_ids"])):
            of_context = [sequence == 1 for sequence in encoded.sequence_ids(window)]
            offsets = [
                tuple(span) if inside else None
                for span, inside in zip(encoded["offset_mapping"][window], of_context, strict=True)
            ]
            start, end = _answer_positions(example.answers, offsets)
            features.append(
                {
                    "input_ids": list(encoded["input_ids"][window]),
                    "example": number,
                    "token_type_ids": list(encoded["token_type_ids"][window]),
                    "offsets": offsets,
                    "start": start,
                    "end": end,
                }
            )
    return features


def frame(tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """Return the special tokens before and after a single text (ids of [CLS] and [SEP]).

    Raises:
        UserError: they cannot be determined, or the tokenizer is not a fast one.
    """
    if not getattr(tokenizer, "is_fast", False):
        name = getattr(tokenizer, "name_or_path", "") or "tokenizer"
        raise UserError("not a fast tokenizer", where=name, remedy="save it with a tokenizer.json")
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = tokenizer("a")["input_ids"]
    for start in range(len(framed) - len(bare) + 1):
        if bare and framed[start : start + len(bare)] == bare:
            return list(framed[:start]), list(framed[start + len(bare) :])
    raise UserError(
        "the special tokens around a text cannot be determined",
        where=tokenizer.name_or_path,
        remedy="use a tokenizer like BERT's, [CLS] text [SEP]",
    )


def _pieces_of(words: set[str], tokenizer: PreTrainedTokenizerFast) -> dict[str, list[int]]:
    """Return the pieces of each word, tokenized word by word as is usual for these data sets."""
    if not words:
        return {}
    listed = sorted(words)
    encoded = tokenizer(
        [[word] for word in listed], is_split_into_words=True, add_special_tokens=False, return_attention_mask=False
    )
    unknown = tokenizer.unk_token_id
    return {word: list(ids) or [unknown] for word, ids in zip(listed, encoded["input_ids"], strict=True)}


def _cut_around_masks(text: str, tokenizer: PreTrainedTokenizerFast, room: int) -> list[int]:
    """Return at most `room` pieces of a text, its entity masks among them."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids = list(encoded["input_ids"])
    masks = [match.span() for match in MASK.finditer(text)]
    if len(ids) <= room or not masks:
        return ids[:room]
    inside = [
        position
        for position, (start, end) in enumerate(encoded["offset_mapping"])
        if any(start < mask_end and end > mask_start for mask_start, mask_end in masks)
    ]
    first, last = min(inside), max(inside) + 1
    if last <= room:
        return ids[:room]
    if last - first > room:
        head = room // 2
        return ids[first : first + head] + ids[last - (room - head) : last]
    start = min(max(0, first - (room - (last - first)) // 2), len(ids) - room)
    return ids[start : start + room]


@lru_cache(maxsize=4096)
def _cut_question(question: str, tokenizer: PreTrainedTokenizerFast, longest: int) -> str:
    """Return the question, cut after `longest` pieces."""
    offsets = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return question if len(offsets) <= longest else question[: offsets[longest - 1][1]]


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


@dataclass(frozen=True)
class TaggedWords:
    """The predicted tags of one sentence.

    Args:
        tags: one per word, that of its first piece; O beyond the length limit.
        pieces: one per piece of every word, word after word; O beyond the limit.
        word_pieces: number of pieces per word; their sum is the length of `pieces`.
        read: number of words that begin inside the limit.
    """

    tags: list[str]
    pieces: list[str]
    word_pieces: list[int]
    read: int


@dataclass(frozen=True)
class Answers:
    """The predicted answers in one context.

    Args:
        ranked: (text, probability), the most probable first; the probabilities sum to 1 unless there is no answer.
    """

    ranked: list[tuple[str, float]]


def decode_words(
    examples: Sequence[WordsExample],
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
        tags = [labels[best[start]] for start in starts] + ["O"] * (len(counts) - len(starts))
        pieces: list[str] = []
        for word, count in enumerate(counts):
            if published and word < len(starts):
                inside = best[starts[word] : min(starts[word] + count, feature["text_end"])]
                pieces += [labels[label] for label in inside] + ["O"] * (count - len(inside))
            else:
                pieces += [tags[word]] * count
        predictions.append(TaggedWords(tags, pieces, list(counts), len(starts)))
    return predictions


def decode_answers(
    examples: Sequence[QuestionExample], features: Sequence[Feature], logits: Sequence[np.ndarray]
) -> list[Answers]:
    """Return the best answers of each context over its windows, as `best_spans` ranks them.

    Args:
        logits: for each feature [positions, 2]: start, end.
    """
    ranked = best_spans(len(examples), features, logits)
    return [
        Answers([(example.context[start:end], probability) for (start, end), probability in spans])
        for example, spans in zip(examples, ranked, strict=True)
    ]


def best_spans(
    n: int, features: Sequence[Feature], logits: Sequence[np.ndarray]
) -> list[list[tuple[tuple[int, int], float]]]:
    """Return characters (start, end) and probability of the best answers in each of `n` contexts.

    As in BERT's run_squad: the candidates are all pairs of one of the `BEST` highest starts and one
    of the `BEST` highest ends of a window that are inside the context, in order, and at most
    `LONGEST_ANSWER` pieces long. The score of a pair is the sum of its two logits; the probability
    is the softmax over the scores of the `BEST` answers kept.

    Args:
        logits: for each feature [positions, 2]: start, end.
    """
    scores_by_context: list[dict[tuple[int, int], float]] = [{} for _ in range(n)]
    for feature, scores in zip(features, logits, strict=True):
        spans = scores_by_context[feature["example"]]
        for span, score in _candidates(feature["offsets"], np.asarray(scores, np.float64)):
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
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    return [(span, float(p)) for (span, _), p in zip(best, weights, strict=True)]
