"""Updates, deletions and versions against an oracle of ten lines."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from corpus_inputs import citation, deletion, medline

from compact_biomed.corpus.documents import build_documents, identify_all
from compact_biomed.corpus.shards import _ROW, decide, merge_shards, parse_files

Write = Callable[..., Path]


def texts(*sources: Path, workers: int = 1) -> list[tuple[int | None, int, str]]:
    store = build_documents(list(sources), workers=workers)
    assert len(store) == len(list(store.documents()))
    return [(document.pmid, document.version, document.text) for document in store.documents()]


def test_updates_replace_deletions_delete_and_the_newest_version_wins(write: Write, cache: Path) -> None:
    base = write(
        "pubmed25n0002.xml.gz",
        medline(citation(1, "old"), citation(2, "gone"), citation(3, "v1"), citation(3, "v2", version=2), citation(4)),
    )
    update = write(
        "pubmed25n1300.xml.gz",
        medline(citation(1, "new"), deletion((2, 1), (3, 2), (99, 1)), citation(5, "late"), citation(5, "later")),
    )
    # Named in the wrong order: the numbers decide.
    assert texts(update, base) == [(3, 1, "v1"), (4, 1, "A title."), (1, 1, "new"), (5, 1, "later")]
    assert build_documents([update, base]).merged.counts == {
        "citations": 8,
        "replaced": 2,
        "deleted": 2,
        "duplicates": 0,
        "kept": 4,
    }


def test_a_deleted_citation_may_come_back(write: Write, cache: Path) -> None:
    paths = [
        write("pubmed24n0001.xml", medline(citation(1, "a"))),
        write("pubmed24n0002.xml", medline(deletion((1, 1)))),
        write("pubmed25n0001.xml", medline(citation(1, "b"))),
    ]
    assert texts(*paths[:1]) == [(1, 1, "a")]
    assert texts(*paths) == [(1, 1, "b")]


def test_equal_texts_without_pmid_are_kept_once(write: Write, cache: Path) -> None:
    a = write("a.txt", "same\nother\nsame\n")
    b = write("b.jsonl", '{"text": "same"}\n{"text": "same", "pmid": 3}\n')
    assert sorted(texts(a, b), key=str) == [(3, 1, "same"), (None, 0, "other"), (None, 0, "same")]


def test_against_a_dictionary_in_many_small_buckets(write: Write, cache: Path) -> None:
    chance = random.Random(0)
    latest: dict[int, dict[int, str | None]] = {}
    paths = []
    for number in range(1, 9):
        records = []
        for item in range(60):
            pmid, version = chance.randint(1, 80), chance.randint(1, 3)
            name = None if chance.random() < 0.3 else f"t{number}x{item}"
            latest.setdefault(pmid, {})[version] = name
            records.append(deletion((pmid, version)) if name is None else citation(pmid, name, version=version))
        paths.append(write(f"pubmed25n{number:04}.xml", medline(*records)))
    expected = set()
    for versions in latest.values():
        alive = {version: name for version, name in versions.items() if name is not None}
        if alive:
            expected.add(alive[max(alive)])
    assert {text for _, _, text in texts(*paths)} == expected
    whole = build_documents(paths).merged
    [entry] = (cache / "corpus" / "merged").iterdir()
    entry.rename(cache / "moved")  # decide again, in buckets of a few rows
    shards, _ = parse_files(identify_all(paths), 1)
    split = merge_shards(shards, rows_at_once=16)
    assert np.array_equal(whole.keep, split.keep)
    assert whole.counts == split.counts
    counts = whole.counts
    assert counts["citations"] == sum(counts[name] for name in ("replaced", "deleted", "duplicates", "kept"))


def test_nothing_to_decide() -> None:
    rows, counts = decide(np.zeros(0, _ROW))
    assert len(rows) == 0
    assert set(counts.values()) == {0}


@pytest.mark.parametrize("workers", [2])
def test_any_number_of_workers_gives_the_same_documents(write: Write, cache: Path, workers: int) -> None:
    import shutil

    paths = [write(f"pubmed25n{n:04}.xml", medline(citation(n, f"t{n}"), citation(n + 1, "x"))) for n in range(1, 6)]
    alone = texts(*paths)
    shutil.rmtree(cache)
    assert texts(*paths, workers=workers) == alone
