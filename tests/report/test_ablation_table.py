"""The table of an ablation: pairs within seeds, their interval by hand, and nothing mixed."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from score_records import write

from compact_biomed.cli import main
from compact_biomed.errors import UserError
from compact_biomed.records.lines import read_lines
from compact_biomed.report.render import markdown_document
from compact_biomed.report.statistics import paired_difference
from compact_biomed.report.trainings import ablation_tables


def made(variant: str, seed: int, loss: float, **changes) -> dict:
    record = {"record": "ablation", "ablation": "two", "question": "Which?", "recipe": "r", "reference": "first"}
    record |= {"variant": variant, "seed": seed, "run": f"{variant}{seed}", "tokens": 100, "corpus": "f"}
    record |= {"hyperparameters": {"preset": "quick", "max_steps": 5}}
    record |= {"heldout": {"after": {"loss": loss, "accuracy": 0.5 + 0.01 * seed}}}
    return record | changes


def table(folder: Path, *records: dict) -> str:
    return markdown_document(ablation_tables(read_lines([write(folder / "r.jsonl", *records)])))


def test_the_difference_is_taken_within_seeds() -> None:
    values, reference = [3.0, 4.5, 5.2], [2.0, 3.0, 4.0]
    found = paired_difference(values, reference)
    d = np.subtract(values, reference)
    half = stats.t.ppf(0.975, 2) * d.std(ddof=1) / 3**0.5
    assert (found.value, found.low, found.high) == pytest.approx((d.mean(), d.mean() - half, d.mean() + half))
    assert paired_difference([2.0, 3.0], [1.0, 2.0]).low == 1.0  # equal differences: a point


def test_rows_and_intervals(tmp_path: Path) -> None:
    losses = {("other", 1): 3.0, ("other", 2): 4.2, ("first", 2): 3.0, ("first", 1): 2.0, ("first", 3): 9.0}
    text = table(tmp_path, *(made(*key, loss) for key, loss in losses.items()))
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == "| variant | held-out MLM loss | accuracy, % |"
    assert rows[2].startswith("| first | 4.667 ± 3.786 (3) |")  # the reference first, with all of its seeds
    d = paired_difference([3.0, 4.2], [2.0, 3.0])  # of the seeds that both have
    assert f"| other | 3.600 ± 0.849 (2) [{d.value:+.3f}, {d.low:+.3f} to {d.high:+.3f}] |" in rows[3]
    assert "two: r, preset quick, 100 tokens per run" in text and "Which?" in text


def test_variants_without_a_vocabulary_head_have_other_measures(tmp_path: Path) -> None:
    encoder = {"heldout": {"after": {"distillation_loss": 0.125, "terms": {}}}}
    text = table(tmp_path, made("first", 1, 2.0), made("other", 1, 0.0, **encoder))
    assert "| variant | held-out MLM loss | accuracy, % | held-out distillation loss |" in text
    assert "| first | 2.000 (1) | 51.000 (1) | not measured |" in text
    assert "| other | not measured | not measured | 0.125 (1) |" in text


def test_one_seed_has_no_interval_and_scales_stand_apart(tmp_path: Path) -> None:
    scale = {"hyperparameters": {"preset": "mini", "max_steps": 5}}
    text = table(tmp_path, made("first", 1, 2.0), made("other", 1, 3.0), made("other", 1, 1.0, **scale))
    assert "| other | 3.000 (1) |" in text
    assert "preset mini" in text and "| first | not measured | not measured |" in text


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([made("first", 1, 2.0), made("other", 1, 2.0, tokens=99)], "different tokens"),
        ([made("first", 1, 2.0), made("other", 1, 2.0, corpus="g")], "different corpus"),
        ([made("first", 1, 2.0), made("first", 1, 3.0)], "two runs of first, seed 1"),
        ([{"record": "scores"}], "no record of an ablation"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, records: list, said: str) -> None:
    with pytest.raises(UserError, match=said):
        table(tmp_path, *records)


def test_the_command(tmp_path: Path, capsys) -> None:
    path = write(tmp_path / "r.jsonl", made("first", 1, 2.0))
    assert main(["tables", "ablation", "--records", str(path)]) == 0
    assert "## two: r" in capsys.readouterr().out


def test_the_kept_table_is_made_from_the_kept_records(capsys) -> None:
    folder = Path(__file__).parents[2] / "results" / "ablations"
    assert main(["tables", "ablation", "--records", str(folder / "students_vs_mlm.jsonl")]) == 0
    assert capsys.readouterr().out == (folder / "students_vs_mlm.md").read_text(encoding="utf-8")
    for line in (folder / "students_vs_mlm.jsonl").read_text().splitlines():
        assert len(json.loads(line)["from"]["revision"]) == 40 and json.loads(line)["from"]["clean"]
