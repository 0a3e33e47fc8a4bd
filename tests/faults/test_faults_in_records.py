"""Faulty files of records, and every table that is made from them."""

import json
import math
from collections import Counter
from pathlib import Path

import invented_results as invented
import pytest
from faults import Commands, Ended, nothing_half_written, refused, refused_or_same
from mutations import of_json, of_values
from score_records import record

from compact_biomed.errors import UserError
from compact_biomed.evaluation.analysis.printed import line_of, lines_of, markdown
from compact_biomed.evaluation.analysis.thresholds import Thresholds, thresholds_in
from compact_biomed.records.shapes import check_record
from compact_biomed.settings import parse_json

SCORES = record("one", seed=1) | {"score": 80.0, "how": {"seconds": 1.5}, "settings": {"learning_rate": 1e-4}}
OTHERS = [record("one", seed=2, f1=70.0), record("two", seed=1, f1=60.0), record("two", seed=2, f1=65.0)]
INFERENCE = {"kind": "bench-inference", "model": "m", "variant": "onnx-int8", "threads": 2, "length": 128}
INFERENCE |= {"parameters": 1000, "flops": 1e6, "disk_bytes": 4000, "peak_memory_mb": 20.5, "latency_ms": 2.0}
INFERENCE |= {"latency_ms_p95": 3.0, "tokens_per_s": 100.0, "best_batch": 4}
TUNED = invented.step("biotinybert_cl", 2.0) | {"ratio_to_tuned": 1.5, "tokens_per_s_tuned": 130.0}
# Kind of record -> arguments of `tables`, the record that is changed, and others in the same file.
KINDS = {
    "scores": ((), SCORES, OTHERS),
    "compare": (("compare", "--teacher", "two"), SCORES, OTHERS),
    "pretraining": (("pretraining",), invented.training("BioMiniLM", 1000, 0.5), []),
    "ablation": (("ablation",), invented.ablation(1)[0], invented.ablation(2)),
    "bench": (("bench",), TUNED, []),
    "inference": (("inference",), INFERENCE, []),
}
LINES = {
    (kind, name): text
    for kind, (_, changed, _) in KINDS.items()
    for name, text in of_values(changed, seed=1, most={"scores": 150, "pretraining": 60}.get(kind, 35)).items()
}
SOUND: dict[str, Ended] = {}  # what the unchanged records give


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(("kind", "name"), LINES)
def test_a_value_of_a_record(command: Commands, tmp_path: Path, kind: str, name: str) -> None:
    arguments, changed, others = KINDS[kind]
    after = [json.dumps(each) for each in others]
    if kind not in SOUND:
        file = write(tmp_path / "r.jsonl", json.dumps(changed), *after)
        SOUND[kind] = command("tables", *arguments, "--records", file)
    assert SOUND[kind].status == 0, SOUND[kind].err
    write(tmp_path / "r.jsonl", LINES[kind, name], *after)
    ended = command("tables", *arguments, "--records", tmp_path / "r.jsonl")
    if name.partition(" ")[0] in ("record", "kind", "run", "model.name", "seed") and ended.status == 0:
        return  # another kind, or another name, is no fault
    refused_or_same(ended, SOUND[kind])
    if ended.status:
        assert "r.jsonl:1" in ended.err or "records" in ended.err, ended.err


FILES = of_json(json.dumps(SCORES).encode(), seed=2)


@pytest.mark.parametrize("of", ["scores", "page", "figures"])
@pytest.mark.parametrize("name", FILES)
def test_a_line_of_records(command: Commands, tmp_path: Path, name: str, of: str) -> None:
    records = tmp_path / "r.jsonl"
    others = "".join(json.dumps(each) + "\n" for each in OTHERS)
    records.write_bytes(FILES[name].rstrip(b"\n") + b"\n" + others.encode())
    refused(command("tables", of, "--records", records, "--output", tmp_path / "out"), "r.jsonl:1")
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]


COUNTS = {"run": SCORES["run"], "columns": ["tp", "fp", "fn"], "rows": [[5, 1, 2], [3, 1, 0]]}
WITH_COUNTS = SCORES | {"metrics": {"f1": 80.0}, "per_example_counts": "r.jsonl.counts"}
BROKEN_COUNTS = of_values(COUNTS, keys=("columns", "rows", "rows.0", "rows.0.0"))
BROKEN_COUNTS |= {name: text.decode("latin-1") for name, text in of_json(json.dumps(COUNTS).encode(), seed=3).items()}


