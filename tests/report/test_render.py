"""One table in each format: the same numbers, whatever comes from records escaped, and hidden columns only in CSV."""

import csv
import re

import pytest
from html_tree import tree

from compact_biomed.report.latex import latex, latex_float, latex_long
from compact_biomed.report.render import comma_separated, html, markdown
from compact_biomed.report.resampling import Interval
from compact_biomed.report.statistics import Summary
from compact_biomed.report.table import (
    Cell,
    Row,
    Table,
    TableColumn,
    command,
    gain,
    number,
    p_value,
    score,
    share,
    words,
)

SCORE = score(Summary(80.0, 1.0, 3), interval=Interval(80.0, 79.0, 81.25), marked=True, title="a: t", notes=("few",))
HEADS = (
    TableColumn("model", "model", left=True),
    TableColumn("score", "task", "f1", bounds=False, fields={"value": "mean", "deviation": "sd", "low": "low"}),
    TableColumn("gain", "gain"),
    TableColumn("how", "how", shown=False),
)


def table(name: str = "a", **of_table: str) -> Table:
    row = Row((words(name), SCORE, gain(Interval(2.5, -1.0, 6.0)), words("protocol")))
    other = Row((words("b"), words("not measured"), p_value(4e-5, 0.01), words("protocol")))
    return Table("scores", HEADS, (row, other), **of_table)


def test_markdown_has_legend_and_notes() -> None:
    text = markdown(table(title="Scores", caption="All of them.", legend="* few seeds", notes=("a | b",)))
    assert text.startswith("## Scores\n\nAll of them.\n\n| model | task, f1 | gain |\n| --- | --- | --- |\n")
    assert "| a | 80.00 ± 1.00 (3)\\* | +2.50 (-1.00 to +6.00) |\n" in text
    assert "| b | not measured | 4e-05 (0.01) |\n" in text
    assert text.endswith("\n\n\\* few seeds\n\n- a | b\n")


def test_csv_has_hidden_columns_and_empty_fields() -> None:
    first, second = csv.DictReader(comma_separated(table()).splitlines())
    assert first == {"model": "a", "mean": "80.0", "sd": "1.0", "low": "79.0", "gain": "2.5", "how": "protocol"}
    assert (second["mean"], second["sd"], second["gain"]) == ("", "", "4e-05")


def test_latex_is_a_tabular_a_float_or_long() -> None:
    text = latex(table(legend="* few seeds"))
    assert "\nmodel & task, f1 & gain \\\\\n" in text and text.endswith("\\end{tabular}\n% * few seeds\n")
    assert "\na & 80.00\\,$\\pm$\\,1.00 (3)$^*$ & $+2.50$ [$-1.00$, $+6.00$] \\\\\n" in text
    assert "$4\\cdot10^{-5}$ (0.01)" in text
    floating = latex_float(table(), "A caption.")
    assert "\\shortstack[r]{task\\\\f1}" in floating and "\\caption{A caption.}\\label{tab:scores}" in floating
    sections = table().in_sections({"Second `b_c`": ["b", "none"], "First": ["a"]})
    long = latex_long(sections, "A caption.", widths=("1cm", "2cm", "3cm"))
    second, first = long.index("\\textit{Second \\texttt{b\\_c}}"), long.index("\\textit{First}")
    assert second < long.index("\nb &") < first < long.index("\na &")


def test_html_leads_from_a_cell_to_its_notes() -> None:
    document = tree(html(table()))
    (link,) = document.all("a", "cell")
    assert link.text == "80.00 ± 1.00 (3)*79.0 to 81.2" and link.attributes["data-notes"] == "few"
    assert [head.attributes["data-kind"] for head in document.all("th") if "data-kind" in head.attributes] == [
        "text",
        "number",
        "number",
    ]
    assert [node.text for node in document.all("td", "none")] == ["not measured"]


@pytest.mark.parametrize("name", ["<b>a</b>", "a|b", "a*b", "50 % & more_of", "{$a}", 'a"b', "a`b"])
def test_names_are_escaped_in_every_format(name: str) -> None:
    named = table(name)
    assert next(csv.DictReader(comma_separated(named).splitlines()))["model"] == name
    assert tree(html(named)).all("th")[3].text == name and "<b>a" not in html(named)
    row = markdown(named).splitlines()[2].replace("\\|", "").replace("\\<", "").replace("\\*", "")
    assert row.count("|") == 4 and "<" not in row
    cell = latex(named).splitlines()[4].split(" & 80.00")[0]
    assert not any(sign in cell.replace(f"\\{sign}", "") for sign in "%&_#")


HOSTILE = [
    *("[a](javascript:alert)", "![a](b)", "a\\|b", "a\\*b*", "__a__", "`a`", "$\\frac{", "&lt;b&gt;", "~~a~~", "a_b"),
    *(
        "a\nb | c",
        "a\n\\input{x}",
        "a\u2028b",
        "a\0b",
        "<script>alert(1)</script>",
        "'\"><img src=x onerror=y>",
        "^",
        "~",
    ),
]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_is_more_than_text(name: str) -> None:
    shown = re.sub("[\n\0\u2028]", " ", name)
    named = table(name, legend="a legend", notes=(f"{name}: few seeds",), title=name, caption=name)
    lines = markdown(named).split("\n")
    assert len(lines) == len(markdown(table("a", legend="b", notes=("c",), title="d", caption="e")).split("\n"))
    cell = re.split(r"(?<!\\)(?:\\\\)*\|", lines[6])[1].strip()
    assert re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", cell) == shown  # backslashes before punctuation are all that is added
    assert not re.search(r"(?<!\\)(?:\\\\)*([*<`$]|\]\()", cell)
    of_latex = latex(named).split("\n")
    assert len(of_latex) == len(latex(table("a", legend="b", notes=("c",))).split("\n"))
    assert "\\input" not in re.sub(r"\\textbackslash\{\}", "", of_latex[4])
    page = tree(html(named))
    assert page.all("th")[3].text == name and not page.all("script") and not page.all("img")


def test_columns_are_selected_changed_and_added() -> None:
    changed = table().select("model", "how").map(lambda cell: command(cell.text), "how", title="protocol")
    changed = changed.add(
        TableColumn("size", "size"), lambda model: number(1e6, ".1f", "M", scale=1e-6) if model == "a" else number(None)
    )
    lines = markdown(changed).splitlines()
    assert lines[0] == "| model | protocol | size |"
    assert lines[2:] == ["| a | `protocol` | 1.0 M |", "| b | `protocol` | n/a |"]


def test_ratios_are_percent_and_stacked_cells_stay_together() -> None:
    ratio = share(0.988, Interval(0.988, 0.97, float("inf")), label="a / b", text="; 2 tasks")
    stacked = Table("t", (TableColumn("a", "a"),), (Row((Cell(stacked=(ratio, words("two"))),)),))
    assert "| a / b: 98.8 % (97.0 to unbounded); 2 tasks<br>two |" in markdown(stacked)
    assert "a / b: 98.8\\,\\% [97.0, unbounded]; 2 tasks" in latex(stacked)
    assert comma_separated(stacked) == "a\na / b: 98.8 % (97.0 to unbounded); 2 tasks; two\n"
