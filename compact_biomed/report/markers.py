"""Places in a document that are filled from records, between `<!-- table:NAME -->` and `<!-- end -->`."""

from pathlib import Path

from compact_biomed.errors import UserError
from compact_biomed.files import write_text

END = "<!-- end -->"


def begin(name: str) -> str:
    """The marker before a place."""
    return f"<!-- table:{name} -->"


def put_between_markers(document: Path, name: str, text: str) -> None:
    """Replace what stands at a place, and nothing else.

    Args:
        text: with the end of its last line.

    Raises:
        UserError: the document has no such place, or several.
    """
    marker = begin(name)
    whole = document.read_text(encoding="utf-8")
    before, _, rest = whole.partition(marker)
    if whole.count(marker) != 1 or END not in rest or "<!-- table:" in rest.partition(END)[0]:
        raise UserError("no place for the table", where=document, remedy=f"one line {marker} and one {END} after it")
    write_text(document, f"{before}{marker}\n{text}{rest[rest.index(END) :]}")
