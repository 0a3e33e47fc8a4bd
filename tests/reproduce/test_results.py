"""The tables, figure and page in results/ and the README's table are those that the records give, byte for byte."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from many_records import many_records
from score_records import record, write

from compact_biomed.cli.reproduce import main
from compact_biomed.errors import UserError
from compact_biomed.records.lines import read_lines
from compact_biomed.report.claims_of_tasks import judge_tasks, task_claims_tables
from compact_biomed.report.compressed import compressed_models
from compact_biomed.report.compressed_tables import compressed_table, headline_of_compressed
from compact_biomed.report.render import END, begin, markdown, markdown_document
from compact_biomed.reproduce.results import COPIES, HEADLINE, TASKS, write_tables
from compact_biomed.reproduce.steps import ReproductionPaths

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
EMPTY = f"# A project\n\n{begin(HEADLINE)}\n{END}\nand more\n"
FORMS = [f"{name}.{form}" for name in ("compare", "families", "scores") for form in ("csv", "md", "tex")]
OF_SCORES = {"ablations/scoring_scale.md"}
OF_SCORES |= {f"sketch/{name}" for name in (*FORMS, "claims.md", "figures.svg", "page.html")}
FOLDERS = ("sketch", "ablations", "compression")


def made_in(folder: Path) -> dict[str, bytes]:
    """What is made from records, in a folder of results."""
    files = [path for name in FOLDERS for path in (folder / name).glob("*.*")]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in files
        if path.suffix not in (".jsonl", ".counts") and path.name != "releases.json"
    }


def copy_of_records(folder: Path) -> ReproductionPaths:
    """The project's records, README and pages with copies of tables."""
    for name in (*FOLDERS, "speed"):
        (folder / name).mkdir()
        for records in (RESULTS / name).glob("*.jsonl*"):
            shutil.copy(records, folder / name)
    (folder / "docs").mkdir()
    for page in ("README.md", *COPIES.values()):
        shutil.copy(ROOT / page, folder / page)
    return ReproductionPaths(ROOT / "recipes", folder / "runs", folder, "sketch", folder / "README.md")


@pytest.mark.timeout(1200)  # all intervals of all tables once more
def test_made_again_they_are_the_same(tmp_path: Path) -> None:
    write_tables(copy_of_records(tmp_path))
    made = made_in(tmp_path)
    for page in ("README.md", *COPIES.values()):
        again = (tmp_path / page).read_bytes()
        assert again == (ROOT / page).read_bytes(), f"{page}: make it again: recipes/reproduce.py --claims"
    there = made_in(RESULTS)
    assert there.keys() == made.keys()
    assert [name for name in made if there[name] != made[name]] == []


def test_the_pages_of_task_distillation_are_those_of_the_records() -> None:
    folder = RESULTS / "tasks"
    models = compressed_models(
        *(read_lines([folder / f"{name}.jsonl"]) for name in ("compression", "inference", "evaluation"))
    )
    again = "make it again: recipes/reproduce.py --preset tasks --claims"
    assert (folder / "compressed.md").read_text() == markdown(compressed_table(models)), again
    claims = markdown_document(task_claims_tables(judge_tasks(models)))
    assert (folder / "claims.md").read_text().partition("\n\n")[2] == claims, again
    for page in (ROOT, RESULTS):
        shown = (page / "README.md").read_text().partition(f"{begin(TASKS)}\n")[2].partition(END)[0]
        assert shown == markdown(headline_of_compressed(models)), again


def test_a_study_of_tasks_writes_their_claims_and_the_table_of_both_pages(paths: ReproductionPaths) -> None:
    students = [f"BioTinyBERT-start{ending}" for ending in ("", "-distilled", "-distilled ONNX int8")]
    write(paths.evaluation, record(students[0]))
    write(paths.compression, *(record(name) for name in ("BioMiniLM-start", *students[1:])))
    pages = (paths.readme, paths.results / "README.md")
    for page in pages:
        page.write_text(EMPTY.replace(HEADLINE, TASKS))
    tasks = replace(paths, shown=False, shown_tasks=True)
    written = {path.name for path in write_tables(tasks)}
    assert {"compressed.md", "claims.md", "scores.md", "compare.md"} <= written
    text = (paths.results / "sketch" / "claims.md").read_text()
    assert "## Student: 4 x 312 TinyBERT" in text and "The paper's claims" not in text
    assert all("| NCBI-disease | 80.00 (1) | 80.00 (1) |" in page.read_text() for page in pages)
    write(paths.evaluation, record(students[0]), record("BioMiniLM"))  # then the paper's claims are judged, too
    write_tables(replace(tasks, shown_tasks=False, readme=None))
    text = (paths.results / "sketch" / "claims.md").read_text()
    assert text.index("The paper's claims") < text.index("## Student: 4 x 312 TinyBERT")


