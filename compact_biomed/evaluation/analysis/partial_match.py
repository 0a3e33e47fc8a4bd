"""Scores of entities that give credit for near misses: strict, exact, partial and type (SemEval 2013, task 9.1).

The definitions are those of nervaluate (version 1): each predicted entity, in order of the text, is paired with at most
one gold entity that it overlaps, and each gold entity with at most one predicted one.

| scheme  | correct                 | overlapping otherwise |
|---------|-------------------------|-----------------------|
| strict  | same words, same type   | incorrect             |
| exact   | same words              | incorrect             |
| partial | same words              | partial, counts half  |
| type    | any overlap, same type  | incorrect             |

What overlaps nothing is spurious (predicted) or missed (gold).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from compact_biomed.benchmarks.tags import TypedSpan

OUTCOMES = ("correct", "incorrect", "partial", "missed", "spurious")
# Scheme -> whether a predicted entity that overlaps a gold one is correct.
SCHEMES: dict[str, Callable[[TypedSpan, TypedSpan], bool]] = {
    "strict": lambda gold, predicted: gold == predicted,
    "exact": lambda gold, predicted: gold[:2] == predicted[:2],
    "partial": lambda gold, predicted: gold[:2] == predicted[:2],
    "type": lambda gold, predicted: gold.type == predicted.type,
}


def count_matches(gold: Sequence[TypedSpan], predicted: Sequence[TypedSpan], scheme: str) -> Counter[str]:
    """Count the outcomes of one sentence: outcome -> number, for outcomes that occur.

    Args:
        gold, predicted: without overlaps within either, in order of the text.
        scheme: a key of `SCHEMES`.
    """
    outcomes: Counter[str] = Counter()
    free = list(gold)
    for entity in predicted:
        near = [other for other in free if other.start < entity.end and entity.start < other.end]
        right = [other for other in near if SCHEMES[scheme](other, entity)]
        if right:
            outcomes["correct"] += 1
            # Of several gold entities of the type, the one whose ends are closest.
            free.remove(min(right, key=lambda other: abs(other.start - entity.start) + abs(other.end - entity.end)))
        elif near:
            outcomes["partial" if scheme == "partial" else "incorrect"] += 1
            free.remove(near[0])
        else:
            outcomes["spurious"] += 1
    outcomes["missed"] += len(free)
    return +outcomes


def match_scores(
    sentences: Iterable[tuple[Sequence[TypedSpan], Sequence[TypedSpan]]],
) -> dict[str, dict[str, float]]:
    """Score sentences: scheme -> the number of each outcome, and precision, recall and F1 in percent.

    With C correct and P partial ones, precision is (C + P / 2) / (correct + incorrect + partial + spurious), and recall
    (C + P / 2) / (correct + incorrect + partial + missed).

    Args:
        sentences: gold and predicted entities of each.
    """
    pairs = list(sentences)
    scores = {}
    for scheme in SCHEMES:
        outcomes: Counter[str] = Counter()
        for gold, predicted in pairs:
            if gold or predicted:
                outcomes += count_matches(gold, predicted, scheme)
        numbers = {name: outcomes[name] for name in OUTCOMES}
        credit = numbers["correct"] + numbers["partial"] / 2
        paired = numbers["correct"] + numbers["incorrect"] + numbers["partial"]
        n_predicted, n_gold = paired + numbers["spurious"], paired + numbers["missed"]
        scores[scheme] = {
            **numbers,
            "precision": 100 * credit / max(n_predicted, 1),
            "recall": 100 * credit / max(n_gold, 1),
            "f1": 200 * credit / max(n_predicted + n_gold, 1),
        }
    return scores
