"""The score of a model that gives the same answer for every example, the best that there is: the trivial baseline.

A score is evidence of learning only above it. In GAD, where half of the pairs are related, calling all of them
related has an F1 near 69; in EU-ADR it has 85.
"""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from compact_biomed.benchmarks.metrics import GOLD_PREFIX
from compact_biomed.benchmarks.tasks import NEGATIVE, TASKS


def trivial_score(record: Mapping[str, Any]) -> float | None:
    """Return the primary metric, in percent, of the best constant answer on a record's test set.

    Return None for tasks without classes, and where the record lacks the numbers of examples in them.
    """
    kind, counts = record["task"].get("kind"), record.get("counts", {})
    gold = {name.removeprefix(GOLD_PREFIX): n for name, n in counts.items() if name.startswith(GOLD_PREFIX)}
    n = counts.get("examples", 0)
    if kind == "classification" and gold:
        return 100 * max(gold.values()) / n
    if kind == "multilabel" and gold:  # the most frequent classes, as many as are best
        correct = accumulate(sorted(gold.values(), reverse=True))
        return max(200 * tp / (number * n + counts["labels"]) for number, tp in enumerate(correct, 1))
    if kind == "relation" and "positives" in counts:
        if not gold and _is_binary(record["task"]["name"]):  # older records have no numbers for each class
            gold = {"1": counts["positives"]}
        positive = [n for label, n in gold.items() if label not in NEGATIVE]
        return 200 * max(positive) / (n + counts["positives"]) if positive else None
    return None


def _is_binary(task: str) -> bool:
    return task in TASKS and TASKS[task].reader == "folds"
