"""BioASQ factoid questions: the answers of all contexts of a question, merged and ranked."""

from collections.abc import Sequence

from compact_biomed.evaluation.decode import Answers
from compact_biomed.evaluation.examples import QuestionExample
from compact_biomed.evaluation.scoring.scores import Scores, compute

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
