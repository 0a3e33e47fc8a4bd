"""Tables of compression: each beside what it is to be held against."""

from pathlib import Path

import numpy as np
from score_records import record, with_counts, write

from compact_biomed.benchmarks.metrics import f1_of_sums
from compact_biomed.records.lines import read_lines
from compact_biomed.report.gap import FOLDER, Gap, compression_gains, gap_table
from compact_biomed.report.render import markdown


def of(folder: Path, model: str, tp: int, seed: int = 1) -> dict:
    rows = np.array([[2, 0, 0]] * tp + [[0, 1, 2]] * (20 - tp))
    made = record(model, "NCBI-disease", seed, f1=float(f1_of_sums(rows.sum(0))))
    return with_counts(folder, made, ["tp", "fp", "fn"], rows)


_SCORED = (("a fp32", 10), ("a ONNX fp32", 10), ("a int8", 9), ("b fp32", 18), ("b int8", 18))


def gains_in(folder: Path) -> dict[str, list[Gap]]:
    return compression_gains(read_lines(sorted(folder.glob("*.jsonl"))))


def rows_of(text: str) -> dict[str, str]:
    """model -> its gain, of the first scale."""
    cells = [line.split(" | ") for line in text.splitlines() if line.startswith("| NCBI-disease, f1 |")]
    return {row[1]: row[4].split()[0] for row in cells}


def test_each_model_beside_its_own_reference(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    write(folder / "int8.jsonl", *(of(folder, name, tp) for name, tp in _SCORED))
    write(tmp_path / "int8.jsonl", *(of(tmp_path, name, tp) for name, tp in _SCORED[-1:]))  # not of compression
    pruned = [of(folder, name, tp) for name, tp in (("m-again", 15), ("m-units50-taylor", 12))]
    write(folder / "pruning.jsonl", *pruned)
    made = {name: markdown(gap_table(found)) for name, found in gains_in(folder).items()}
    assert set(made) == {"int8", "pruning"}
    int8 = rows_of(made["int8"])
    assert made["int8"].count("| a int8 |") == 1
    assert set(int8) == {"a ONNX fp32", "a int8", "b int8"} and float(int8["a int8"]) < 0 == float(int8["b int8"])
    assert float(rows_of(made["pruning"])["m-units50-taylor"]) < 0


def test_task_distillation_tells_the_gap(tmp_path: Path) -> None:
    models = (("BioMiniLM", 18), ("DistilBioBERT", 10), ("DistilBioBERT distilled", 14))
    folder = tmp_path / FOLDER
    folder.mkdir()
    for part, some in (("a", models[:1]), ("b", models[1:])):  # made side by side
        write(folder / f"task_distillation_{part}.jsonl", *(of(folder, name, tp) for name, tp in some))
    ((name, found),) = gains_in(folder).items()
    text = markdown(gap_table(found))
    assert name == "task_distillation" and "gap closed" in text
    assert float(rows_of(text)["DistilBioBERT distilled"]) > 0


def test_a_model_whose_name_begins_with_anothers_is_not_held_against_it(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir()
    scored = (("m fp32", 18), ("m ONNX int8", 17), ("m-mlm fp32", 10), ("m-mlm ONNX int8", 10))
    write(folder / "int8.jsonl", *(of(folder, name, tp) for name, tp in scored))
    pruned = (
        ("m-again", 18),
        ("m-heads30", 17),
        ("m-mlm-again", 10),
        ("m-mlm-heads12.5", 10),
        ("m-mlm-units30-taylor", 9),
    )
    write(folder / "pruning.jsonl", *(of(folder, name, tp) for name, tp in pruned))
    found = gains_in(folder)
    assert {(each.model, round(each.scores[1].mean)) for each in found["int8"] if not each.column.on_pieces} == {
        ("m ONNX int8", round(of(folder, "m", 18)["metrics"]["f1"])),
        ("m-mlm ONNX int8", round(of(folder, "m", 10)["metrics"]["f1"])),
    }
    assert sorted(each.model for each in found["pruning"]) == ["m-heads30", "m-mlm-heads12.5", "m-mlm-units30-taylor"]
