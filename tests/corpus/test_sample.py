"""The registry's PubMed sample, compared with counts made independently of this reader."""

import pytest

from compact_biomed.corpus.documents import build_documents


@pytest.mark.network
def test_the_sample_holds_what_was_counted() -> None:
    store = build_documents("registry")
    assert store.merged.counts == {
        "citations": 50_788,
        "replaced": 5,  # three articles of 2021 have two to four versions
        "deleted": 0,  # the 20 deletions name citations of other files
        "duplicates": 0,
        "kept": 50_783,
    }
    with_abstract = [0, 0]
    for document in store.documents():
        with_abstract[(document.year or 0) > 1990] += bool(document.abstract)
        assert "\n" not in document.text
        assert "[" not in document.title or "[" not in document.text[: len(document.title) - 1]
    assert sum(with_abstract) == 33_272
    assert with_abstract == [14_832, 18_440]
