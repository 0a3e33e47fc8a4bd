"""MEDLINE-terms: which index terms are names of chemicals and diseases, and where texts print them."""

from pathlib import Path

import pytest

from compact_biomed.benchmarks.readers import index_terms, read
from compact_biomed.benchmarks.readers.index_terms import printed_forms, tag
from compact_biomed.benchmarks.tasks import TASKS
from compact_biomed.corpus.document import document_key, is_heldout
from compact_biomed.corpus.medline import read_index_terms


def citation(pmid: int, text: str, chemicals: str = "", **headings: str) -> str:
    """A citation with substances, and headings with subheadings; bars separate names."""
    listed = "".join(f"<Chemical><NameOfSubstance>{name}</NameOfSubstance></Chemical>" for name in chemicals.split("|"))
    mesh = "".join(
        f"<MeshHeading><DescriptorName>{name}</DescriptorName>"
        + "".join(f"<QualifierName>{each}</QualifierName>" for each in subheadings.split("|"))
        + "</MeshHeading>"
        for name, subheadings in headings.items()
    )
    return (
        f'<PubmedArticle><MedlineCitation><PMID Version="1">{pmid}</PMID><Article><ArticleTitle>T.</ArticleTitle>'
        f"<Abstract><AbstractText>{text}</AbstractText></Abstract></Article>"
        f"<ChemicalList>{listed}</ChemicalList><MeshHeadingList>{mesh}</MeshHeadingList>"
        "</MedlineCitation></PubmedArticle>"
    )


@pytest.mark.parametrize(
    ("term", "forms"),
    [
        ("Aspirin", ["aspirin"]),
        ("Carcinoma, Squamous Cell", ["squamous cell carcinoma"]),
        ("Leukemia, Myeloid, Acute", ["acute myeloid leukemia"]),
        ("Lung Neoplasms", ["lung neoplasm", "lung cancer", "lung tumor", "lung tumour"]),
        ("Antibodies, Viral", ["viral antibody"]),
        ("Arthritis", ["arthritis"]),
        ("Diabetes Mellitus", ["diabetes mellitus"]),
        ("Lead", []),  # also a verb
        ("IL4 protein (human)", []),
        ("Q", []),
    ],
)
def test_how_texts_print_a_term(term: str, forms: list[str]) -> None:
    assert [" ".join(name) for name in printed_forms(term)] == forms


def test_the_longest_name_from_the_left_is_tagged() -> None:
    names = {("blood", "glucose"): "Chemical", ("glucose",): "Chemical", ("lung", "cancer"): "Disease"}
    words = "High blood glucose , glucoses and Lung cancers .".split()
    assert " ".join(tag(words, names)) == "O B-Chemical I-Chemical O B-Chemical O B-Disease I-Disease O"
    assert tag((), names) == ()


def test_names_of_all_articles_are_looked_up_and_documents_divided_by_key(tmp_path: Path, monkeypatch) -> None:
    records = [
        citation(n, "Aspirin lowers fever. Frogs hop in Africa.", "Aspirin", Frogs="metabolism") for n in range(1, 600)
    ]
    records.append(citation(700, "", "", Fever="drug therapy|metabolism", Africa="epidemiology"))
    records.append('<DeleteCitation><PMID Version="1">7</PMID></DeleteCitation>')
    path = tmp_path / "sample.xml"
    path.write_text(f"<PubmedArticleSet>{''.join(records)}</PubmedArticleSet>")
    assert [each.pmid for each in read_index_terms(path)][-1] == 700
    monkeypatch.setattr(index_terms, "medline_sample", lambda: [path])
    splits = read(TASKS["MEDLINE-terms"], None)
    test = {pmid for pmid in range(1, 600) if is_heldout(document_key(pmid, ""), 0.02)}
    assert {int(example.key[5:].split("/")[0]) for example in splits.test} == test
    assert sum(map(len, (splits.train, splits.dev, splits.test))) == 2 * sum(
        is_heldout(document_key(pmid, ""), 0.1) for pmid in range(1, 600)
    )
    first, second = splits.test[:2]
    assert first.words == ("Aspirin", "lowers", "fever", ".")
    assert first.tags == ("B-Chemical", "O", "B-Disease", "O") and set(second.tags) == {"O"}
