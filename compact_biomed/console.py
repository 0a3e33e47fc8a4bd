"""Output for people: lines, progress bars, numbers with units, rows of Markdown."""

import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

from tqdm import tqdm


def say(text: str = "") -> None:
    """Print one line to stderr, unbuffered."""
    print(text, file=sys.stderr, flush=True)


class _Numbered(io.TextIOBase):
    """A stream that writes whole lines to another one, each after a number in brackets. It is no terminal."""

    def __init__(self, stream: TextIO, number: int):
        self._stream, self._label, self._begun = stream, f"[{number}] ", ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._stream.write(f"{self._label}{line}".rstrip() + "\n")
            self._stream.flush()
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


LINES_OF = "COMPACT_BIOMED_LINES_OF"
"""The variable by which a command is told to number its lines."""


def number_lines(number: int) -> None:
    """Let all lines that this process prints begin with a number: several processes print on one terminal."""
    sys.stdout, sys.stderr = (_Numbered(stream, number) for stream in (sys.stdout, sys.stderr))


def count(n: float) -> str:
    """Format a number with a decimal prefix: 1234567 -> '1.23 M'."""
    for size, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(n) >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n:.3g}"


def size(n_bytes: float) -> str:
    """Format bytes with a binary prefix: 1536 -> '1.5 KiB'."""
    for scale, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.1f} {unit}"
    return f"{n_bytes:.0f} B"


def duration(seconds: float) -> str:
    """Format seconds in the largest two units that fit: 3725 -> '1 h 2 min'."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    if minutes < 60:
        return f"{int(minutes)} min {int(seconds % 60)} s"
    hours = minutes / 60
    if hours < 48:
        return f"{int(hours)} h {int(minutes % 60)} min"
    return f"{hours / 24:.1f} days"


def counted(n: int, noun: str) -> str:
    """Return a number with its noun: "1 run", "2 runs"."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def shortened(name: str, most: int = 60) -> str:
    """Return a name of a user's data with at most so many characters, its middle left out if need be.

    Names of classes may be whole sentences. Records, files and `--format` of predictions have them in full.
    """
    name = " ".join(name.split())
    return name if len(name) <= most else f"{name[: most - most // 3 - 1]}…{name[-(most // 3) :]}"


def listed(names: Iterable[str], *, most: int | None = None) -> str:
    """Return names of a user's data with commas between them, each `shortened`, and at most the first `most`."""
    names = list(names)
    return ", ".join([*map(shortened, names[:most]), *(["..."] if len(names[:most]) < len(names) else [])])


def aligned(rows: Sequence[Sequence[str]], *, left: int = 1) -> Iterator[str]:
    """Yield rows of cells as lines with aligned columns, the first `left` of them on the left, the others on the right.

    Long cells are `shortened`.

    Args:
        rows: of equal length, the heads first.
    """
    rows = [[shortened(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        yield "  ".join(c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(cells)).rstrip()


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, each line with its end. Cells may hold Markdown of their own."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |\n" for line in lines)


def progress(items: Iterable | None = None, **options: Any):
    """Return a tqdm bar on stderr, which is silent where stderr is not a terminal."""
    options.setdefault("disable", None)  # None: only on a terminal
    options.setdefault("dynamic_ncols", True)
    return tqdm(items, **options)
