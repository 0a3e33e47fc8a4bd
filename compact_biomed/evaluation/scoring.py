"""What scoring gives, the metrics it asks, and metrics of sums."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from compact_biomed.benchmarks.examples import QuestionExample, TextExample, WordsExample
from compact_biomed.benchmarks.metrics import metric
from compact_biomed.evaluation.features import Answers, TaggedWords


@dataclass(frozen=True)
class Scores:
    """The scores of one run on one set of examples.

    Args:
        metrics: name -> value in percent (correlations too: 100 times the coefficient).
        counts: name -> number: examples, entities, words beyond the limit, ...
        per_example: one row per example (per question, for question answering) of counts whose sums
            determine the primary metric; every row has the kind's `columns`.
    """

    metrics: dict[str, float]
    counts: dict[str, int]
    per_example: list[dict[str, float]]


def compute(name: str, predictions: Sequence[Any], references: Sequence[Any], **options: Any) -> dict[str, float]:
    """The scores of a metric, in percent."""
    found = metric(name).compute(predictions=predictions, references=references, **options)
    return {key: 100 * value for key, value in found.items()}


# ----------------------------------------------------------------------------------------------------
# Entities on two scales from the same predictions: whole words, and word-pieces as published.


COLUMNS = ("tp", "fp", "fn", "piece_tp", "piece_fp", "piece_fn")


def score_entities(examples: Sequence[WordsExample], predictions: Sequence[TaggedWords]) -> Scores:
    """Scores of entities.

    Metrics: `precision`, `recall`, `f1` on words (seqeval strict, IOB2), as BioBERT and BLURB score;
    `piece_precision`, `piece_recall`, `piece_f1` on the published scale, where every piece of a
    word inherits the word's tag, B included, so that one mention counts several times. The two
    never share a column. Words beyond the length limit are predicted O: their entities are missed.

    Units, a sentence a row: tp, fp, fn on words, piece_tp, piece_fp, piece_fn on pieces.
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
    of_words = map(_counts, strict_entities(gold), strict_entities(words))
    of_pieces = map(_counts, published_entities(gold_pieces), published_entities(pieces))
    units = [dict(zip(COLUMNS, (*a, *b), strict=True)) for a, b in zip(of_words, of_pieces, strict=True)]
    return Scores(metrics, _totals(examples, predictions, units), units)


def strict_entities(sentences: Iterable[Sequence[str]]) -> Iterable[set]:
    """Entities of each sentence as seqeval's strict mode reads IOB2."""
    from seqeval.scheme import IOB2, Tokens

    for tags in sentences:
        yield {entity.to_tuple()[1:] for entity in Tokens(list(tags), IOB2).entities} if _any(tags) else set()


def published_entities(sentences: Iterable[Sequence[str]]) -> Iterable[set]:
    """Entities of each sentence as seqeval reads tags by default."""
    from seqeval.metrics.sequence_labeling import get_entities

    for tags in sentences:
        yield set(get_entities(list(tags))) if _any(tags) else set()


def _any(tags: Sequence[str]) -> bool:
    """Most sentences have no entity, and seqeval is slow."""
    return any(tag != "O" for tag in tags)


def _counts(gold: set, predicted: set) -> tuple[int, int, int]:
    both = len(gold & predicted)
    return both, len(predicted) - both, len(gold) - both


def _totals(examples, predictions, units) -> dict[str, int]:
    total = {name: sum(row[name] for row in units) for name in COLUMNS}
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


# ----------------------------------------------------------------------------------------------------
# One class, several classes, or a number an example.


# The classes of "no relation" in GAD, EU-ADR ("0") and CHEMPROT ("false"): right ones earn nothing.
NEGATIVE = ("0", "false")


def score_relations(examples: Sequence[TextExample], predictions: Sequence[str]) -> Scores:
    """`precision`, `recall`, `f1` micro-averaged over the classes that are not `NEGATIVE`; accuracy, macro-F1.

    For GAD and EU-ADR that is the F1 of class 1, for CHEMPROT BLUE's and BLURB's micro-F1 over
    the five positive classes. Units, an example a row: tp, fp, fn.
    """
    gold = [example.label for example in examples]
    positive = sorted({*gold, *predictions} - {*NEGATIVE})
    metrics = compute("labels", list(predictions), gold, positive=positive)
    units = []
    for wanted, given in zip(gold, predictions, strict=True):
        right = wanted == given
        units.append(
            {
                "tp": int(right and wanted not in NEGATIVE),
                "fp": int(not right and given not in NEGATIVE),
                "fn": int(not right and wanted not in NEGATIVE),
            }
        )
    if not positive:  # nothing to find, and nothing was found
        metrics |= dict.fromkeys(("precision", "recall", "f1"), 0.0)
    return Scores(metrics, {"examples": len(gold), "positives": sum(label not in NEGATIVE for label in gold)}, units)


def score_classes(examples: Sequence[TextExample], predictions: Sequence[str]) -> Scores:
    """`accuracy` and `macro_f1`. Units, an example a row: correct, examples (always 1)."""
    gold = [example.label for example in examples]
    metrics = compute("labels", list(predictions), gold)
    units = [{"correct": int(a == b), "examples": 1} for a, b in zip(gold, predictions, strict=True)]
    counts = {"examples": len(gold), **{f"gold {label}": n for label, n in sorted(Counter(gold).items())}}
    return Scores(metrics, counts, units)


