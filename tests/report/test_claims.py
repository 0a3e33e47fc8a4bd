"""Claims: each verdict by records made for it, deterministic, and with its reason."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from score_records import record, with_counts, write

from compact_biomed.benchmarks.metrics import f1_of_sums
from compact_biomed.cli import main
from compact_biomed.records.lines import read_lines, score_lines
from compact_biomed.report.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Judged, judge

TASKS = ("NCBI-disease", "BC2GM")


def measured(
    folder: Path, hits: Mapping[str, float], *, seeds: tuple[int, ...] = (1, 2, 3), n: int = 150
) -> list[dict]:
    """Records of models that find such a share of the entities."""
    made = []
    for model, hit in hits.items():
        for task in TASKS:
            for seed in seeds:
                rng = np.random.default_rng([seed, *map(ord, model + task)])
                tp = rng.binomial(2, hit, n)
                rows = np.stack([tp, rng.binomial(1, 0.05, n), 2 - tp], 1)
                scores = record(model, task, seed, f1=float(f1_of_sums(rows.sum(0))))
                made.append(with_counts(folder, scores, ["tp", "fp", "fn"], rows))
    return made


def judged(folder: Path, records: list[dict], **options: int) -> dict[str, Judged]:
    lines = score_lines(read_lines([write(folder / "r.jsonl", *records)]))
    return {each.claim.text: each for each in judge(lines, **({"resamples": 499} | options))}


def verdict(folder: Path, start: str, hits: Mapping[str, float], **options) -> Judged:
    found = judged(folder, measured(folder, hits, **options))
    return next(each for text, each in found.items() if text.startswith(start))


ALL = {"BioMiniLM": 0.8, "DistilBioBERT": 0.7, "CompactBioBERT": 0.7, "TinyBioBERT": 0.6}


@pytest.mark.parametrize(
    ("start", "hits", "expected", "why"),
    [
        ("Distilled models retain", {**ALL, "CompactBioBERT": 0.84}, HOLDS, "CompactBioBERT: above the threshold"),
        ("Distilled models retain", ALL, FAILS, "every interval is below the threshold"),
        ("Distilled models retain", {**ALL, "CompactBioBERT": 0.787}, UNDECIDED, "CompactBioBERT: the interval"),
        ("Distilled models retain", {"BioMiniLM": 0.8, "TinyBioBERT": 0.6}, UNTESTED, "DistilBioBERT was not measured"),
        ("Distilled models retain", {"BioMiniLM": 0.8, "TinyBioBERT": 0.9}, HOLDS, "TinyBioBERT"),
        ("BioMobileBERT is the best", {"BioMobileBERT": 0.8, "BioTinyBERT": 0.7, "TinyBioBERT": 0.6}, HOLDS, "every"),
        ("BioMobileBERT is the best", {"BioMobileBERT": 0.7, "BioTinyBERT": 0.8}, FAILS, "BioMobileBERT: below"),
        ("BioMobileBERT is the best", {"BioMobileBERT": 0.8, "BioTinyBERT": 0.7}, UNTESTED, "TinyBioBERT was not"),
        ("Pretraining further on PubMed helps the teacher", {"BioMiniLM": 0.8, "MiniLM": 0.7}, HOLDS, "above"),
        ("Pretraining further on PubMed helps the teacher", {"BioMiniLM": 0.8, "MiniLM": 0.9}, FAILS, "below"),
        ("The published scores", ALL, UNTESTED, "miniatures"),
    ],
)
def test_verdicts(tmp_path: Path, start: str, hits: dict, expected: str, why: str) -> None:
    found = verdict(tmp_path, start, hits)
    assert found.verdict == expected, found
    assert why in found.why


def test_the_best_of_each_kind_are_compared(tmp_path: Path) -> None:
    hits = {"DistilBioBERT": 0.6, "CompactBioBERT": 0.8, "TinyBioBERT": 0.5}
    hits |= {"BioDistilBERT": 0.7, "BioMobileBERT": 0.65, "BioTinyBERT": 0.5}
    found = verdict(tmp_path, "Distilled models are above", hits)
    assert [(each.model, each.reference) for each in found.contrasts] == [("CompactBioBERT", "BioDistilBERT")]
    assert found.verdict == HOLDS and found.contrasts[0].ratio.low > 1


def test_the_ratio_is_the_mean_over_tasks_and_p_falls_with_distance(tmp_path: Path) -> None:
    records = measured(tmp_path, {"BioMiniLM": 0.8, "MiniLM": 0.7})
    found = next(j for t, j in judged(tmp_path, records).items() if t.endswith("helps the teacher"))
    (one,) = found.contrasts
    more = judged(tmp_path, records, resamples=999)[found.claim.text].contrasts[0]
    means = {
        (m, t): np.mean([r["metrics"]["f1"] for r in records if (r["model"]["name"], r["task"]["name"]) == (m, t)])
        for m in ("BioMiniLM", "MiniLM")
        for t in TASKS
    }
    assert one.ratio.value == pytest.approx(np.mean([means["BioMiniLM", t] / means["MiniLM", t] for t in TASKS]))
    assert one.ratio.low < one.ratio.value < one.ratio.high and one.fewest == 3
    assert found.holm == (one.p,) == (1 / 499,) and more.p == 1 / 999  # the least that so many resamples can say
    assert more.ratio.low == pytest.approx(one.ratio.low, rel=0.01) and more.ratio.value == one.ratio.value


def test_few_seeds_decide_nothing(tmp_path: Path) -> None:
    found = verdict(tmp_path, "Distilled models retain", {**ALL, "CompactBioBERT": 0.9}, seeds=(1, 2))
    assert (found.verdict, found.why) == (UNTESTED, "fewer than 3 seeds")


def test_a_task_of_one_seed_does_not_leave_a_claim_open(tmp_path: Path) -> None:
    hits = {**ALL, "CompactBioBERT": 0.9}
    records = measured(tmp_path, hits)
    one_seed = [each for each in records if each["task"]["name"] != "BC2GM" or each["seed"] == 3]
    found = judged(tmp_path, one_seed)["Distilled models retain up to 98.8 % of the teacher"]
    assert found.verdict == HOLDS
    assert {tuple(column.task for column in one.columns) for one in found.contrasts} == {("NCBI-disease",)}


def test_no_records_and_no_counts(tmp_path: Path) -> None:
    assert {each.verdict for each in judge([])} == {UNTESTED}
    records = [record(name, seed=s) for name in ("BioMiniLM", "MiniLM") for s in (1, 2, 3)]
    found = judged(tmp_path, records)["Pretraining further on PubMed helps the teacher"]
    assert "no counts of single examples" in found.why and found.verdict == UNTESTED


def test_the_command_writes_the_same_page_again(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", *measured(tmp_path, {**ALL, "BioMiniLM": 0.95}, n=60))
    texts = []
    for folder in ("one", "two"):
        assert main(["tables", "claims", "--records", str(path), "--output", str(tmp_path / folder)]) == 0
        texts.append((tmp_path / folder / "claims.md").read_text())
    assert texts[0] == texts[1]
    rows = [line for line in texts[0].splitlines() if line.startswith("| Distilled models retain up to 98.8 %")]
    assert len(rows) == 2  # on words, and on the paper's scale
    assert "DistilBioBERT / BioMiniLM: " in rows[0] and "**does not hold here**" in rows[0]
    assert "**cannot be tested here**" in rows[1] and "was not measured" in rows[1]
