"""What a model computed -> one prediction an example."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compact_biomed.evaluation.encode import Feature
from compact_biomed.evaluation.examples import QuestionExample, WordsExample

BEST = 20  # starts and ends that are tried, and answers kept, a context (BERT's run_squad)
LONGEST_ANSWER = 30  # pieces (BERT's run_squad)


@dataclass(frozen=True)
class TaggedWords:
    """What was predicted for one sentence.

    Args:
        tags: one a word, of its first piece; O beyond the limit.
        pieces: one a piece of every word, word after word; O beyond the limit.
        word_pieces: how many pieces each word has; their sum is the length of `pieces`.
        read: words that began inside the limit.
    """

    tags: list[str]
    pieces: list[str]
    word_pieces: list[int]
    read: int


@dataclass(frozen=True)
class Answers:
    """What was found in one context: (text, probability) by falling probability; they add up to 1 or are none."""

    ranked: list[tuple[str, float]]


def decode_words(
    examples: Sequence[WordsExample],
    features: Sequence[Feature],
    logits: Sequence[np.ndarray],
    *,
    labels: Sequence[str],
    published: bool = False,
) -> list[TaggedWords]:
    """Tags of every word and every piece, for both scales, from the same logits.

    Args:
        logits: for each feature [positions, labels]; rows beyond the feature's are padding.
        published: each piece has the tag that the model gave it, as in the published ner.py. By
            default it has its word's, for a model that was trained on first pieces says nothing
            of the others.
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
    """The best answers of each context over its windows, as `best_spans` ranks them.

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
    """Characters (start, end) of the best answers in each of `n` contexts, with their probabilities.

    As in BERT's run_squad: every pair of one of the `BEST` highest starts and ends of a window counts
    if it lies in the context, in order, and spans at most `LONGEST_ANSWER` pieces; its score is the sum
    of the two logits, and the probability is the softmax of the scores of the `BEST` answers kept.

    Args:
        logits: for each feature [positions, 2]: start, end.
    """
    found: list[dict[tuple[int, int], float]] = [{} for _ in range(n)]
    for feature, scores in zip(features, logits, strict=True):
        spans = found[feature["example"]]
        for span, score in _spans(feature["offsets"], np.asarray(scores, np.float64)):
            spans[span] = max(score, spans.get(span, -np.inf))
    return [_rank(spans) for spans in found]


def _spans(offsets, scores: np.ndarray):
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
