"""The page: whole, escaped, the same for the same records, and every cell leads to its runs."""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from html_tree import Node, tree
from many_records import many_records
from score_records import record, write

from compact_biomed.cli import main
from compact_biomed.errors import UserError
from compact_biomed.records.lines import Line, read_lines, score_lines
from compact_biomed.report.compare import compare
from compact_biomed.report.grid import score_grid
from compact_biomed.report.page.page import page
from compact_biomed.report.published import figures

TEACHER = "BioMiniLM"


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[Line]:
    models = (TEACHER, "BioMobileBERT", "TinyBioBERT")
    tasks = ("NCBI-disease", "BC5CDR-chem", "GAD", "BioASQ-7b")
    path = many_records(tmp_path_factory.mktemp("many"), models=models, tasks=tasks, seeds=(1, 2, 3), examples=40)
    return score_lines(read_lines([path]))


@pytest.fixture(scope="module")
def text(lines: list[Line]) -> str:
    return page(lines, teacher=TEACHER)


@pytest.fixture(scope="module")
def document(text: str) -> Node:
    return tree(text)


def page_of(folder: Path, *records: dict, **options: str) -> Node:
    return tree(page(score_lines(read_lines([write(folder / "r.jsonl", *records)])), **options))


def test_nothing_is_fetched_and_only_our_script_runs(text: str, document: Node) -> None:
    assert not [node for node in document.walk() if {"src", "srcset", "style", "onclick"} & node.attributes.keys()]
    assert not document.all("link") and "@import" not in text and "url(" not in text
    assert all(node.attributes["href"].startswith("#") for node in document.all("a"))
    policy = next(n for n in document.all("meta") if "http-equiv" in n.attributes).attributes["content"]
    for name in ("style", "script"):
        (node,) = document.all(name)
        digest = base64.b64encode(hashlib.sha256(node.text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_the_same_records_give_the_same_bytes(lines: list[Line], text: str) -> None:
    assert page(list(reversed(lines)), teacher=TEACHER) == text


def test_every_cell_names_runs_that_the_page_lists(lines: list[Line], document: Node) -> None:
    table = score_grid(lines, intervals=False)
    listed = {node.attributes["id"] for node in document.all("tr") if "id" in node.attributes}
    assert listed == {f"run-{line.record['run']}" for line in lines}
    cells = {node.attributes["data-title"]: node for node in document.all("a", "cell")}
    for (model, column), cell in table.cells.items():
        node = cells[f"{model}: {column.title}"]
        assert node.attributes["data-runs"].split() == [line.record["run"] for line in cell.lines]
        assert node.text.startswith(f"{cell.summary.mean:.2f} ± {cell.summary.deviation:.2f} (3)")
    assert all(node.attributes["href"][1:] in {*listed, "sources"} for node in cells.values())
    assert all(f"run-{run}" in listed for node in cells.values() for run in node.attributes["data-runs"].split())


def test_a_run_tells_how_it_was_made(lines: list[Line], document: Node) -> None:
    row = next(n for n in document.all("tr") if n.attributes.get("id") == f"run-{lines[0].record['run']}")
    shown = {node.attributes["data-name"]: node.text for node in row.all("td")}
    assert (shown["learning rate"], shown["epochs"], shown["date"]) == ("0.0001", "4", "2026-11-21")
    assert shown["command"] == lines[0].record["from"]["command"] and shown["revision"] == "0123456789ab"


def test_columns_say_how_they_are_sorted(document: Node) -> None:
    tables = document.all("table", "scores")
    assert tables
    for table in tables:
        heads = table.all("thead")[0].all("th")
        assert [head.attributes["aria-sort"] for head in heads] == ["ascending", *["none"] * (len(heads) - 1)]
        assert all(len(head.all("button")) == 1 for head in heads)
        for body in table.all("tbody"):
            for row in body.all("tr"):
                cells = [node for node in row.children if isinstance(node, Node)]
                assert len(cells) == len(heads)
                # Phones and paper leave this column out: whole, or the others would move under wrong heads.
                hidden = [n for n, node in enumerate(cells) if "architecture" in (node.attributes.get("class") or "")]
                assert hidden == [n for n, head in enumerate(heads) if head.text == "architecture"]
                for head, cell in zip(heads, cells, strict=True):
                    if head.attributes["data-kind"] == "number" and cell.all("a"):
                        shown = float(cell.all("b")[0].text.removesuffix(" %"))
                        percent = 100 if "%" in cell.text else 1
                        assert percent * float(cell.attributes["data-value"]) == pytest.approx(shown, abs=0.051)
        names = [row.all("th")[0].text for row in table.all("tbody")[0].all("tr")]
        assert names == sorted(names)


def test_tasks_of_a_kind_stand_together_words_apart_from_pieces(document: Node) -> None:
    sections = {s.all("h2")[0].text: s for s in document.all("section")}
    assert list(sections)[:4] == ["Entities, on words", "Entities, on word-pieces", "Relations", "Questions"]
    heads = [head.text for head in sections["Entities, on word-pieces"].all("table")[0].all("thead")[0].all("th")]
    assert heads[3:] == ["BC5CDR-chemf1 on word-pieces", "NCBI-diseasef1 on word-pieces", "meanof 2 tasks"]
    assert "GAD" in sections["Relations"].text and "GAD" not in sections["Questions"].text


def test_published_scores_are_those_of_the_file_under_their_own_scale(document: Node) -> None:
    found = set()
    for section in document.all("section"):
        for table in section.all("table", "scores"):
            heads = [head.text for head in table.all("thead")[0].all("th")]
            for row in (row for body in table.all("tbody", "published") for row in body.all("tr")):
                for head, cell in zip(heads[1:], row.all("td"), strict=True):
                    if cell.all("a"):
                        found.add((row.all("th")[0].children[0], head, cell.all("b")[0].text))
    titles = {"words": "{}f1", "word-pieces": "{}f1 on word-pieces", "not stated": "{}{} (published, scale not stated)"}
    expected = {
        (figure.model, titles[figure.scale].format(figure.task, metric), f"{value:.2f}")
        for figure in figures()
        if figure.task in ("NCBI-disease", "BC5CDR-chem", "GAD", "BioASQ-7b")
        for metric, value in figure.metrics.items()
        if metric in ("f1", "mrr")
    }
    assert found == expected and len(found) == 14
    unstated = [head for head in document.all("th") if "scale not stated" in head.text]
    assert len(unstated) == 2 and all("±" not in head.text for head in unstated)


def test_nothing_published_is_averaged_or_compared(document: Node) -> None:
    for cell in document.all("td", "published"):
        (link,) = cell.all("a")
        assert link.attributes["data-runs"] == "" and "published, not measured here" in link.attributes["data-notes"]
        assert "scale: " in link.attributes["data-notes"] and "source: " in link.attributes["data-notes"]
    points = {node.attributes["data-model"] for node in document.all("g")}
    assert points == {TEACHER, "BioMobileBERT", "TinyBioBERT"}


def test_what_is_retained_is_what_compare_says(lines: list[Line], document: Node) -> None:
    cells = {node.attributes["data-title"]: node for node in document.all("a", "cell")}
    found = compare(lines, TEACHER)
    for each in found:
        cell = cells[f"{each.model}: {each.column.title}, retained of {TEACHER}"]
        assert cell.all("b")[0].text == f"{100 * each.retained:.1f} %"
        assert f"p, over examples: {each.p['examples']:.2g}" in cell.attributes["data-notes"]
        assert len(cell.attributes["data-runs"].split()) == (12 if each.column.task == "GAD" else 6)
    assert sum("retained" in title for title in cells) == len(found)


def test_a_panel_of_every_column_leads_to_its_cells(lines: list[Line], document: Node) -> None:
    table = score_grid(lines, intervals=False)
    captions = [node.text for node in document.all("figcaption")]
    assert sorted(captions) == sorted(column.title for column in table.columns)
    cells = {node.attributes["data-title"] for node in document.all("a", "cell")}
    keys = [node.attributes["data-cell"] for node in document.all("g")]
    assert set(keys) <= cells and len(keys) == len(set(keys)) == len(table.cells)
    assert all(node.attributes["aria-label"] for node in document.all("svg") if node.attributes.get("role") == "img")


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '" onfocus="alert(1)', "a&lt;b", "</title>", "$style"])
def test_what_records_say_is_text(tmp_path: Path, name: str) -> None:
    told = {"command": name, "date": name, "revision": name, "clean": True}
    task = {"task": name, "f1": 50.0, "from": told, "encoder_parameters": 5}
    made = [record(model, **task) | {"from": told} for model in (name, "b")]
    for each in made:
        each["model"]["architecture"] = each["task"]["kind"] = name
        each["model"]["encoder_parameters"] = 5_000_000
    document = page_of(tmp_path, *made)
    assert len(document.all("script")) == 1 and len(document.all("title")) == 1
    assert not [node for node in document.walk() if any(key.startswith("on") for key in node.attributes)]
    title = f"{name}: {name}, f1"
    assert title in [node.attributes["data-title"] for node in document.all("a", "cell")]
    assert name in [node.text for node in document.all("td")] and name in document.all("h2")[0].text


