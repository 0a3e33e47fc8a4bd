"""One class, several classes, or a number an example."""

from collections import Counter
from collections.abc import Sequence

from compact_biomed.evaluation.examples import TextExample
from compact_biomed.evaluation.scoring.scores import Scores, compute

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
