"""The README's length, the links of the documentation, and the copies of tables in it."""

import re
import shlex
from pathlib import Path

import pytest
from test_layers import LAYERS

from compact_biomed.cli import build_parser
from compact_biomed.cli.flags import hyphenated
from compact_biomed.reproduce.results import COPIES

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def headings(page: Path) -> set[str]:
    """Return the anchors of a page as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_can_be_read_in_one_sitting() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", ["README.md", "Makefile", "docs/own-data.md", "docs/use.md"])
def test_commands_have_the_flags_that_there_are(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ").replace("$(VENV)/bin/", "")
    entities = re.search(r"^ENTITIES = (.*)$", text, re.MULTILINE)
    text = text.replace("$(ENTITIES)", entities[1] if entities else "")
    lines = re.findall(r"^(?:\t?@?|.*\| )compact-biomed ((?!recipe|train).*?)(?:`|$)", text, re.MULTILINE)
    assert lines
    for line in lines:
        _, unknown = build_parser().parse_known_args(hyphenated(shlex.split(line, comments=True)))
        assert not unknown, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith(("http:", "https:")):
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), link
            assert not anchor or anchor in headings(target), link


@pytest.mark.parametrize("name", COPIES)
def test_copies_of_tables_are_those_of_the_records(name: str) -> None:
    page = (ROOT / COPIES[name]).read_text(encoding="utf-8")
    copied = page.partition(f"<!-- table:{name} -->\n")[2].partition("<!-- end -->")[0].splitlines()
    made = (ROOT / "results" / "compression" / f"{name}.md").read_text(encoding="utf-8").splitlines()
    assert len(copied) > 3 and copied == [line for line in made if line.startswith("|") and "word-pieces" not in line]


def test_the_picture_of_the_layers_is_the_tested_one() -> None:
    picture = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").partition("\ncli > ")[2].partition("```")[0]
    assert tuple(reversed(re.findall(r"\w+", f"cli > {picture}"))) == LAYERS
