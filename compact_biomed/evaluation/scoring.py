"""Score predictions: metrics in percent, and per-example counts from which they can be computed again.

The metrics are those of `benchmarks.metrics`. Sums of the per-example counts determine the primary
metric, so that confidence intervals and paired tests resample rows of numbers.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Tokens

from compact_biomed.benchmarks.examples import QuestionExample, TextExample, WordsExample
from compact_biomed.benchmarks.metrics import GOLD_PREFIX, first_correct, metric
from compact_biomed.benchmarks.tasks import NEGATIVE
from compact_biomed.evaluation.features import Answers, TaggedWords


@dataclass(frozen=True)
class Scores:
    """The scores of one run on one set of examples.

    Args:
        metrics: name -> value in percent (correlations: 100 times the coefficient).
        counts: name -> number: examples, entities, words beyond the length limit, ...
        per_example: one row of counts per example (question answering: per question) whose sums
            determine the primary metric; every row has the columns of its kind of task.
    """

    metrics: dict[str, float]
    counts: dict[str, int]
    per_example: list[dict[str, float]]


def compute(name: str, predictions: Sequence[Any], references: Sequence[Any], **options: Any) -> dict[str, float]:
    """Return the values of a metric of `benchmarks.metrics`, in percent."""
    values = metric(name).compute(predictions=predictions, references=references, **options)
    return {key: 100 * value for key, value in values.items()}


# ---- entities: on whole words, and on word pieces as published


ENTITY_COLUMNS = ("tp", "fp", "fn", "piece_tp", "piece_fp", "piece_fn")


def score_entities(examples: Sequence[WordsExample], predictions: Sequence[TaggedWords]) -> Scores:
    """Score entities on two scales, which must never share a column of a table.

    Metrics: `precision`, `recall`, `f1` on words (seqeval strict, IOB2), as BioBERT and BLURB score;
    `piece_precision`, `piece_recall`, `piece_f1` on the published scale, where every piece of a
    word inherits the word's tag, B included, so that one mention counts several times. Words
    beyond the length limit are predicted O: their entities are missed.

    Counts, one row per sentence: `ENTITY_COLUMNS`, counted on words and on pieces.
    """
    gold = [list(example.tags) for example in examples]
    gold_pieces = [
        [tag for tag, count in zip(example.tags, prediction.word_pieces, strict=True) for _ in range(count)]
        for example, prediction in zip(examples, predictions, strict=True)
    ]
    words = [prediction.tags for prediction in predictions]
    pieces = [prediction.pieces for prediction in predictions]
    on_pieces = compute("entities", pieces, gold_pieces, mode="published")
    metrics = compute("entities", words, gold) | {f"piece_{name}": value for name, value in on_pieces.items()}
    of_words = map(_entity_counts, strict_entities(gold), strict_entities(words))
    of_pieces = map(_entity_counts, published_entities(gold_pieces), published_entities(pieces))
    rows = [dict(zip(ENTITY_COLUMNS, (*a, *b), strict=True)) for a, b in zip(of_words, of_pieces, strict=True)]
    return Scores(metrics, _entity_totals(examples, predictions, rows), rows)


def strict_entities(sentences: Iterable[Sequence[str]]) -> Iterator[set]:
    """Yield the entities of each sentence as seqeval's strict mode reads IOB2."""
    for tags in sentences:
        yield {entity.to_tuple()[1:] for entity in Tokens(list(tags), IOB2).entities} if _any_entity(tags) else set()


def published_entities(sentences: Iterable[Sequence[str]]) -> Iterator[set]:
    """Yield the entities of each sentence as seqeval reads tags by default."""
    for tags in sentences:
        yield set(get_entities(list(tags))) if _any_entity(tags) else set()


def _any_entity(tags: Sequence[str]) -> bool:
    # Most sentences have no entity, and seqeval is slow.
    return any(tag != "O" for tag in tags)


def _entity_counts(gold: set, predicted: set) -> tuple[int, int, int]:
    both = len(gold & predicted)
    return both, len(predicted) - both, len(gold) - both


