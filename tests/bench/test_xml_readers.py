"""The comparison of XML readers: its rules rebuild what they claim, and nothing is explained away."""

from pathlib import Path

import pytest
from lxml import etree

from compact_biomed.bench import xml_readers
from compact_biomed.corpus.document import Document

ARTICLE = """<Article><ArticleTitle>On <i>E. <b>coli</b></i>.</ArticleTitle><Abstract>
<AbstractText Label="AIM">Find <i>x<sub>2</sub></i>.</AbstractText>
<AbstractText Label="END"></AbstractText><CopyrightInformation>Mine.</CopyrightInformation></Abstract></Article>"""


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (set(), "AIM: Find x2."),
        ({"label_line"}, "AIM Find x2."),
        ({"one_level"}, "AIM: Find x."),
        ({"empty_section"}, "AIM: Find x2. END:"),
        ({"label_line", "one_level", "empty_section"}, "AIM Find x. END"),
    ],
)
def test_each_rule_rebuilds_its_difference(rules: set[str], expected: str) -> None:
    assert xml_readers.rebuilt("abstract", etree.fromstring(ARTICLE), rules) == expected


@pytest.mark.parametrize(
    ("library", "cause"),
    [
        ("AIM: Find x2.", "equal"),
        ("AIM:\nFind x2. ", "white space"),
        ("AIM\nFind x2.", "label_line"),
        ("AIM\nFind x.\n\nEND\n", "label_line + empty_section + one_level"),
        ("AIM: Find x3.", None),
    ],
)
def test_only_what_can_be_rebuilt_is_explained(library: str, cause: str | None) -> None:
    assert xml_readers._explain("abstract", "AIM: Find x2.", library, etree.fromstring(ARTICLE)) == cause


def test_a_lost_title_and_a_wrong_pmid_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = "<PubmedArticle><MedlineCitation><PMID>{}</PMID>{}</MedlineCitation></PubmedArticle>"
    path = tmp_path / "a.xml"
    path.write_text(f"<PubmedArticleSet>{''.join(record.format(n, ARTICLE) for n in (1, 2, 3))}</PubmedArticleSet>")
    library = [
        {"pmid": "1", "title": "On E. .", "abstract": "AIM\nFind x2.", "delete": False},
        {"pmid": "7", "title": "", "abstract": "AIM: Find x2.", "delete": False},
    ]
    monkeypatch.setattr(xml_readers, "_library", lambda _: library)
    differences = xml_readers.explain_differences([path])
    assert differences["citations"] == 2
    assert differences["pmids_differ"] == 2  # the wrong number, and the citation that the library lacks
    assert differences["title"] == {"one_level": 1, "unexplained": 1}
    assert differences["abstract"] == {"label_line": 1, "equal": 1}
    assert differences["unexplained"] == 1
    assert differences["unexplained_pmids"] == [2]


def test_our_own_text_is_rebuilt_by_no_rule(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    record = f"<PubmedArticle><MedlineCitation><PMID>1</PMID>{ARTICLE}</MedlineCitation></PubmedArticle>"
    path.write_text(f"<PubmedArticleSet>{record}</PubmedArticleSet>")
    [(document, article)] = xml_readers._with_elements(path)
    assert isinstance(document, Document)
    for part in ("title", "abstract"):
        assert xml_readers.rebuilt(part, article, set()) == getattr(document, part)
