"""Power: against simulation, scipy's own table, and by what must be monotone."""

import numpy as np
import pytest
from scipy import stats
from score_records import record, write
from small_plan import declared, paths_in

from compact_biomed.records.lines import read_lines, score_lines
from compact_biomed.report.measured import measure
from compact_biomed.reproduce.plan import make_plan
from compact_biomed.reproduce.power import claims_power, detectable, pooled_deviation, power, seeds_needed


@pytest.mark.parametrize(("difference", "seeds", "sets"), [(1.0, 3, 1), (1.5, 5, 1), (0.8, 5, 4)])
def test_simulated(difference: float, seeds: int, sets: int) -> None:
    rng, n = np.random.default_rng(3), 20_000
    a, b = rng.normal(difference, 1, (n, sets, seeds)), rng.normal(0, 1, (n, sets, seeds))
    p = stats.ttest_rel(a.mean(1), b.mean(1), axis=1).pvalue
    assert power(difference=difference, deviation=1, seeds=seeds, sets=sets) == pytest.approx(
        (p < 0.05).mean(), abs=0.01
    )


def test_no_difference_is_found_as_often_as_the_level() -> None:
    assert power(difference=0, deviation=1, seeds=4) == pytest.approx(0.05, abs=1e-5)


@pytest.mark.parametrize(("difference", "seeds"), [(0.5, 2), (1.0, 5), (0.7, 30)])
def test_the_noncentral_t_of_scipy(difference: float, seeds: int) -> None:
    shift, bound = difference / 2**0.5 * seeds**0.5, stats.t.ppf(0.975, seeds - 1)
    tails = stats.nct.sf(bound, seeds - 1, shift) + stats.nct.cdf(-bound, seeds - 1, shift)
    assert power(difference=difference, deviation=1, seeds=seeds) == pytest.approx(tails, abs=1e-4)


def test_seeds_and_differences_that_fit() -> None:
    for sets in (1, 4):
        n = seeds_needed(difference=1, deviation=1, sets=sets)
        assert power(difference=1, deviation=1, seeds=n, sets=sets) >= 0.8
        assert power(difference=1, deviation=1, seeds=n - 1, sets=sets) < 0.8
        least = detectable(deviation=1, seeds=n, sets=sets)
        assert power(difference=least, deviation=1, seeds=n, sets=sets) == pytest.approx(0.8)
    # The paired t-test of effect 1 / sqrt(2) wants 18 pairs (Cohen's tables: n = 18 for d = 0.7).
    assert seeds_needed(difference=1, deviation=1) == 18
    assert seeds_needed(difference=0.01, deviation=1) is None
    assert detectable(deviation=2, seeds=3) == pytest.approx(2 * detectable(deviation=1, seeds=3))


@pytest.mark.parametrize("wrong", [{"seeds": 1}, {"seeds": 3, "sets": 0}, {"seeds": 3, "deviation": 0.0}])
def test_what_cannot_be(wrong: dict) -> None:
    with pytest.raises(ValueError):
        power(**{"difference": 1.0, "deviation": 1.0, **wrong})


def test_the_deviation_of_records_is_pooled_within_cells(tmp_path) -> None:
    scores = {("a", "NCBI-disease"): (80, 82), ("b", "NCBI-disease"): (60, 63, 66), ("b", "GAD"): (50,)}
    made = [record(m, t, seed, f1=f) for (m, t), each in scores.items() for seed, f in enumerate(each)]
    found = measure(score_lines(read_lines([write(tmp_path / "r.jsonl", *made)])))
    # squares within: 2 x 1 + 2 x 9 = 20, degrees of freedom 1 + 2
    assert pooled_deviation(found) == (pytest.approx((20 / 3) ** 0.5), 3)
    assert pooled_deviation([each for each in found if each.column.task == "GAD"]) is None


CLAIMED = """
[models]
BioMiniLM = { recipe = "biominilm_cl" }
BioMobileBERT = { recipe = "biomobilebert_cl" }
MiniLM = { checkpoint = "somewhere", like = "BioMiniLM" }
[power]
difference = 0.5
deviation = 1.0
pretraining = 0.3
[presets.smoke]
training = { max_steps = 4, batch_size = 2, seed = 1 }
evaluation = [{ tasks = ["smoke"], seeds = [1, 2, 3] }]
"""


def claims_of(folder, *records: dict, text: str = CLAIMED) -> dict:
    lines = score_lines(read_lines([write(folder / "r.jsonl", *records)])) if records else []
    noise, found = claims_power(make_plan(declared(folder, text), paths_in(folder)), lines)
    return {"noise": noise} | {each.claim.text: each for each in found}


def test_what_the_plan_can_decide_follows_from_the_records(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("COMPACT_BIOMED_DATA", raising=False)
    means = {"BioMiniLM": 80.0, "BioMobileBERT": 60.0, "MiniLM": 79.9}
    made = [record(name, seed=n, f1=mean + n) for name, mean in means.items() for n in (1, 2, 3)]
    found = claims_of(tmp_path, *made)
    assert found["noise"].assumed == ("pretraining",) and not found["noise"].examples
    assert found["noise"].finetuning["BioMiniLM"] == pytest.approx(1 / 82)
    far, near = (
        found["BioMobileBERT retains up to 98.2 % of it"],
        found["Pretraining further on PubMed helps the teacher"],
    )
    assert far.verdict == "does not hold here" and near.verdict is None and not near.unknown
    (pair,) = near.pairs
    # Two quantiles of the normal distribution, 1.96 and 0.84, times the deviation of the ratio; MiniLM has no training.
    deviation = ((1 / 82) ** 2 / 3 + (1 / 81.9) ** 2 / 3 + (0.3 / 75) ** 2) ** 0.5
    assert pair.margin == pytest.approx(2.802 * deviation, rel=1e-3) and pair.expected == pytest.approx(82 / 81.9)
    assert found["Pretraining further on PubMed helps each compact model"].pairs == ()


def test_nothing_recorded_leaves_the_claims_unknown_and_more_seeds_see_more(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("COMPACT_BIOMED_DATA", raising=False)
    few = claims_of(tmp_path)["Pretraining further on PubMed helps the teacher"]
    assert few.unknown and few.verdict is None
    text = CLAIMED.replace("[1, 2, 3]", "[1, 2, 3, 4, 5, 6]")
    twice = text.replace("training = {", 'replicates = [{ seed = 2, models = ["BioMiniLM"] }]\ntraining = {')
    margins = [few.pairs[0].margin] + [
        claims_of(tmp_path, text=each)["Pretraining further on PubMed helps the teacher"].pairs[0].margin
        for each in (text, twice)
    ]
    assert margins == sorted(margins, reverse=True) and len(set(margins)) == 3
