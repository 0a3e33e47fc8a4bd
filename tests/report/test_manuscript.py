"""What the manuscript is made from: the records' numbers, the same bytes each time, one line for what is missing."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from invented_results import FEW, invented_results, training
from score_records import write
from term_outputs import terms_of

from compact_biomed.cli import main
from compact_biomed.errors import UserError
from compact_biomed.objectives.textbrewer import to_textbrewer
from compact_biomed.records.lines import Line, read_lines, score_lines
from compact_biomed.report.compare import compare
from compact_biomed.report.family import TEACHER, groups_of
from compact_biomed.report.gap import compression_gains
from compact_biomed.report.grid import score_grid
from compact_biomed.report.latex import latex_code, latex_text
from compact_biomed.report.manuscript.inputs import line_references, span
from compact_biomed.report.manuscript.write import write_manuscript

PAPER = Path(__file__).parents[2] / "paper"
SOURCES = sorted(PAPER.glob("*.tex")) + sorted(PAPER.glob("sections/*.tex"))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return invented_results(tmp_path_factory.mktemp("invented") / "results")


@pytest.fixture(scope="module")
def generated(results: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper") / "generated"
    write_manuscript(read_lines(results), folder)
    return folder


def values(generated: Path) -> dict[str, str]:
    return dict(re.findall(r"\\setval\{(.+?)\}\{(.*)\}\n", (generated / "values.tex").read_text()))


def of_sketch(results: list[Path]) -> list[Line]:
    return score_lines(line for line in read_lines(results) if line.file.parent.name == "reproduction")


def rows(generated: Path, name: str, model: str) -> list[list[str]]:
    lines = (generated / f"{name}.tex").read_text().splitlines()
    return [line.removesuffix(" \\\\").split(" & ") for line in lines if line.startswith(f"{model} &")]


def test_the_same_records_give_the_same_bytes(results: list[Path], generated: Path, tmp_path: Path) -> None:
    records = [str(path) for path in results]
    assert main(["tables", "manuscript", "--records", *records, "--output", str(tmp_path / "again")]) == 0
    names = sorted(path.name for path in generated.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "again").iterdir()) and "sizes.pdf" in names
    for name in names:
        assert (generated / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_numbers_are_those_of_the_records(generated: Path) -> None:
    found = values(generated)
    assert found["pretraining.models"] == "4" and found["pretraining.tokens"] == "617,000"
    assert found["pretraining.rates"] == "0.0005, 0.001" and found["pretraining.mask"] == "15\\,\\%"
    assert found["pretraining.documents"] == "2,800" and found["pretraining.published"] == "38,400,000"
    assert found["pretraining.passes"] == "0.08" and found["pretraining.hours"] == "1.0"
    assert found["corpus.documents"] == "33,261" and found["corpus.benchmarks"] == "2"
    assert found["evaluation.runs"] == "15" and found["evaluation.seeds"] == "3"
    assert found["tasks.sets"] == "1" and found["tasks.unlabeled"] == "5,000" and found["tasks.temperature"] == "2"
    assert found["tasks.hours"] == "0.3" and found["tasks.device"] == "a processor, 2 cores"
    assert found["speed.step.ratio"] == "6.0 to 6.5" and found["speed.step.loss"] == "$2\\cdot10^{-5}$"
    assert found["speed.finetune.interval"] == "$-$3.9 to +5.3"


def test_cells_are_those_of_the_tables(results: list[Path], generated: Path) -> None:
    lines = of_sketch(results)
    table = score_grid(lines)
    (column,) = [column for column in table.columns if not column.on_pieces]
    for model in FEW:
        cell = table.cells[model, column]
        (_, size, shown), *_ = rows(generated, "scores", model)  # then the same on word-pieces
        assert shown == f"{cell.summary.mean:.2f}\\,$\\pm$\\,{cell.summary.deviation:.2f}"
        assert size == f"{FEW[model][0] / 1e6:.1f}"
        shown = rows(generated, "intervals", model)[0][1]
        assert shown == f"{cell.summary.mean:.1f} [{cell.interval.low:.1f}, {cell.interval.high:.1f}]"
    for each in compare(lines, TEACHER):
        if not each.column.on_pieces:
            ((_, shown, mean),) = rows(generated, "retained", each.model)
            assert shown.startswith(f"{100 * each.retained:.1f} [{100 * each.interval.low:.1f}, ")
            assert ("dagger" in shown) == (each.holm["examples"] < 0.05)
            assert mean.split()[0] == shown.split()[0]  # of one task


def test_compression_is_what_its_tables_say(results: list[Path], generated: Path) -> None:
    told = (generated / "compression.tex").read_text()
    gains = compression_gains(read_lines(results))
    assert set(gains) == {"task_distillation", "int8"}
    for each in (each for found in gains.values() for each in found if not each.column.on_pieces):
        gain = f"${each.gain.value:+.2f}$ [${each.gain.low:+.2f}$, ${each.gain.high:+.2f}$]"
        (row,) = [line for line in told.splitlines() if line.startswith(f"NCBI-disease & {each.model} &")]
        assert row.split(" & ")[4] == gain
        sentence = f"{each.model} on NCBI-disease ({gain})"
        assert (sentence in told) == (each.gain.low > 0 or each.gain.high < 0)
    assert "compression/int8.jsonl:1-2" in told.replace("\\allowbreak{}", "")


def test_task_distillation_is_what_its_records_say(generated: Path) -> None:
    sections = (generated / "tasks.tex").read_text(), (generated / "students.tex").read_text()
    cells = [line.split(" & ") for line in sections[0].splitlines() if line.count(" & ") == 6]
    teacher, alone, _, int8 = cells[1:]
    assert teacher[0] == "6-layer MiniLM (teacher)" and int8[3:] == ["16.0", "20.0", "20,000", "5.0 \\\\"]
    assert alone[3:] == ["--", "--", "--", "-- \\\\"]
    in_table = [float(number) for number in re.match(r"([\d.]+) \[([\d.]+), ([\d.]+)\]", int8[2]).groups()]
    sentence = r"keeps ([\d.]+)\\,\\% \(95\\,\\% interval ([\d.]+) to ([\d.]+)\) of its teacher's F1"
    said = re.search(sentence, sections[1])
    numbers = [float(number) for number in said.groups()]
    assert numbers[0] == in_table[0] and numbers[1:] == pytest.approx(in_table[1:], abs=1)  # of fewer resamples
    assert said[0] in (generated / "kept.tex").read_text()
    assert "one seed per model and set" in sections[1] and "decide none of the 4 claims" in sections[1]
    assert "tasks/compression.jsonl:1-3" in sections[0].replace("\\allowbreak{}", "")


def test_sentences_count_what_the_tables_say(generated: Path) -> None:
    abstract = (generated / "abstract.tex").read_text()
    counts = [int(n) for n in re.findall(r"here'' for (\d+)", abstract)]
    assert sum(counts) == int(re.search(r"Of (\d+) claims", abstract)[1]) and len(counts) == 4
    best = rows(generated, "retained", "DistilBioBERT")[0][2].split()[0]
    assert f"The best distilled student, DistilBioBERT, retains {best}\\,\\% of the teacher's score" in abstract
    said = (generated / "ablations.tex").read_text()
    assert re.search(r"mlm alone ends 0\.113 nats higher than distilled", said)


def test_every_number_of_the_text_is_made_and_every_made_one_is_used(generated: Path) -> None:
    used = {name for path in SOURCES for name in re.findall(r"\\val\{([a-z_.]+)\}", path.read_text())}
    assert used == set(values(generated))
    inputs = {name for path in SOURCES for name in re.findall(r"\\(?:made|input)\{([a-z/]+)\}", path.read_text())}
    made = {path.stem for path in generated.glob("*.tex")}
    assert {name.removeprefix("generated/") for name in inputs if not name.startswith("sections/")} == made


TEXTS = ["abstract", "introduction", "tasks", "results", "ablations", "compression", "speed", "discussion", "limits"]


@pytest.mark.parametrize("name", TEXTS)
def test_no_result_is_typed(name: str) -> None:
    plain = (PAPER / "sections" / f"{name}.tex").read_text()
    for constant in (r"95\,\%", r"100\,\%", "bfloat16", "all-MiniLM-L6-v2"):  # level of intervals; the whole; names
        plain = plain.replace(constant, "")
    plain = re.sub(r"\\(?:val|made|input|ref|label|cite|includegraphics|itemsep)\S*", "", plain)
    assert not re.search(r"\d", re.sub(r"Table~|Figure~", "", plain)), name


def test_the_equations_have_the_weights_of_the_code() -> None:
    plain = (PAPER / "sections" / "models.tex").read_text()
    mlm, kl, tau = re.search(
        r"= (\d)\\,\\mathcal L_{\\mathrm{MLM}} \+ (\d)\\,\\tau\^2.*\n.*\\tau = (\d)", plain
    ).groups()
    made = to_textbrewer(terms_of("distilbiobert", 3, 6, temperature=float(tau)))
    assert (made.hard_label_weight, made.kd_loss_weight) == (float(mlm), float(kl) * float(tau) ** 2)
    kl, layers = re.search(r"&= \\mathcal L_{\\mathrm{MLM}} \+ (\d)\\,.*\(1\) \+ (\d)\\sum", plain).groups()
    made = to_textbrewer(terms_of("compactbiobert", 2, 4))
    assert (made.hard_label_weight, made.kd_loss_weight) == (1, float(kl))
    assert {each.weight for each in made.intermediate_matches} == {float(layers)}
    made = to_textbrewer(terms_of("tinybiobert", 4, 12, (2, 4)))
    maps, states = (
        [m.layer_T for m in made.intermediate_matches if m.feature == kind] for kind in ("attention", "hidden")
    )
    spread = [k * 12 // 4 for k in range(5)]  # s(k)
    assert (made.hard_label_weight, made.kd_loss_weight) == (0, 1)
    assert (maps, states) == ([s - 1 for s in spread[1:]], spread)


def test_every_number_leads_to_its_records(results: list[Path], generated: Path) -> None:
    appendix = (generated / "numbers.tex").read_text()
    for name in values(generated):
        assert f"\\hypertarget{{num.{name}}}" in appendix
    assert "pretraining.\\allowbreak" not in appendix and "pretraining.jsonl:1-4" in appendix
    assert "recipes/\\allowbreak{}reproduce.py -{}-preset sketch" in appendix
    (runs,) = rows(generated, "runs", "DistilBioBERT-mlm")
    numbers = [line.number for line in of_sketch(results) if line.model == "DistilBioBERT-mlm"]
    assert runs[1] == f"NCBI-disease {numbers[0]}-{numbers[-1]}"


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("pretraining.jsonl", "no record of a training (python recipes/reproduce.py --preset sketch)"),
        ("evaluation.jsonl", "no record of scores of BioMiniLM (python recipes/reproduce.py --preset sketch)"),
        ("students_vs_mlm.jsonl", "no record of an ablation (python recipes/ablations/students_vs_mlm.py)"),
        ("step.jsonl", "no record of bench step (compact-biomed bench step --records results/speed/step.jsonl)"),
        ("task_distillation.jsonl", "no record of task distillation (compact-biomed distill --task"),
        (
            "compression.jsonl",
            "no record of task distillation from all labels (no teachers among these records)",
        ),
        ("finetune.jsonl", "no record of bench finetune (compact-biomed bench finetune"),
    ],
)
def test_what_is_missing_is_named_with_its_command(
    results: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, said: str
) -> None:
    output = tmp_path / "generated"
    output.mkdir()
    (output / "old").write_text("as before")
    records = [str(path) for path in results if path.name != file]
    assert main(["tables", "manuscript", "--records", *records, "--output", str(output)]) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert [path.name for path in output.iterdir()] == ["old"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record: record["corpus"].pop("decontamination"), r"jsonl:1: a record without corpus.decontamination"),
        (lambda record: record["corpus"].update(fingerprint="g"), "the models were not made from one text"),
        (
            lambda record: record.update(weights_sha256="00"),
            "scores of BioMiniLM are of other weights than its training",
        ),
        (
            lambda record: record.update(model="Other"),
            "no record of the training of BioMiniLM .*--only pretraining,Bio",
        ),
    ],
)
def test_a_broken_record_is_named(results: list[Path], tmp_path: Path, change: Callable, said: str) -> None:
    records = [training(name, *about) for name, about in FEW.items() if name != "MiniLM"]
    change(records[0])
    others = [path for path in results if path.name != "pretraining.jsonl"]
    lines = read_lines([write(tmp_path / "pretraining.jsonl", *records), *others])
    with pytest.raises(UserError, match=said):
        write_manuscript(lines, tmp_path / "generated")
    assert not (tmp_path / "generated").exists()


def test_a_folder_is_asked_for(results: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables", "manuscript", "--records", str(results[0])]) == 2
    assert "no folder to write to (--output paper/generated)" in capsys.readouterr().err


def test_kinds_of_models_by_name() -> None:
    names = [
        "X-random",
        "TinyBioBERT-mlm",
        "MiniLM",
        "RelationBioBERT",
        "BioTinyBERT",
        "DistilBioBERT",
        TEACHER,
        "Other",
    ]
    found = groups_of(names)
    assert list(found) == [
        "Teacher",
        "Distilled",
        "Continually pretrained",
        "Distilled, beyond the paper",
        "General",
        "The students without a teacher",
        "From random weights",
    ]
    assert found["General"] == ["MiniLM", "Other"]


def test_small_pieces() -> None:
    assert latex_text("a_b 95 % & 4e-05, -3 to 2-3") == "a\\_b 95\\,\\% \\& $4\\cdot10^{-5}$, $-$3 to 2-3"
    assert latex_code("a --b c/d") == "\\texttt{a -{}-b c/\\allowbreak{}d}"
    assert line_references([Line(Path("r"), number, {}) for number in (7, 1, 3, 2)]) == "r:1-3,7"
    assert (span([1, 1], "{}"), span([2, 1], "{}")) == ("1", "1 to 2")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not here")
def test_the_manuscript_builds_and_refuses_unknown_numbers(generated: Path, tmp_path: Path) -> None:
    paper = tmp_path / "paper"
    shutil.copytree(PAPER, paper, ignore=shutil.ignore_patterns("generated", "*.pdf", "*.aux", "*.log", "*.fls"))
    shutil.copytree(generated, paper / "generated")

    def build() -> subprocess.CompletedProcess:
        command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "compact-biomedical-transformers.tex"]
        return subprocess.run(command, cwd=paper, capture_output=True, text=True, errors="replace")

    done = build()
    assert done.returncode == 0, done.stdout[-2000:]
    assert (paper / "compact-biomedical-transformers.pdf").read_bytes().startswith(b"%PDF")
    with (paper / "sections" / "abstract.tex").open("a") as stream:
        stream.write("\\val{no.such}")
    failed = build()
    assert failed.returncode != 0 and "no number `no.such' in generated/values.tex" in failed.stdout
