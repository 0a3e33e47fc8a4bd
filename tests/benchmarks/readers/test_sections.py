"""Roles of sentences: sentence splitting, and which abstracts are used."""

from pathlib import Path

import pytest

from compact_biomed.benchmarks.readers import read, texts
from compact_biomed.benchmarks.tasks import TASKS
from compact_biomed.corpus.document import document_key, is_heldout
from compact_biomed.corpus.medline import read_medline, read_sections

ROLES = ("BACKGROUND", "METHODS", "RESULTS", "CONCLUSIONS")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Frogs hop. Toads do not.", ["Frogs hop.", "Toads do not."]),
        ("Frogs hop", ["Frogs hop"]),
        ("Do frogs hop? They do! (They do.) So.", ["Do frogs hop?", "They do!", "(They do.)", "So."]),
        ("At 3.5 vs. 7 mg, i.e. Half (Fig. 2). 12 frogs.", ["At 3.5 vs. 7 mg, i.e. Half (Fig. 2).", "12 frogs."]),
        ("A dose of vitamin D. None had fever.", ["A dose of vitamin D.", "None had fever."]),
        ("We saw B. frogs hop. p < 0.05.", ["We saw B. frogs hop. p < 0.05."]),
        ("By Old et al. Frogs hop.", ["By Old et al. Frogs hop."]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert texts.split_sentences(text) == expected
    assert " ".join(expected) == text


def citation(pmid: int, parts: list[tuple[str, str]]) -> str:
    inner = "".join(
        f'<AbstractText Label="{category}" NlmCategory="{category}">{text}</AbstractText>'
        if category
        else f"<AbstractText>{text}</AbstractText>"
        for category, text in parts
    )
    return (
        f'<PubmedArticle><MedlineCitation><PMID Version="1">{pmid}</PMID><Article><ArticleTitle>T.</ArticleTitle>'
        f"<Abstract>{inner}</Abstract></Article></MedlineCitation></PubmedArticle>"
    )


def medline(tmp_path: Path, records: list[str]) -> Path:
    path = tmp_path / "sample.xml"
    deletion = '<DeleteCitation><PMID Version="1">7</PMID></DeleteCitation>'
    path.write_text(f"<PubmedArticleSet>{''.join(records)}{deletion}</PubmedArticleSet>")
    return path


WHOLE = [(role, f"Frogs of {role}. They hop.") for role in ROLES]


def test_structured_abstracts_of_the_heldout_side_are_split_by_key(tmp_path: Path, monkeypatch) -> None:
    path = medline(tmp_path, [citation(pmid, WHOLE) for pmid in range(1, 600)])
    monkeypatch.setattr(texts, "medline_sample", lambda: [path])
    splits = read(TASKS["MEDLINE-sections"], None)
    keys = {pmid: document_key(pmid, "") for pmid in range(1, 600)}
    below = {share: {pmid for pmid, key in keys.items() if is_heldout(key, share)} for share in (0.02, 0.1)}
    parts = (splits.test, splits.dev, splits.train)
    pmids = [{int(example.key[5:].split("/")[0]) for example in part} for part in parts]
    assert pmids[0] == below[0.02]
    assert set().union(*pmids) == below[0.1]
    assert sum(map(len, pmids)) == len(below[0.1])
    first = splits.train[:8]
    assert [example.label for example in first] == [role.lower() for role in ROLES for _ in range(2)]
    assert first[0].text == "Frogs of BACKGROUND."


def test_unlabeled_unassigned_and_two_part_abstracts_are_left_out(tmp_path: Path, monkeypatch) -> None:
    pmid = next(pmid for pmid in range(1, 1000) if is_heldout(document_key(pmid, ""), 0.02))
    records = [
        citation(pmid, [("", "Frogs hop.")]),
        citation(pmid, [*WHOLE, ("UNASSIGNED", "Frogs.")]),
        citation(pmid, [*WHOLE, ("", "Frogs.")]),
        citation(pmid, WHOLE[:2]),
        citation(pmid, WHOLE[:3]),
    ]
    monkeypatch.setattr(texts, "medline_sample", lambda: [medline(tmp_path, records)])
    assert [example.label for example in texts.read_sections(TASKS["MEDLINE-sections"]).test] == [
        role.lower() for role in ROLES[:3] for _ in range(2)
    ]


def test_sections_joined_are_the_abstract_of_the_corpus(tmp_path: Path) -> None:
    path = medline(
        tmp_path, [citation(1, WHOLE), citation(2, [("", "Plain <i>frogs</i>.")]), citation(3, [("METHODS", "")])]
    )
    joined = {
        pmid: " ".join(f"{part.label}: {part.text}" if part.label else part.text for part in parts)
        for pmid, parts in read_sections(path)
    }
    documents = {document.pmid: document.abstract for document in read_medline(path) if hasattr(document, "abstract")}
    assert joined == {pmid: abstract for pmid, abstract in documents.items() if abstract}
    assert set(documents) == {1, 2, 3}
