"""Pieces of LaTeX: text, tables that float, tables that run over pages."""

import re
from collections.abc import Sequence

from compact_biomed.report.render import latex_escape

Row = Sequence[str] | str
"""Cells, or the heading of the rows that follow. Cells are LaTeX already."""
RAGGED = ">{{\\raggedright\\arraybackslash}}p{{{}}}"
"""A column of that width, for `format`."""


def text(plain: str) -> str:
    """Plain text as LaTeX: percent signs stand off by a thin space, 4e-05 is a power of ten, -1 has a minus."""
    escaped = latex_escape(plain).replace(" \\%", "\\,\\%").replace("±", "$\\pm$")
    escaped = re.sub(r"(?<![\w.)-])-(?=\d)", "$-$", escaped)
    return re.sub(r"\b(\d(?:\.\d+)?)e-0?(\d+)", r"$\1\\cdot10^{-\2}$", escaped)


def code(plain: str) -> str:
    """A command or a file's name in typewriter letters, which may break behind its slashes and commas."""
    escaped = latex_escape(plain).replace("--", "-{}-")  # no ligature
    for sign in "/,=":
        escaped = escaped.replace(sign, sign + "\\allowbreak{}")
    return f"\\texttt{{{escaped}}}"


_TIGHT = "\\setlength{\\tabcolsep}{2pt}"


def table(
    name: str,
    caption: str,
    align: str,
    head: Sequence[str],
    rows: Sequence[Row],
    *,
    place: str = "tbp",
    tight: bool = False,
) -> str:
    """A table that floats to `place`, `\\label{tab:NAME}`; head and cells LaTeX; `tight`: columns close together."""
    align = f"@{{}}{align}@{{}}" if tight else align
    body = [f"\\begin{{tabular}}{{{align}}}", "\\toprule", _line(head), "\\midrule", *_body(rows, len(head))]
    inside = "\n".join([*body, "\\bottomrule", "\\end{tabular}"])
    return (
        f"\\begin{{table}}[{place}]\n"
        f"\\centering\\footnotesize{_TIGHT if tight else ''}\n"
        f"\\caption{{{caption}}}\\label{{tab:{name}}}\n{inside}\n\\end{{table}}\n"
    )


def long_table(name: str, caption: str, align: str, head: Sequence[str], rows: Sequence[Row]) -> str:
    """The same for a table of several pages, with its head on each."""
    top = ["\\toprule", _line(head), "\\midrule"]
    first = [f"\\caption{{{caption}}}\\label{{tab:{name}}}\\\\", *top, "\\endfirsthead"]
    return "\n".join(
        [
            "{\\footnotesize", f"\\begin{{longtable}}{{{align}}}", *first, *top, "\\endhead", "\\bottomrule",
            "\\endlastfoot", *_body(rows, len(head)), "\\end{longtable}}", "",
        ]
    )  # fmt: skip


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _body(rows: Sequence[Row], columns: int) -> list[str]:
    lines = []
    for number, row in enumerate(rows):
        if isinstance(row, str):
            lines += ["\\addlinespace"] if number else []
            lines.append(f"\\multicolumn{{{columns}}}{{@{{}}l}}{{\\textit{{{row}}}}} \\\\*")
        else:
            lines.append(_line(row))
    return lines