def test_few_seeds_missing_cells_and_dev(tmp_path: Path) -> None:
    records = [record("a"), record("b"), record("b", "BC2GM", f1=70.0), record("a", split="dev", f1=60.0)]
    document = page_of(tmp_path, *records)
    assert [node.text for node in document.all("td", "none") if node.text] == ["not measured", "not all tasks"]
    assert "(1)*" in document.all("a", "cell")[0].text and not document.all("figure")
    on_dev = page_of(tmp_path, *records, split="dev")
    assert not on_dev.all("tbody", "published") and "60.00" in on_dev.text and "dev sets" in on_dev.text


def test_tasks_by_different_protocols_have_no_mean(tmp_path: Path) -> None:
    second = record(task="BC2GM")
    second["protocol"]["overrides"] = {"epochs": 1}
    made = [record(), second]
    for each in made:
        each["task"]["kind"] = "ner"
    document = page_of(tmp_path, *made)
    assert "mean" not in [button.all("span")[0].text for button in document.all("button") if button.all("span")]
    assert "No mean over the tasks: a mean would mix BC2GM, f1" in document.text


def test_runs_show_their_scores_per_type_where_records_have_them(tmp_path) -> None:
    row = {"tp": 6, "fp": 2, "fn": 4, "precision": 75.0, "recall": 60.0, "f1": 66.6667, "support": 10}
    mean = {part: row[part] for part in ("precision", "recall", "f1", "support")}
    certain = {"predictions": 8, "ece": 4.25, "mean_score": 79.0, "right": 75.0, "bins": []}
    analysis = {"by_label": {"<b>": row}, "micro": mean, "macro": mean, "calibration": certain}
    document = page_of(tmp_path, record("old"), record("new") | {"analysis": analysis})
    cells = [node.text for node in document.all("td") if node.attributes.get("data-name") == "by type or class"]
    assert cells[1] == "" and cells[0] == "<b> 66.67; calibration error 4.2 %"


