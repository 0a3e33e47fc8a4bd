"""ReproductionPaths in a document: the named one is filled, nothing else changes."""

from pathlib import Path

import pytest

from compact_biomed.errors import UserError
from compact_biomed.report.render import END, begin, put_between_markers

ONE, TWO = begin("one"), begin("two")


def test_only_the_named_place_changes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{TWO}\n{END}\nbetween\n{ONE}\nold\n{END}\nafter\n")
    put_between_markers(page, "one", "new\n")
    assert page.read_text() == f"before\n{TWO}\n{END}\nbetween\n{ONE}\nnew\n{END}\nafter\n"
    put_between_markers(page, "two", "2\n")
    once = page.read_text()
    assert once == f"before\n{TWO}\n2\n{END}\nbetween\n{ONE}\nnew\n{END}\nafter\n"
    put_between_markers(page, "two", "2\n")
    assert page.read_text() == once


@pytest.mark.parametrize(
    "text", ["no markers", ONE, f"{END}{ONE}", f"{ONE}{END}{ONE}{END}", f"{TWO}{END}", f"{ONE}\n{TWO}{END}"]
)
def test_a_document_without_the_place_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(UserError, match=r"page\.md: no place for the table .*table:one"):
        put_between_markers(page, "one", "new\n")
    assert page.read_text() == text