def _entity_totals(
    examples: Sequence[WordsExample], predictions: Sequence[TaggedWords], rows: Sequence[dict[str, float]]
) -> dict[str, int]:
    total = {name: sum(row[name] for row in rows) for name in ENTITY_COLUMNS}
    beyond = [example.tags[prediction.read :] for example, prediction in zip(examples, predictions, strict=True)]
    return {
        "sentences": len(examples),
        "words": sum(len(example.words) for example in examples),
        "words_beyond_limit": sum(map(len, beyond)),
        "entities_beyond_limit": sum(tag[0] == "B" for tags in beyond for tag in tags),
        "entities": total["tp"] + total["fn"],
        "predicted": total["tp"] + total["fp"],
        "correct": total["tp"],
        "piece_entities": total["piece_tp"] + total["piece_fn"],
        "piece_predicted": total["piece_tp"] + total["piece_fp"],
        "piece_correct": total["piece_tp"],
    }


def words_cut_off(counts: Mapping[str, float]) -> str | None:
    """Return a sentence on the words of a test set that no model with this length limit reads; None: it reads all.

    Args:
        counts: of `Scores`.
    """
    if not counts.get("words_beyond_limit"):
        return None
    return (
        f"{counts['words_beyond_limit']:,} of {counts['words']:,} test words are beyond the length limit; their "
        f"{counts['entities_beyond_limit']:,} entities count as missed"
    )


# ---- one class, several classes, or a number per example


def score_relations(examples: Sequence[TextExample], predictions: Sequence[str]) -> Scores:
    """Score `precision`, `recall`, `f1`, micro-averaged over the classes that are not `NEGATIVE`; accuracy, macro-F1.

    For GAD and EU-ADR that is the F1 of class 1, for CHEMPROT the micro-F1 of BLUE and BLURB over
    the five positive classes. Counts, one row per example: tp, fp, fn.
    """
    gold = [example.label for example in examples]
    positive = sorted({*gold, *predictions} - {*NEGATIVE})
    metrics = compute("labels", list(predictions), gold, positive=positive)
    rows = []
    for label, predicted in zip(gold, predictions, strict=True):
        correct = label == predicted
        rows.append(
            {
                "tp": int(correct and label not in NEGATIVE),
                "fp": int(not correct and predicted not in NEGATIVE),
                "fn": int(not correct and label not in NEGATIVE),
            }
        )
    if not positive:  # no relation among the labels, and none predicted
        metrics |= dict.fromkeys(("precision", "recall", "f1"), 0.0)
    positives = sum(label not in NEGATIVE for label in gold)
    return Scores(metrics, {"examples": len(gold), "positives": positives, **_sizes(gold)}, rows)


def score_classes(examples: Sequence[TextExample], predictions: Sequence[str]) -> Scores:
    """Score `accuracy` and `macro_f1`. Counts, one row per example: correct, examples (always 1)."""
    gold = [example.label for example in examples]
    metrics = compute("labels", list(predictions), gold)
    rows = [{"correct": int(a == b), "examples": 1} for a, b in zip(gold, predictions, strict=True)]
    return Scores(metrics, {"examples": len(gold), **_sizes(gold)}, rows)


def _sizes(gold: Iterable[str]) -> dict[str, int]:
    """Return the number of examples in each class; from them follows what a constant answer scores."""
    return {f"{GOLD_PREFIX}{label}": n for label, n in sorted(Counter(gold).items())}


def score_multilabel(examples: Sequence[TextExample], predictions: Sequence[tuple[str, ...]]) -> Scores:
    """Score `precision`, `recall`, `f1`, micro-averaged (BLURB's score of HoC), and `macro_f1`.

    Counts, one row per example: tp, fp, fn over its classes.
    """
    gold = [list(example.label) for example in examples]
    metrics = compute("multilabel", [list(labels) for labels in predictions], gold)
    rows = []
    for labels, predicted in zip(gold, predictions, strict=True):
        both = len({*labels} & {*predicted})
        rows.append({"tp": both, "fp": len({*predicted}) - both, "fn": len({*labels}) - both})
    of_classes = _sizes(label for labels in gold for label in labels)
    return Scores(metrics, {"examples": len(gold), "labels": sum(map(len, gold)), **of_classes}, rows)