def test_models_of_different_protocols_are_named_and_other_tests_refused(tmp_path: Path) -> None:
    second = record("b")
    second["protocol"]["level"] = "published"
    text = page_of(tmp_path, record(), second).text
    assert "standard, labels published" in text and "NCBI-disease (b): version 1, protocol standard, labels pub" in text
    second["task"]["data_sha256"]["test"] = "other"
    with pytest.raises(UserError, match="would mix"):
        page_of(tmp_path, record(), second)


def test_the_command_writes_the_page(tmp_path: Path, lines: list[Line], capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "r.jsonl", record(), record("b"))
    assert main(["tables", "page", "--records", str(path), "--output", str(tmp_path / "out")]) == 0
    written = (tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    assert written == page(score_lines(read_lines([path]))) and "page.html" in capsys.readouterr().err
    assert main(["tables", "page", "--records", str(path), "--format", "md"]) == 2
    assert "`tables page` has no such format (html)" in capsys.readouterr().err


def test_the_kept_records_make_a_page() -> None:
    kept = Path(__file__).parents[2] / "results" / "benchmarks" / "minilm.jsonl"
    document = tree(page(score_lines(read_lines([kept]))))
    runs = [record["run"] for record in map(json.loads, kept.read_text().splitlines()) if record["record"] == "scores"]
    assert all(re.fullmatch("[0-9a-f]{16}", run) for run in runs)
    listed = {node.attributes["id"] for node in document.all("tr") if "id" in node.attributes}
    assert listed == {f"run-{run}" for run in runs}
