"""The first table: the family on common tasks, in few columns, as the other tables have it."""

from pathlib import Path

import pytest
from many_records import many_records
from score_records import record, write

from compact_biomed.errors import UserError
from compact_biomed.records.lines import Line, read_lines, score_lines
from compact_biomed.report.compare import compare
from compact_biomed.report.family import GENERAL
from compact_biomed.report.grid import score_grid
from compact_biomed.report.headline import headline_table
from compact_biomed.report.measured import RunKey
from compact_biomed.report.render import markdown

MODELS = ("BioMiniLM", "BioTinyBERT", "TinyBioBERT")  # in the order of the family


def rows_of(lines: list[Line]) -> tuple[dict[str, list[str]], str]:
    """First cell of a row -> the others; and what stands below the table."""
    table, _, below = markdown(headline_table(score_grid(lines), lines)).partition("\n\n")
    cells = [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in table.splitlines()]
    return {row[0]: row[1:] for row in cells}, below


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[Line]:
    """BioTinyBERT lacks BC2GM; a control is there too."""
    tasks = ("NCBI-disease", "BC2GM", "GAD")
    path = many_records(tmp_path_factory.mktemp("many"), models=MODELS, tasks=tasks, examples=25)
    lines = score_lines(read_lines([path]))
    control = [Line(line.file, line.number, _renamed(line.record)) for line in lines if line.model == "TinyBioBERT"]
    return [line for line in lines if (line.model, line.task) != ("BioTinyBERT", "BC2GM")] + control


def _renamed(found: dict) -> dict:
    return {**found, "model": {**found["model"], "name": "TinyBioBERT-mlm"}}


def test_models_of_the_family_on_what_all_were_measured_on(lines: list[Line]) -> None:
    rows, below = rows_of(lines)
    assert list(rows) == ["model", "---", *MODELS]
    assert rows["model"] == ["parameters", "mean", "retained of BioMiniLM", "GAD, f1", "NCBI-disease, f1"]
    assert rows["BioTinyBERT"][0] == "14.4 M"
    assert "Not shown, because not all of these models were measured on it: BC2GM, f1." in below


def test_numbers_are_those_of_the_other_tables(lines: list[Line]) -> None:
    table, rows = score_grid(lines), rows_of(lines)[0]
    columns = [column for column in table.columns if column.task in ("GAD", "NCBI-disease") and not column.on_pieces]
    for name in MODELS:
        cells = [table.cells[name, column] for column in columns]
        by_seed = [sum(cell.by_seed[RunKey("", seed)] for cell in cells) / 2 for seed in (1, 2, 3)]
        assert rows[name][1].startswith(f"{sum(by_seed) / 3:.2f} ± ") and rows[name][1].endswith("(3)")
        assert [shown.split(" ")[0] for shown in rows[name][3:]] == [f"{cell.summary.mean:.2f}" for cell in cells]
    of_teacher = {(each.model, each.column): each.retained for each in compare(lines, "BioMiniLM")}
    for name in MODELS[1:]:
        ratio = 100 * sum(of_teacher[name, column] for column in columns) / 2
        value, low, high = (
            float(part.strip("(%)")) for part in rows[name][2].replace(" to ", " ").replace("% ", "").split()
        )
        assert value == pytest.approx(ratio, abs=0.051) and low < value < high
    assert rows["BioMiniLM"][2] == "100 %"


def test_the_general_model_stands_last(lines: list[Line]) -> None:
    model = {"name": GENERAL, "weights_sha256": "g"}
    general = [
        Line(line.file, line.number, {**line.record, "model": model}) for line in lines if line.model == "BioMiniLM"
    ]
    rows, _ = rows_of([*general, *lines])
    assert list(rows)[-1] == GENERAL and rows[GENERAL][0] == "n/a" and rows[GENERAL][2].startswith("100.0 %")


def test_without_the_family_there_is_none(tmp_path: Path) -> None:
    for records in ([record("somebody")], [record(GENERAL)], [record("BioMiniLM"), record("TinyBioBERT", "BC2GM")]):
        lines = score_lines(read_lines([write(tmp_path / "r.jsonl", *records)]))
        with pytest.raises(UserError, match="no task that all measured models of the family have"):
            headline_table(score_grid(lines), lines)


def test_records_without_counts_have_no_interval(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", record("BioMiniLM", f1=80.0), record("TinyBioBERT", f1=60.0))
    rows, _ = rows_of(score_lines(read_lines([path])))
    assert rows["TinyBioBERT"] == ["n/a", "60.00 (1)\\*", "n/a", "60.00 (1)\\*"]


def test_where_few_seeds_leave_a_task_out_it_is_said(lines: list[Line]) -> None:
    few = [line for line in lines if (line.model, line.task) != ("TinyBioBERT", "GAD") or line.record["seed"] == 1]
    rows, below = rows_of(few)
    assert rows["TinyBioBERT"][2].endswith("), on 1 of 2 tasks") and rows["BioTinyBERT"][2].endswith(")")
    assert "without those that have fewer than 3 seeds" in below


def test_parameters_are_those_without_pooler_whatever_task_comes_first(lines: list[Line]) -> None:
    changed = [Line(line.file, line.number, {**line.record, "model": dict(line.record["model"])}) for line in lines]
    for line in changed:
        line.record["model"]["encoder_parameters"] = 5_500_000 if line.task == "GAD" else 5_400_000
    rows, _ = rows_of(changed)
    assert {cells[0] for cells in rows.values() if "M" in cells[0]} == {"5.4 M"}