def score_multilabel(examples: Sequence[TextExample], predictions: Sequence[tuple[str, ...]]) -> Scores:
    """`precision`, `recall`, `f1` micro-averaged (BLURB's score of HoC) and `macro_f1`.

    Units, an example a row: tp, fp, fn over its classes.
    """
    gold = [list(example.label) for example in examples]
    metrics = compute("multilabel", [list(labels) for labels in predictions], gold)
    units = []
    for wanted, given in zip(gold, predictions, strict=True):
        both = len({*wanted} & {*given})
        units.append({"tp": both, "fp": len({*given}) - both, "fn": len({*wanted}) - both})
    return Scores(metrics, {"examples": len(gold), "labels": sum(map(len, gold))}, units)


def score_numbers(examples: Sequence[TextExample], predictions: Sequence[float]) -> Scores:
    """`pearson` and `spearman`, times 100. Units, an example a row: x (predicted), y, xx, yy, xy, n (always 1).

    x and y are told from their means: sums of squares of numbers far from 0 would lose what they differ in.
    """
    gold = [float(example.label) for example in examples]
    metrics = compute("correlation", list(predictions), gold)
    centers = [sum(values) / max(len(values), 1) for values in (predictions, gold)]
    centered = [(x - centers[0], y - centers[1]) for x, y in zip(predictions, gold, strict=True)]
    units = [{"x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y, "n": 1} for x, y in centered]
    return Scores(metrics, {"examples": len(gold)}, units)


# ----------------------------------------------------------------------------------------------------
# BioASQ factoid questions: the answers of all contexts of a question, merged and ranked.


TOP = 5
LONGEST = 100  # characters; BioASQ accepts no longer exact answer


def score_questions(examples: Sequence[QuestionExample], predictions: Sequence[Answers]) -> Scores:
    """`strict`, `lenient` (accuracy) and `mrr` of the merged answers, and the same three as published.

    `published_*`: the published qa.py submits the five best answers of each context as one inner
    list, and of an inner list the evaluator reads the first (version 5 and later): so the answers
    are the best one of each context, in the order of the file, however many contexts there are.
    Which version was run is not told there.

    Units, a question a row in the order of the file: reciprocal_rank, strict, lenient, questions
    (always 1).
    """
    merged: dict[str, list[Answers]] = {}
    # Any answer of any of its contexts: in training files each context has those that stand in it.
    accepted: dict[str, dict[str, None]] = {}
    for example, prediction in zip(examples, predictions, strict=True):
        merged.setdefault(example.question_id, []).append(prediction)
        accepted.setdefault(example.question_id, {}).update(dict.fromkeys(text for text, _ in example.answers))
    golden = {question: list(texts) for question, texts in accepted.items()}
    references = list(golden.values())
    answers = [merge(contexts) for contexts in merged.values()]
    one_each = [[each.ranked[0][0] for each in contexts if each.ranked] for contexts in merged.values()]
    metrics = compute("factoid", answers, references)
    metrics |= {f"published_{name}": value for name, value in compute("factoid", one_each, references).items()}
    units = [_unit(given, wanted) for given, wanted in zip(answers, references, strict=True)]
    counts = {
        "questions": len(golden),
        "pairs": len(examples),
        "answerable": sum(_answerable(examples, golden).values()),
    }
    return Scores(metrics, counts, units)


def merge(contexts: Sequence[Answers], top: int = TOP) -> list[str]:
    """The `top` answers over all contexts of a question, best first, as BioBERT merges them.

    The probabilities of answers that differ in case alone are added up over the contexts; the
    spelling is that of the most probable one (biocodes/transform_nbset2bioasqform.py of
    dmis-lab/biobert). Answers of more than 100 characters are left out.
    """
    weights: dict[str, float] = {}
    spelling: dict[str, str] = {}
    pooled = [pair for context in contexts for pair in context.ranked]
    for text, probability in sorted(pooled, key=lambda pair: -pair[1]):
        if text and len(text) <= LONGEST:
            spelling.setdefault(text.lower(), text)
            weights[text.lower()] = weights.get(text.lower(), 0.0) + probability
    ranked = sorted(weights, key=lambda key: -weights[key])  # stable: ties stay by probability
    return [spelling[key] for key in ranked[:top]]


def _unit(answers: Sequence[str], golden: Sequence[str]) -> dict[str, float]:
    accepted = {text.lower() for text in golden}
    rank = next((rank for rank, text in enumerate(answers, 1) if text.lower() in accepted), 0)
    return {
        "reciprocal_rank": 1 / rank if rank else 0.0,
        "strict": int(rank == 1),
        "lenient": int(rank > 0),
        "questions": 1,
    }


def _answerable(examples: Sequence[QuestionExample], golden: dict[str, list[str]]) -> dict[str, bool]:
    """Whether some golden answer stands, case ignored, in some context: the bound of any extraction."""
    found = dict.fromkeys(golden, False)
    for example in examples:
        context = example.context.lower()
        found[example.question_id] |= any(text.lower() in context for text in golden[example.question_id])
    return found


# ----------------------------------------------------------------------------------------------------
# Predictions -> scores, by the metrics shipped in `evaluation/metrics`, and per-example units.
