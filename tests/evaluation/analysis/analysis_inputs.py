"""Random examples with predictions of some quality."""

import random

import numpy as np

from compact_biomed.benchmarks.examples import TextExample, WordsExample
from compact_biomed.evaluation.features import Choice, TaggedWords

SEVERAL = ["a", "b", "c", "d"]


def random_tags(seed: int, n: int) -> tuple[list[WordsExample], list[TaggedWords]]:
    """Make sentences of up to 12 words with entities of three types."""
    chance = random.Random(seed)
    tags = ["O", "O", "O", "B-X", "I-X", "B-Y", "I-Y", "B-Z"]
    examples, predictions = [], []
    for number in range(n):
        gold = chance.choices(tags, k=chance.randint(2, 12))
        given = [tag if chance.random() < 0.8 else chance.choice(tags) for tag in gold]
        words = tuple(f"w{place}" for place in range(len(gold)))
        examples.append(WordsExample(f"test/{number}", words, tuple(gold)))
        scores = [
            chance.uniform(0.5 if a == b else 0.3, 1 if a == b else 0.7) for a, b in zip(gold, given, strict=True)
        ]
        predictions.append(TaggedWords(given, given, [1] * len(given), len(given), scores))
    return examples, predictions


def random_choices(
    seed: int, classes: list[str], n: int, *, several: bool = False
) -> tuple[list[TextExample], list[Choice]]:
    """Make texts of which the likeliest classes are often right."""
    chance = np.random.default_rng(seed)
    examples, predictions = [], []
    for number in range(n):
        logits = chance.normal(size=len(classes)) * 2
        noisy = logits + chance.normal(size=len(classes))
        p = 1 / (1 + np.exp(-logits)) if several else np.exp(logits) / np.exp(logits).sum()
        pick = (lambda x: tuple(np.array(classes)[x > 0].tolist())) if several else (lambda x: classes[int(x.argmax())])
        examples.append(TextExample(f"t/{number}", f"text {number}", None, pick(noisy)))
        predictions.append(Choice(pick(logits), tuple(p.tolist())))
    return examples, predictions