def score_numbers(examples: Sequence[TextExample], predictions: Sequence[float]) -> Scores:
    """Score `pearson` and `spearman`, times 100.

    Counts, one row per example: x (predicted), y (label), xx, yy, xy, n (always 1). The means are
    subtracted from x and y, because sums of squares of numbers far from 0 lose their differences.
    """
    gold = [float(example.label) for example in examples]
    metrics = compute("correlation", list(predictions), gold)
    means = [sum(values) / max(len(values), 1) for values in (predictions, gold)]
    centered = [(x - means[0], y - means[1]) for x, y in zip(predictions, gold, strict=True)]
    rows = [{"x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y, "n": 1} for x, y in centered]
    return Scores(metrics, {"examples": len(gold)}, rows)


# ---- BioASQ factoid questions


TOP = 5
LONGEST = 100  # characters; BioASQ accepts no longer exact answer


def score_questions(examples: Sequence[QuestionExample], predictions: Sequence[Answers]) -> Scores:
    """Score `strict`, `lenient` (accuracy) and `mrr` of the merged answers, and the same three as published.

    `exact_match` and `f1` are SQuAD's, of the most probable answer of all contexts.

    `published_*`: the published qa.py submits the five best answers of each context as one inner
    list, and of an inner list the evaluator reads the first entry (version 5 and later). So the
    answers are the best one of each context, in the order of the file, however many contexts there
    are. The scripts do not say which version of the evaluator was run.

    Counts, one row per question in the order of the file: reciprocal_rank, strict, lenient,
    questions (always 1).
    """
    by_question, golden = by_question_id(examples, predictions)
    references = list(golden.values())
    answers = [merge_answers(contexts) for contexts in by_question.values()]
    best_per_context = [[each.ranked[0][0] for each in contexts if each.ranked] for contexts in by_question.values()]
    published = compute("factoid", best_per_context, references)
    metrics = compute("factoid", answers, references)
    metrics |= {f"published_{name}": value for name, value in published.items()}
    metrics |= compute("answers", [_best(contexts) for contexts in by_question.values()], references)
    rows = [_question_counts(ranked, accepted) for ranked, accepted in zip(answers, references, strict=True)]
    counts = {"questions": len(golden), "pairs": len(examples), "answerable": _answerable(examples, golden)}
    return Scores(metrics, counts, rows)


def _best(contexts: Sequence[Answers]) -> str:
    """Return the most probable answer of all contexts, "" if there is none."""
    return max((each.ranked[0] for each in contexts if each.ranked), key=lambda pair: pair[1], default=("", 0.0))[0]


def by_question_id(
    examples: Sequence[QuestionExample], predictions: Sequence[Answers]
) -> tuple[dict[str, list[Answers]], dict[str, list[str]]]:
    """Return the predictions of each question's contexts, and its golden answers.

    In training files a context lists only its own answers; the answers of all contexts are accepted.
    """
    by_question: dict[str, list[Answers]] = {}
    golden: dict[str, dict[str, None]] = {}
    for example, prediction in zip(examples, predictions, strict=True):
        by_question.setdefault(example.question_id, []).append(prediction)
        golden.setdefault(example.question_id, {}).update(dict.fromkeys(text for text, _ in example.answers))
    return by_question, {question: list(texts) for question, texts in golden.items()}


def merge_answers(contexts: Sequence[Answers], top: int = TOP) -> list[str]:
    """Return the `top` answers over all contexts of a question, best first, as BioBERT merges them.

    The probabilities of answers that differ in case alone are summed over the contexts; the
    spelling is that of the most probable one (biocodes/transform_nbset2bioasqform.py of
    dmis-lab/biobert). Answers of more than `LONGEST` characters are left out.
    """
    return [text for text, _ in weigh_answers(contexts)[:top]]


def weigh_answers(contexts: Sequence[Answers]) -> list[tuple[str, float]]:
    """Return all answers of `merge_answers` with the sum of their probabilities, best first."""
    weights: dict[str, float] = {}
    spelling: dict[str, str] = {}
    pooled = [pair for context in contexts for pair in context.ranked]
    for text, probability in sorted(pooled, key=lambda pair: -pair[1]):
        if text and len(text) <= LONGEST:
            spelling.setdefault(text.lower(), text)
            weights[text.lower()] = weights.get(text.lower(), 0.0) + probability
    ranked = sorted(weights, key=lambda key: -weights[key])  # stable: ties stay in order of probability
    return [(spelling[key], weights[key]) for key in ranked]


def _question_counts(answers: Sequence[str], golden: Sequence[str]) -> dict[str, float]:
    rank = first_correct(answers, golden)
    return {
        "reciprocal_rank": 1 / rank if rank else 0.0,
        "strict": int(rank == 1),
        "lenient": int(rank > 0),
        "questions": 1,
    }


def _answerable(examples: Sequence[QuestionExample], golden: dict[str, list[str]]) -> int:
    """Count the questions with a golden answer, case ignored, in some context: the upper bound of any extraction."""
    answerable = set()
    for example in examples:
        context = example.context.lower()
        if any(text.lower() in context for text in golden[example.question_id]):
            answerable.add(example.question_id)
    return len(answerable)