@pytest.fixture
def paths(tmp_path: Path) -> ReproductionPaths:
    """Two invented records, and a README with a place for its table."""
    results = tmp_path / "results"
    paths = ReproductionPaths(tmp_path / "recipes", tmp_path / "runs", results, "sketch", tmp_path / "README.md")
    paths.evaluation.parent.mkdir(parents=True)
    write(paths.evaluation, record("BioMiniLM"), record("TinyBioBERT"))
    (tmp_path / "README.md").write_text(EMPTY)
    return paths


def test_one_command_makes_all_of_it_and_again_the_same(paths: ReproductionPaths, tmp_path: Path) -> None:
    models, tasks = ("BioMiniLM", "TinyBioBERT", "BioTinyBERT"), ("NCBI-disease", "BC2GM")
    path = many_records(paths.evaluation.parent, models=models, tasks=tasks, seeds=(1, 2), examples=15)
    paths.evaluation.write_text(path.read_text().replace('"BioTinyBERT"', '"BioTinyBERT-start"'))
    path.unlink()
    written = write_tables(paths)
    made = made_in(paths.results)
    assert set(made) == OF_SCORES == {path.relative_to(paths.results).as_posix() for path in written}
    readme = paths.readme.read_text()
    assert (
        "| TinyBioBERT | 13.9 M |" in readme and "NCBI-disease, f1" in readme and readme.endswith(f"{END}\nand more\n")
    )
    assert "-start" in made["sketch/scores.md"].decode() and "-start" not in made["sketch/compare.md"].decode() + readme
    assert (
        "published" in made["sketch/scores.md"].decode()
        and "Retained of BioMiniLM" in made["sketch/page.html"].decode()
    )
    shutil.copytree(
        paths.results, tmp_path / "again", ignore=shutil.ignore_patterns("*.md", "*.html", "*.svg", "*.csv")
    )
    (tmp_path / "README.2").write_text(EMPTY)
    write_tables(ReproductionPaths(paths.recipes, paths.runs, tmp_path / "again", "sketch", tmp_path / "README.2"))
    assert made_in(tmp_path / "again") == made and (tmp_path / "README.2").read_text() == readme


def test_what_records_are_too_few_for_is_named(tmp_path: Path, capsys) -> None:
    paths = ReproductionPaths(tmp_path, tmp_path, tmp_path, "sketch")
    paths.evaluation.parent.mkdir()
    path = many_records(paths.evaluation.parent, models=("TinyBioBERT",), tasks=("GAD",), seeds=(1,), examples=10)
    path.rename(paths.evaluation)
    written = write_tables(paths)
    names = {path.name for path in written}
    assert names == {"claims.md", "scores.md", "scores.csv", "scores.tex", "page.html", "figures.svg"}
    said = capsys.readouterr().err
    assert "no compare: " in said and "no families: " in said and "no ablations/scoring_scale: " in said


def test_without_scores_the_readme_is_left_alone(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("no place at all")
    write_tables(ReproductionPaths(tmp_path, tmp_path, tmp_path / "results", "sketch", readme))
    assert readme.read_text() == "no place at all"


def test_a_readme_without_the_place_is_told(paths: ReproductionPaths) -> None:
    paths.readme.write_text("no place at all")
    with pytest.raises(UserError, match="no place for the table"):
        write_tables(paths)
    assert paths.readme.read_text() == "no place at all"


def test_the_readme_shows_the_projects_own_results_alone(paths: ReproductionPaths, tmp_path: Path, monkeypatch) -> None:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    shutil.copy(ROOT / "recipes" / "reproduce.toml", recipes)
    shutil.copytree(paths.results, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert main(recipes, ["--preset", "sketch", "--claims", "--results", "elsewhere"]) == 0
    assert paths.readme.read_text() == EMPTY
    assert main(recipes, ["--preset", "sketch", "--claims"]) == 0
    assert "| TinyBioBERT | n/a | 80.00 (1)" in paths.readme.read_text()
