"""Near misses: examples counted by hand from the definitions of SemEval 2013, task 9.1."""

import pytest

from compact_biomed.benchmarks.tags import TypedSpan
from compact_biomed.evaluation.analysis.partial_match import OUTCOMES, SCHEMES, count_matches, match_scores


def spans(text: str) -> list[TypedSpan]:
    """ "2-4X 6-7Y" -> words 2 and 3 as X, word 6 as Y."""
    parts = (part.partition("-") for part in text.split())
    return [TypedSpan(int(start), int(end[:-1]), end[-1]) for start, _, end in parts]


# (gold, predicted, outcomes under strict, exact, partial, type): correct, incorrect, partial, missed, spurious.
BY_HAND = [
    ("2-4X", "2-4X", "c", "c", "c", "c"),  # scenario I of the definition: surface and type agree
    ("", "2-4X", "s", "s", "s", "s"),  # II: invented
    ("2-4X", "", "m", "m", "m", "m"),  # III: missed
    ("2-4X", "2-4Y", "i", "c", "c", "i"),  # IV: another type
    ("2-4X", "2-5X", "i", "i", "p", "c"),  # V: another surface
    ("2-4X", "3-6Y", "i", "i", "p", "i"),  # VI: another surface and type
    ("2-4X", "4-6X", "ms", "ms", "ms", "ms"),  # neighbors do not overlap
    ("0-4X", "0-1X 2-4X", "is", "is", "ps", "cs"),  # one gold entity answers for one predicted one
    ("0-1X 2-4X", "0-4X", "im", "im", "pm", "cm"),  # and the other way round
    ("0-3X 3-5Y", "2-5Y", "im", "im", "pm", "cm"),  # of two, that of the type
    ("0-2Y 2-4X", "0-2X 2-4X", "ci", "cc", "cc", "ci"),
]


@pytest.mark.parametrize(("gold", "predicted", "expected"), [(row[0], row[1], row[2:]) for row in BY_HAND])
def test_outcomes_by_hand(gold: str, predicted: str, expected: tuple[str, ...]) -> None:
    for scheme, outcomes in zip(SCHEMES, expected, strict=True):
        counted = count_matches(spans(gold), spans(predicted), scheme)
        assert "".join(sorted(name[0] * number for name, number in counted.items())) == "".join(sorted(outcomes)), (
            scheme
        )


def test_scores_by_hand() -> None:
    # Four gold entities, three predicted: one right, one of another type, one with another end; one is missed.
    scores = match_scores([(spans("0-1X 2-4X"), spans("0-1X 2-4Y")), (spans("1-3X 5-6Y"), spans("1-4X")), ([], [])])
    assert {name: scores["strict"][name] for name in OUTCOMES} == {
        **{"correct": 1, "incorrect": 2, "partial": 0, "missed": 1, "spurious": 0}
    }
    ratios = {scheme: [row["precision"], row["recall"], row["f1"]] for scheme, row in scores.items()}
    assert ratios["strict"] == pytest.approx([100 / 3, 25, 100 * 2 / 7])
    assert ratios["exact"] == pytest.approx([200 / 3, 50, 100 * 4 / 7])
    assert ratios["partial"] == pytest.approx([250 / 3, 62.5, 100 * 5 / 7])  # half of the one with another end
    assert ratios["type"] == pytest.approx([200 / 3, 50, 100 * 4 / 7])
    assert match_scores([([], [])])["type"]["f1"] == 0
