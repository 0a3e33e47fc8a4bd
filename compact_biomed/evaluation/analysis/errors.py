"""What is wrong in the predictions of a test set, example by example: the lines of errors.jsonl.

The fields are described in docs/evaluation.md. Lines hold the texts of the test set, so they are written where the user
keeps models, and never into records.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from compact_biomed.benchmarks.examples import QuestionExample, TextExample, WordsExample
from compact_biomed.benchmarks.metrics import first_correct
from compact_biomed.benchmarks.tags import TypedSpan, entities_of
from compact_biomed.evaluation.features import Answers, Choice, TaggedWords
from compact_biomed.evaluation.scoring import TOP, by_question_id, weigh_answers
from compact_biomed.files import write_text

ERRORS = "errors.jsonl"  # in the folder of a fine-tuned model
MISSED, SPURIOUS = "missed", "spurious"
WRONG_TYPE, WRONG_BOUNDARY, WRONG_BOTH = "wrong type", "wrong boundary", "wrong boundary and type"
ENTITY_ERRORS = (MISSED, SPURIOUS, WRONG_BOUNDARY, WRONG_TYPE, WRONG_BOTH)


def write_errors(path: Path | str, lines: Iterable[dict[str, Any]]) -> None:
    """Write a file of errors atomically: one JSON object per line."""
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


# ---- entities


def pair_errors(
    gold: Sequence[TypedSpan], predicted: Sequence[TypedSpan]
) -> list[tuple[str, TypedSpan | None, TypedSpan | None]]:
    """Return (error, gold entity, predicted entity) of a sentence, in order of the text.

    Each entity that is not exactly right is part of one error: paired with one that it overlaps, if any is left. Pairs
    of the same words come first, then those of the same type, then the others. So the errors with a gold entity are the
    false negatives, and those with a predicted one the false positives.
    """
    left = [entity for entity in gold if entity not in predicted]
    wrong = [entity for entity in predicted if entity not in gold]
    errors: list[tuple[str, TypedSpan | None, TypedSpan | None]] = []
    for kind, fits in (
        (WRONG_TYPE, lambda a, b: a[:2] == b[:2]),
        (WRONG_BOUNDARY, lambda a, b: a.type == b.type and a.start < b.end and b.start < a.end),
        (WRONG_BOTH, lambda a, b: a.start < b.end and b.start < a.end),
    ):
        for entity in list(wrong):
            if (other := next((each for each in left if fits(each, entity)), None)) is not None:
                errors.append((kind, other, entity))
                left.remove(other)
                wrong.remove(entity)
    errors += [(MISSED, entity, None) for entity in left] + [(SPURIOUS, None, entity) for entity in wrong]
    return sorted(errors, key=lambda error: min(entity.start for entity in error[1:] if entity))


def count_entity_errors(examples: Sequence[WordsExample], predictions: Sequence[TaggedWords]) -> dict[str, int]:
    """Return how many errors there are of each kind."""
    pairs = zip(examples, predictions, strict=True)
    numbers = Counter(
        kind for example, each in pairs for kind, _, _ in pair_errors(entities_of(example.tags), entities_of(each.tags))
    )
    return {kind: numbers[kind] for kind in ENTITY_ERRORS}


def entity_errors(examples: Sequence[WordsExample], predictions: Sequence[TaggedWords]) -> Iterator[dict[str, Any]]:
    """Yield each sentence that has errors, its words joined by blanks."""
    for example, prediction in zip(examples, predictions, strict=True):
        errors = pair_errors(entities_of(example.tags), entities_of(prediction.tags))
        if not errors:
            continue
        starts = [0]
        for word in example.words:
            starts.append(starts[-1] + len(word) + 1)
        text = " ".join(example.words)

        def shown(entity: TypedSpan, starts: list[int] = starts, text: str = text) -> dict[str, Any]:
            start, end = starts[entity.start], starts[entity.end] - 1
            return {"start": start, "end": end, "type": entity.type, "text": text[start:end]}

        listed = []
        for kind, gold, predicted in errors:
            error: dict[str, Any] = {"error": kind}
            if gold:
                error["gold"] = shown(gold)
            if predicted:
                scores = prediction.scores[predicted.start : predicted.end]
                error["predicted"] = shown(predicted) | {"score": round(sum(scores) / len(scores), 4)}
            if gold and gold.end > prediction.read:
                error["beyond_limit"] = True
            listed.append(error)
        yield {"example": example.key, "text": text, "errors": listed}


# ---- texts


def class_errors(
    examples: Sequence[TextExample], predictions: Sequence[Choice], classes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield each text with a wrong class; the probability of a gold class that training lacked is None."""
    for example, prediction in zip(examples, predictions, strict=True):
        if example.label != prediction.label:
            scores = _rounded(classes, prediction)
            yield _text_fields(example) | {
                "gold": example.label,
                "predicted": prediction.label,
                "probability": scores[prediction.label],
                "probability_of_gold": scores.get(example.label),
            }


def multilabel_errors(
    examples: Sequence[TextExample], predictions: Sequence[Choice], classes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield each text with a class that is missed or spurious."""
    for example, prediction in zip(examples, predictions, strict=True):
        gold, predicted, scores = {*example.label}, {*prediction.label}, _rounded(classes, prediction)
        if gold != predicted:
            yield _text_fields(example) | {
                "gold": sorted(gold),
                "predicted": {name: scores[name] for name in sorted(predicted)},
                "missed": {name: scores.get(name) for name in sorted(gold - predicted)},
                "spurious": {name: scores[name] for name in sorted(predicted - gold)},
            }


def number_errors(examples: Sequence[TextExample], predictions: Sequence[float]) -> Iterator[dict[str, Any]]:
    """Yield every text with its two numbers, the largest difference first."""
    pairs = [(example, float(example.label), value) for example, value in zip(examples, predictions, strict=True)]
    for example, gold, value in sorted(pairs, key=lambda pair: -abs(pair[2] - pair[1])):
        numbers = {"gold": gold, "predicted": round(value, 4), "difference": round(value - gold, 4)}
        yield _text_fields(example) | numbers


def _text_fields(example: TextExample) -> dict[str, Any]:
    return {"example": example.key, "text": example.text} | ({} if example.pair is None else {"pair": example.pair})


def _rounded(classes: Sequence[str], prediction: Choice) -> dict[str, float]:
    return {name: round(p, 4) for name, p in zip(classes, prediction.probabilities, strict=True)}


# ---- questions


def question_errors(examples: Sequence[QuestionExample], predictions: Sequence[Answers]) -> Iterator[dict[str, Any]]:
    """Yield each question whose first answer is not right, with its ranked answers and its contexts."""
    by_question, golden = by_question_id(examples, predictions)
    asked: dict[str, list[QuestionExample]] = {}
    for example in examples:
        asked.setdefault(example.question_id, []).append(example)
    for name, contexts in by_question.items():
        answers = weigh_answers(contexts)[:TOP]
        rank = first_correct([text for text, _ in answers], golden[name])
        if rank == 1:
            continue
        texts = [example.context for example in asked[name]]
        yield {
            "question_id": name,
            "question": asked[name][0].question,
            "gold": golden[name],
            "answers": [{"text": text, "score": round(weight, 4)} for text, weight in answers],
            "rank": rank,
            "in_context": any(gold.lower() in text.lower() for gold in golden[name] for text in texts),
            "contexts": texts,
        }
