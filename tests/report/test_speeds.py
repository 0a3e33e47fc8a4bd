"""Speeds of models, and pictures that hold scores against them."""

import math
from pathlib import Path

import pytest
from html_tree import tree
from many_records import MODELS, many_records
from score_records import write

from compact_biomed.cli import main
from compact_biomed.records.lines import read_lines, score_lines
from compact_biomed.report.grid import score_grid
from compact_biomed.report.panels import SPEED, panels
from compact_biomed.report.speed import Speed, speeds_of


def timed(model: str, tokens_per_s: float, **others) -> dict:
    what = {"kind": "bench-inference", "variant": "onnx-int8", "threads": 2, "length": 128, "disk_bytes": 4_000_000}
    what |= {"latency_ms": 2.0, "latency_ms_p95": 3.0, "best_batch": 4, "parameters": 1_000_000, "flops": 1e9}
    what |= {"peak_memory_mb": 100.0}
    return {**what, "model": model, "tokens_per_s": tokens_per_s, **others}


FAST, SLOW = timed("BioMobileBERT", 4000.0, disk_bytes=1_000_000), timed("BioMiniLM", 1000.0)


def test_of_several_records_the_last_on_the_most_cores_as_int8() -> None:
    others = [timed("a", 1.0), timed("a", 9.0, variant="torch-fp32"), timed("a", 2.0), timed("a", 8.0, threads=1)]
    assert speeds_of([*others, {"record": "scores"}]) == {"a": Speed(2.0, 4_000_000, 2, 128)}


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return many_records(tmp_path_factory.mktemp("many"), tasks=("NCBI-disease",), seeds=(1, 2), examples=40)


def test_models_whose_speed_is_known_stand_by_it(scores: Path) -> None:
    table = score_grid(score_lines(read_lines([scores])), intervals=False)
    other = timed("not in the table", 1.0, disk_bytes=10**9)
    for panel in panels(table, speeds=speeds_of([FAST, SLOW, other])):
        assert panel.axis == SPEED
        points = {point.model: point for point in panel.points}
        assert {model: (point.at, point.area) for model, point in points.items()} == {
            "BioMiniLM": (1000.0, 1.0),
            "BioMobileBERT": (4000.0, 0.25),
        }
    assert panels(table, speeds={}) == []


def test_the_page_shows_size_then_speed(scores: Path, tmp_path: Path) -> None:
    speeds = write(tmp_path / "inference.jsonl", FAST, SLOW)
    files = ["--records", str(scores), str(speeds)]
    assert main(["tables", "page", *files, "--output", str(tmp_path)]) == 0
    document = tree((tmp_path / "page.html").read_text(encoding="utf-8"))
    drawn = [node for node in document.all("svg") if node.attributes.get("role") == "img"]
    assert len(drawn) == 4  # on words, on word-pieces
    for size, speed in zip(drawn[::2], drawn[1::2], strict=True):
        assert "parameters" in size.attributes["aria-label"] and "tokens per second" in speed.attributes["aria-label"]
        assert len(size.all("g")) == len(MODELS) and len(speed.all("g")) == 2
        scales = [node.attributes["transform"].split("scale(") for node in speed.all("path")]
        sides = sorted(float(scale[1].rstrip(")")) for scale in scales)
        assert math.isclose(sides[1], 2 * sides[0], rel_tol=0.01)  # four times the area
        assert not any("scale" in node.attributes["transform"] for node in size.all("path"))
    assert "the area of a marker is proportional to the size of that file" in document.text
