"""Models made small for a task: readable names, shares, size and speed, and claims that the records decide."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from score_records import record, with_counts, write

from compact_biomed.benchmarks.metrics import f1_of_sums
from compact_biomed.errors import UserError
from compact_biomed.records.lines import Line, read_lines
from compact_biomed.report.claims import FAILS, HOLDS, UNDECIDED, UNTESTED
from compact_biomed.report.claims_of_tasks import judge_tasks, task_claims_tables
from compact_biomed.report.compressed import Compressed, Student, compressed_models
from compact_biomed.report.compressed_tables import compressed_table, headline_of_compressed
from compact_biomed.report.protocols import told_apart
from compact_biomed.report.render import markdown, markdown_document

TEACHER, ALONE = "BioMiniLM-start", "BioDistilBERT-start"
DISTILLED, INT8 = f"{ALONE}-distilled", f"{ALONE}-distilled ONNX int8"
FOUND = {TEACHER: 0.9, ALONE: 0.7, DISTILLED: 0.895, INT8: 0.895, "another": 0.5}  # share of the entities
SETS = ("NCBI-disease", "BC5CDR-chem")


def scored(folder: Path, model: str, task: str, seed: int, hit: float, run: str = "") -> dict:
    """The same draws for all models, which so differ by `hit` alone; each seed of a student has its own teacher."""
    rng = np.random.default_rng([seed, *map(ord, task)])
    tp = (rng.random((150, 2)) < hit).sum(1)
    rows = np.stack([tp, rng.binomial(1, 0.05, 150), 2 - tp], 1)
    made = record(model, task, seed, f1=float(f1_of_sums(rows.sum(0))))
    made["run"] += run
    if "distilled" in model:
        taught = {"teacher": f"{TEACHER}-{task}-seed{seed}", "teacher_sha256": f"{seed}" * 64, "temperature": 2.0}
        made["protocol"]["distillation"] = taught | {"soft_weight": 1.0, "unlabelled": 5000}
    return with_counts(folder, made, ["tp", "fp", "fn"], rows)


def timed(model: str, variant: str, mib: int, speed: float, device: str = "a machine, 2 cores") -> dict:
    made = {"model": model, "variant": variant, "disk_bytes": mib * 2**20, "latency_ms": 30.0, "threads": 2}
    return made | {"length": 128, "tokens_per_s": speed, "device": device}


SPEEDS = (
    timed(TEACHER, "torch-fp32", 90, 1e4, "another machine"),
    timed(TEACHER, "torch-fp32", 90, 4e3),
    timed(ALONE, "onnx-int8", 15, 5e4),
    timed(TEACHER, "torch-fp32", 90, 8e3),  # beside another student, on a day when the machine was faster
)


def lines_in(folder: Path, name: str, models: Iterable[str], sets, seeds, found: Mapping[str, float]) -> list[Line]:
    made = [
        scored(folder, model, task, seed, found[model], name) for model in models for task in sets for seed in seeds
    ]
    return read_lines([write(folder / name, *made)])


def models_in(
    folder: Path,
    sets: Sequence[str] = SETS[:1],
    seeds: Sequence[int] = (1,),
    speeds=SPEEDS,
    *,
    longer: float | None = None,
    **changes: float,
) -> Compressed:
    """Args:
    longer: share of the entities that controls of as many steps find; None = there are none.
    """
    found = FOUND | {{"teacher": TEACHER, "alone": ALONE}.get(name, name): hit for name, hit in changes.items()}
    found |= {INT8: changes.get("int8", found[INT8])}
    lines = lines_in(folder, "compression.jsonl", (TEACHER, DISTILLED, INT8), sets, seeds, found)
    controls = lines_in(folder, "evaluation.jsonl", (ALONE, "another"), sets, seeds, found)
    if longer is not None:
        more = lines_in(folder, "longer.jsonl", (ALONE,), sets, seeds, {ALONE: longer})
        for made, steps in ((lines, 170), (controls, 60), (more, 180)):
            for line in made:
                line.record["how"] = {"steps": steps}
        for line in more:
            line.record["protocol"]["overrides"] = {"epochs": 20}
        controls += more
    return compressed_models(lines, [Line(folder, n, each) for n, each in enumerate(speeds, 1)], controls)


def cells(text: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]


def test_the_table_has_readable_names_shares_size_and_speed(tmp_path: Path) -> None:
    models = models_in(tmp_path)
    _, _, teacher, *students = cells(text := markdown(compressed_table(models)))
    names = ["3-layer MiniLM (labels alone)", "3-layer MiniLM (distilled)", "3-layer MiniLM (distilled, int8)"]
    assert [row[1] for row in students] == names and teacher[1] == "6-layer MiniLM (teacher)"
    assert "-start" not in text and "another" not in text and "5,000 more sentences" in text
    assert teacher[3:] == ["100 %", "90.0", "30.0", "8,000", "1.0"]
    assert students[-1][4:] == ["15.0", "30.0", "50,000", "12.5"]  # over the teacher that was timed with it
    assert students[0][4:] == ["n/a"] * 4
    own, of_teacher = float(students[-1][2].split()[0]), float(teacher[2].split()[0])
    kept, low, high = (
        float(part.strip("(%)")) for part in students[-1][3].replace("to ", "").replace("% ", "").split()
    )
    assert kept == pytest.approx(100 * own / of_teacher, abs=0.06) and low < kept < high


def test_the_headline_has_a_row_per_set_and_their_mean(tmp_path: Path) -> None:
    one = cells(markdown(headline_of_compressed(models_in(tmp_path))))
    assert one[0] == ["set", "teacher", "labels alone", "distilled, int8", "keeps", "MiB", "times faster"]
    assert [row[0] for row in one[2:]] == ["NCBI-disease"] and one[2][5:] == ["15.0 of 90.0", "12.5"]
    models = models_in(tmp_path, SETS, (1, 2), speeds=())
    several = cells(text := markdown(headline_of_compressed(models)))
    assert [row[0] for row in several[2:]] == ["BC5CDR-chem", "NCBI-disease", "mean of 2"]
    scores = [[float(row[column].split()[0]) for row in several[2:]] for column in (1, 2, 3)]
    assert all(third == pytest.approx((first + second) / 2, abs=0.011) for first, second, third in scores)
    assert several[2][5:] == ["n/a", "n/a"] and "test examples and seeds" in text and "1 seed" not in text


def test_each_seed_of_a_student_has_a_teacher_of_its_own_and_they_are_one_model(tmp_path: Path) -> None:
    models = models_in(tmp_path, seeds=(1, 2, 3))
    assert {len(each.seeds) for each in models.measured.values()} == {3} and len(models.measured) == 4
    (how,) = {each.how for each in models.measured.values() if "distilled" in each.model}
    assert "distilled from BioMiniLM-start-NCBI-disease of the same seed, temperature 2" in how
    of_one_teacher = [scored(tmp_path, DISTILLED, SETS[0], seed, 0.8) for seed in (1, 2)]
    for each in of_one_teacher:
        each["protocol"]["distillation"] |= {"teacher": "T-seed1", "teacher_sha256": "f" * 64}
    lines = read_lines([write(tmp_path / "one.jsonl", *of_one_teacher)])
    assert told_apart(lines) == lines


@pytest.mark.parametrize(
    ("changes", "verdicts"),
    [
        ({"int8": 0.96}, [HOLDS, HOLDS, HOLDS, HOLDS]),
        ({"int8": 0.885}, [UNDECIDED, HOLDS, HOLDS, UNDECIDED]),
        ({"int8": 0.8, "alone": 0.895}, [FAILS, FAILS, UNDECIDED, FAILS]),
        ({"seeds": (1, 2)}, [UNTESTED] * 4),
    ],
)
def test_claims(tmp_path: Path, changes: dict, verdicts: list[str]) -> None:
    judged = judge_tasks(models_in(tmp_path, **({"sets": SETS, "seeds": (1, 2, 3)} | changes)), resamples=499)
    (claims,) = judged.values()
    assert [each.verdict for each in claims] == verdicts, claims
    page = markdown_document(task_claims_tables(judged))
    assert "## Student: 3-layer MiniLM" in page and "- Sets: BC5CDR-chem, NCBI-disease." in page
    if "seeds" in changes:
        assert {each.why for each in claims} == {"fewer than 3 seeds"}


def test_labels_alone_in_as_many_steps_are_a_control_of_their_own(tmp_path: Path) -> None:
    assert not models_in(tmp_path).with_longer
    models = models_in(tmp_path, SETS, (1, 2, 3), longer=0.895)
    text = markdown(compressed_table(models))
    rows = [row[1] for row in cells(text)]
    assert rows[3:5] == ["3-layer MiniLM (labels alone)", "3-layer MiniLM (labels alone, as many steps)"]
    assert "without a teacher, also in as many steps as distillation takes." in text
    reached = [float(row[2].split()[0]) for row in cells(text) if row[1].endswith("as many steps)")]
    headline = markdown(headline_of_compressed(models))
    assert "2.8 times as many steps" in headline and "not measured" not in headline
    said = float(headline.partition("Labels alone in at least as many steps: ")[2][:5])
    assert len(reached) == 2 and said == pytest.approx(sum(reached) / 2, abs=0.011)
    (claims,) = judge_tasks(models, resamples=499).values()
    assert [each.verdict for each in claims[2:4]] == [HOLDS, UNDECIDED]  # the gain is that of the steps
    several = replace(models, students=(*models.students, Student("BioTinyBERT-start")))
    assert f"as many steps: {said:.2f} (3-layer MiniLM)." in markdown(headline_of_compressed(several))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    lines = lines_in(tmp_path, "r.jsonl", (TEACHER, INT8), SETS[:1], (1,), FOUND)
    for some, said in ((lines[1:], "no teachers"), (lines[:1], "no int8 student"), ([], "no teachers")):
        with pytest.raises(UserError, match=said):
            compressed_models(some)
    without_control = cells(markdown(headline_of_compressed(compressed_models(lines))))[2]
    assert without_control[2] == "not measured" and without_control[5:] == ["n/a", "n/a"]
