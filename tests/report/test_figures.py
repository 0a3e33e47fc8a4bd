"""Size against score: the right points, nothing covered that can be helped, and files that are the same each time."""

import math
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from many_records import MODELS, many_records
from matplotlib.figure import Figure
from score_records import record, write

from compact_biomed.cli import main
from compact_biomed.errors import UserError
from compact_biomed.records.lines import read_lines, score_lines
from compact_biomed.report import figures
from compact_biomed.report.figures import COLORS, size_figure
from compact_biomed.report.grid import ScoreGrid, score_grid
from compact_biomed.report.label_positions import Box, place_labels
from compact_biomed.report.measured import Column
from compact_biomed.report.page import picture
from compact_biomed.report.panels import (
    MARKS,
    Panel,
    Point,
    architectures,
    axis_bounds,
    log_ticks,
    panels,
    side_by_side,
    ticks,
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ScoreGrid:
    path = many_records(tmp_path_factory.mktemp("many"), tasks=("NCBI-disease", "GAD"), seeds=(1, 2), examples=40)
    return score_grid(score_lines(read_lines([path])))


def panel_of(*sizes: int) -> Panel:
    return Panel(Column("a", "f1"), tuple(Point(str(size), size, 50.0, (50.0,), None, 0) for size in sizes))


def test_a_panel_shows_every_model_whose_size_is_recorded(table: ScoreGrid) -> None:
    shown = panels(table)
    assert [panel.column for panel in shown] == list(table.columns)
    names = architectures(table)
    assert names == ["bert", "distilbert", "mobilebert"] and len(COLORS) == MARKS
    for panel in shown:
        for point in panel.points:
            cell = table.cells[point.model, panel.column]
            assert (point.mean, point.interval) == (cell.summary.mean, cell.interval)
            assert point.seeds == tuple(cell.by_seed.values()) and len(point.seeds) == 2
            assert (names[point.mark], point.at) == MODELS[point.model][:2]
            assert panel.bounds[0] < point.low <= point.mean <= point.high < panel.bounds[1]


def test_models_of_unknown_size_are_left_out(tmp_path: Path) -> None:
    known = record("b")
    known["model"]["encoder_parameters"] = 10
    of = score_grid(score_lines(read_lines([write(tmp_path / "r.jsonl", record("a"), known)])))
    (panel,) = panels(of)
    assert [point.model for point in panel.points] == ["b"]


def test_points_of_nearly_one_size_stand_side_by_side() -> None:
    panel = panel_of(100, 100, 101, 1000)
    sizes = axis_bounds([panel])
    a, b, c, d = side_by_side(panel, sizes)
    assert b - a == pytest.approx(0.024) and c - b == pytest.approx(0.024)
    few, many = map(math.log, sizes)
    exact = [(math.log(point.at) - few) / (many - few) for point in panel.points]
    assert (a + b + c) / 3 == pytest.approx(sum(exact[:3]) / 3) and d == pytest.approx(exact[3])
    alone = panel_of(10, 20, 40)
    few, many = map(math.log, axis_bounds([alone]))
    expected = [(math.log(point.at) - few) / (many - few) for point in alone.points]
    assert side_by_side(alone, axis_bounds([alone])) == pytest.approx(expected)


@pytest.mark.parametrize(("low", "high"), [(70.2, 88.9), (0.5, 1.2), (82.1, 82.9), (-3.0, 100.0), (5.0, 5.1)])
def test_ticks_are_round_few_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 7 and all(low <= tick <= high for tick in found)
    steps = {round(b - a, 9) for a, b in pairwise(found)}
    assert len(steps) == 1 and f"{steps.pop():e}"[0] in "125"


def test_ticks_of_sizes() -> None:
    assert log_ticks(9, 120) == [10, 20, 50, 100]


def test_names_cover_neither_each_other_nor_points() -> None:
    points = [(100.0, 50.0), (104.0, 53.0), (98.0, 56.0), (101.0, 120.0), (290.0, 52.0)]
    within = Box(0, 0, 300, 200)
    dots = [Box(x - 3, y - 3, x + 3, y + 3) for x, y in points]
    boxes = place_labels(points, [60.0] * 5, height=12, within=within, obstacles=dots)
    assert boxes == place_labels(points, [60.0] * 5, height=12, within=within, obstacles=dots)
    for number, box in enumerate(boxes):
        assert box.overlap(within) == pytest.approx(box.area)
        assert all(box.overlap(other) == 0 for other in [*boxes[:number], *dots])
    assert boxes[3].anchor(101.0) == ("left", 108.0) and boxes[4].anchor(290.0)[0] == "right"


def of_family_and_controls() -> Panel:
    """The crowd of a real study: seven models of the family and three kinds of controls at the same four sizes."""
    sizes = {"BioMiniLM": 22e6, "DistilBioBERT": 17e6, "CompactBioBERT": 17e6, "BioDistilBERT": 17e6}
    sizes |= {"BioMobileBERT": 4.7e6, "TinyBioBERT": 5.4e6, "BioTinyBERT": 5.4e6, "MiniLM": 22e6}
    scores = {name: 70 + 0.3 * number for number, name in enumerate(sizes)}
    family = [Point(name, at, scores[name], (scores[name],), None, 0) for name, at in sizes.items()]
    controls = [
        Point(f"{name}{end}", at, scores[name] - down, (scores[name] - down,), None, 0, faded=True)
        for name, at in sizes.items()
        for end, down in (("-start", 0.1), ("-mlm", 0.2), ("-random", 20))
    ]
    return Panel(Column("NCBI-disease", "f1"), (*family, *controls))


def test_no_name_covers_another_in_a_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    placed = []

    def noting(*arguments, **options):
        placed.append(place_labels(*arguments, **options))
        return placed[-1]

    panel = of_family_and_controls()
    monkeypatch.setattr(picture, "place_labels", noting)
    drawn = picture.drawing(panel, axis_bounds([panel]), str)
    monkeypatch.setattr(figures, "place_labels", noting)
    figure = Figure(figsize=(4.2, 3.1))
    axes = figure.subplots()
    figures._draw(axes, panel, axis_bounds([panel]))
    figures._name_points(axes, panel, figures._across(panel, axis_bounds([panel])))
    assert [len(boxes) for boxes in placed] == [8, 8]
    for boxes in placed:
        assert not [(a, b) for number, a in enumerate(boxes) for b in boxes[:number] if a.overlap(b)]
    names = [point.name.text for point in drawn.points if point.name]
    assert sorted(names) == sorted(point.model for point in panel.named) and len(drawn.points) == 32
    assert {text.get_text() for text in axes.texts} == set(names)


def test_controls_are_faded_beside_others_and_shown_alone(tmp_path: Path) -> None:
    def faded(*names: str) -> dict[str, bool]:
        made = [record(name, f1=50.0 + number) for number, name in enumerate(names)]
        for each in made:
            each["model"]["encoder_parameters"] = 10
        (panel,) = panels(score_grid(score_lines(read_lines([write(tmp_path / "r.jsonl", *made)]))))
        return {point.model: point.faded for point in panel.points}

    assert faded("a", "a-start", "b-mlm") == {"a": False, "a-start": True, "b-mlm": True}
    assert faded("a-start", "b-mlm") == {"a-start": False, "b-mlm": False}


@pytest.mark.parametrize("form", ["svg", "png", "pdf"])
def test_files_are_the_same_each_time(tmp_path: Path, table: ScoreGrid, form: str) -> None:
    for name in ("a", "b"):
        size_figure(table, tmp_path / name, form=form, tasks=["NCBI-disease"])
    content = (tmp_path / "a").read_bytes()
    assert content == (tmp_path / "b").read_bytes() and len(content) > 2000
    assert content.startswith({"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[form])


def test_the_command_draws_the_chosen_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = many_records(tmp_path, models=("BioMiniLM", "TinyBioBERT"), tasks=("NCBI-disease", "GAD"), seeds=(1,))
    flags = ["tables", "figures", "--records", str(path), "--output", str(tmp_path / "out")]
    assert main([*flags, "--tasks", "GAD"]) == 0
    texts = "".join(ElementTree.parse(tmp_path / "out" / "figures.svg").getroot().itertext())
    assert "GAD, f1" in texts and "TinyBioBERT" in texts and "NCBI" not in texts
    assert main([*flags, "--tasks", "HoC"]) == 2
    assert "no task 'HoC' in the records (one of GAD, NCBI-disease)" in capsys.readouterr().err
    assert main(["tables", "claims", "--records", str(path), "--tasks", "GAD"]) == 2
    assert "--tasks: only applies to `tables scores or families or " in capsys.readouterr().err


def test_panels_stand_side_by_side_as_many_as_asked(tmp_path: Path, table: ScoreGrid) -> None:
    sizes = []
    for across in (1, 2):
        size_figure(table, tmp_path / "a.svg", across=across)
        root = ElementTree.parse(tmp_path / "a.svg").getroot()
        sizes.append([float(root.get(side).removesuffix("pt")) for side in ("width", "height")])
    assert sizes[1][0] == pytest.approx(2 * sizes[0][0]) and sizes[1][1] < sizes[0][1]


def test_without_sizes_there_is_nothing_to_draw(tmp_path: Path) -> None:
    of = score_grid(score_lines(read_lines([write(tmp_path / "r.jsonl", record())])))
    with pytest.raises(UserError, match="no record has the size of its model"):
        size_figure(of, tmp_path / "a")