@pytest.mark.parametrize("name", BROKEN_COUNTS)
def test_counts_of_a_record(command: Commands, tmp_path: Path, name: str) -> None:
    counts = tmp_path / "r.jsonl.counts"
    file = write(tmp_path / "r.jsonl", json.dumps(WITH_COUNTS), json.dumps(OTHERS[-1]))
    counts.write_text(json.dumps(COUNTS) + "\n")
    sound = command("tables", "page", "--records", file, "--output", tmp_path / "sound")
    assert sound.status == 0, sound.err
    counts.write_text(BROKEN_COUNTS[name] + "\n", encoding="latin-1")
    refused(command("tables", "page", "--records", file, "--output", tmp_path / "out"), "r.jsonl")
    assert not (tmp_path / "out").exists()


def test_a_score_below_zero_beside_sound_metrics(command: Commands, tmp_path: Path) -> None:
    file = write(tmp_path / "r.jsonl", json.dumps(WITH_COUNTS | {"score": -3.0}))
    refused(command("tables", "--records", file), "r.jsonl:1: score: must be a number from 0 to 100", "remove")


@pytest.mark.parametrize("score", [142.0, -1.0, math.nan, math.inf, "80", True, None])
@pytest.mark.parametrize("of", ["scores", "families", "compare", "gap", "page", "figures", "claims"])
def test_scores_that_are_none(command: Commands, tmp_path: Path, score: object, of: str) -> None:
    file = write(tmp_path / "r.jsonl", *(json.dumps(each) for each in OTHERS), json.dumps(record("one", f1=score)))
    more = {"compare": ("--teacher", "two"), "gap": ("--teacher", "two", "--baseline", "one")}.get(of, ())
    ended = command("tables", of, "--records", file, *more, "--output", tmp_path / "out")
    refused(ended, "r.jsonl:4", "remove")
    assert not (tmp_path / "out").exists()
    nothing_half_written(tmp_path)


RATIOS = {"precision": 75.0, "recall": 60.0, "f1": 66.67}
ANALYSIS = {
    "by_label": {"a": {"tp": 6, "fp": 2, "fn": 4, "support": 10} | RATIOS, "b": {"tp": 6, "fp": 2, "fn": 4} | RATIOS},
    **{name: RATIOS | {"support": 20} for name in ("micro", "macro")},
    "calibration": {"predictions": 16, "ece": 4.0, "mean_score": 79.0, "right": 75.0, "bins": [[16, 79.0, 75.0]]},
    "confusion": {"largest": [{"gold": "a", "predicted": "b", "number": 4}], "labels": ["a"], "counts": [[6]]},
    "errors": {"missed": 4, "spurious": 2},
    "partial_match": {scheme: RATIOS for scheme in ("strict", "exact", "partial", "type")},
}
ANALYSIS["by_label"]["b"]["support"] = 10
ANALYZED = SCORES | {"analysis": ANALYSIS, "thresholds": {"values": {"a": 0.5}, "default": 0.0, "otherwise": None}}
PARTS = (
    *("analysis", "analysis.by_label", "analysis.by_label.a", "analysis.by_label.a.f1", "analysis.by_label.a.support"),
    *("analysis.micro", "analysis.macro.recall", "analysis.calibration", "analysis.calibration.ece", "analysis.errors"),
    *("analysis.confusion", "analysis.confusion.largest", "analysis.confusion.largest.0", "analysis.errors.missed"),
    *("analysis.confusion.largest.0.gold", "analysis.confusion.largest.0.number", "analysis.partial_match"),
    *("analysis.partial_match.type", "analysis.partial_match.type.f1", "analysis.calibration.predictions"),
    *("thresholds", "thresholds.values", "thresholds.values.a", "thresholds.default", "thresholds.otherwise"),
)


def test_a_value_behind_the_scores_is_refused_or_printed() -> None:
    """Whatever a record holds, what prints it either refuses it in one line or prints lines."""
    check_record(ANALYZED, where="r.jsonl:1", remedy="remove it")
    ended = Counter()
    for text in of_values(ANALYZED, keys=PARTS).values():
        try:
            changed = parse_json(text, where="r.jsonl:1", remedy="remove it")
            check_record(changed, where="r.jsonl:1", remedy="remove it")
        except UserError as error:
            assert str(error).startswith("r.jsonl:1")
            ended["refused"] += 1
            continue
        assert all(isinstance(line, str) for line in [*lines_of([changed]), line_of(changed), markdown(changed)])
        assert thresholds_in(changed) is None or isinstance(thresholds_in(changed), Thresholds)
        ended["printed"] += 1
    assert ended["refused"] > 200 and ended["printed"] > 5
