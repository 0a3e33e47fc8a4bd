"""Entities on two scales from the same predictions: whole words, and word-pieces as published."""

from collections.abc import Iterable, Sequence

from compact_biomed.evaluation.decode import TaggedWords
from compact_biomed.evaluation.examples import WordsExample
from compact_biomed.evaluation.scoring.scores import Scores, compute

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
