"""Documents that repeat a test set are found and dropped, as a plain search finds them."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from corpus_inputs import citation, made_up, medline

from compact_biomed.corpus.build import prepare
from compact_biomed.corpus.decontaminate import MOST_DOCUMENTS, Blocklist, split_words
from compact_biomed.corpus.documents import build_documents
from compact_biomed.errors import UserError

Write = Callable[..., Path]
LONG = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi"
SHORT = "nine words are enough for a whole test text"


def touches(blocklist: Blocklist, document: str) -> set[str]:
    """Names of the benchmarks that one document touches."""
    _, runs = blocklist.find([document])
    bits = int(np.bitwise_or.reduce(blocklist.bits[runs], initial=np.uint64(0)))
    return {name for bit, name in enumerate(blocklist.benchmarks) if bits >> bit & 1}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (f"Before it. {LONG.upper()}, after it.", {"one"}),
        (LONG.replace(" ", " - "), {"one"}),
        (" ".join(LONG.split()[:13]), {"one"}),
        (" ".join(LONG.split()[:12]), set()),
        (LONG.replace("theta", "changed"), set()),
        (f"As we said: {SHORT}; and more.", {"two"}),
        (SHORT.removesuffix(" text"), set()),
        ("seven words are too few to tell", set()),
        ("", set()),
    ],
)
def test_long_runs_and_whole_texts_match(document: str, expected: set[str]) -> None:
    blocklist = Blocklist.from_texts([("one", LONG), ("two", SHORT), ("two", "seven words are too few to tell")])
    assert touches(blocklist, document) == expected


def test_a_run_never_crosses_from_one_document_to_the_next() -> None:
    words = LONG.split()
    blocklist = Blocklist.from_texts([("one", LONG)])
    documents, _ = blocklist.find([" ".join(words[:8]), " ".join(words[8:]), LONG])
    assert set(documents.tolist()) == {2}


def test_masks_end_a_run() -> None:
    left, right = made_up(1, 13), made_up(2, 9)
    blocklist = Blocklist.from_texts([("masked", f"{left} @GENE$ {right} @CHEM-GENE$ in the end")])
    assert touches(blocklist, left) == {"masked"}
    assert touches(blocklist, f"{left.split(maxsplit=1)[1]} {right}") == set()


def test_words_are_compared_as_tokenized_sets_write_them() -> None:
    assert split_words('The "B - cell", <i>IL-2</i>_x') == ["the", "b", "cell", "i", "il", "2", "i", "x"]
    # One set keeps 20 characters of a word.
    assert split_words("dichlorodiphenyltrichloroethane") == split_words("dichlorodiphenyltrich")[:1]
    assert split_words("β-catenin É") == ["β", "catenin", "é"]


def test_a_text_of_two_benchmarks_counts_for_both() -> None:
    assert touches(Blocklist.from_texts([("one", LONG), ("two", LONG)]), LONG) == {"one", "two"}


def test_matches_are_those_of_a_plain_search() -> None:
    chance = random.Random(0)
    vocabulary = ["ka", "lo", "mi"]  # three words: many runs repeat
    texts = [("abc"[n % 3], " ".join(chance.choices(vocabulary, k=n % 9 + 2))) for n in range(40)]
    documents = [" ".join(chance.choices([*vocabulary, "strange"], weights=[9, 9, 9, 1], k=20)) for _ in range(300)]
    blocklist = Blocklist.from_texts(texts, n_words=6, shortest_text=4)

    def plain(document: str) -> set[str]:
        benchmarks = set()
        for name, text in texts:
            words = text.split()
            runs = [words[i : i + 6] for i in range(len(words) - 5)] or ([words] if len(words) >= 4 else [])
            benchmarks |= {name for run in runs if f" {' '.join(run)} " in f" {document} "}
        return benchmarks

    expected = [plain(document) for document in documents]
    assert [touches(blocklist, document) for document in documents] == expected
    assert 20 < sum(map(bool, expected)) < 290  # neither all nor none


def test_the_order_of_the_texts_does_not_matter_and_a_file_keeps_all(tmp_path: Path) -> None:
    texts = [(f"set {n % 3}", made_up(n, 5 + n)) for n in range(30)]
    first, second = Blocklist.from_texts(texts), Blocklist.from_texts(reversed(texts))
    assert first.sha256 == second.sha256
    first.save(tmp_path / "list.npz")
    again = Blocklist.load(tmp_path / "list.npz")
    assert (again.sha256, again.words, again.texts) == (first.sha256, first.words, first.texts)
    assert Blocklist.from_texts(texts, n_words=12).sha256 != first.sha256
    assert Blocklist.from_texts(texts[:-1]).sha256 != first.sha256


def test_passages_are_the_words_shared() -> None:
    blocklist = Blocklist.from_texts([("one", LONG), ("two", SHORT)])
    assert blocklist.passages(f"Some {LONG}. Then: {SHORT}!") == [LONG, SHORT]
    assert blocklist.passages("none at all") == []


def test_nothing_to_compare_with_is_an_error() -> None:
    with pytest.raises(UserError, match="0 test sets"):
        Blocklist.from_texts([])
    with pytest.raises(UserError, match="65 test sets"):
        Blocklist.from_texts((f"set {n}", LONG) for n in range(65))


@pytest.fixture
def sources(write: Write, cache: Path) -> list[Path]:
    """60 citations in two files: 3 and 40 hold a test text, 1 to 12 a formula, 41 lacks an abstract."""
    formula = made_up(1001, 15)

    def abstract(n: int) -> str:
        phrase = f" {formula}" if n <= 12 else ""
        return made_up(n, 30) + phrase + (f" Here {LONG}." if n in (3, 40) else "") + (f" {SHORT}." if n == 40 else "")

    records = [citation(n, made_up(2000 + n, 4), abstract(n)) for n in range(1, 61) if n != 41]
    records.append(citation(41, LONG))
    return [write("a.xml.gz", medline(*records[:30])), write("b.xml.gz", medline(*records[30:]))]


@pytest.fixture
def blocklist() -> Blocklist:
    return Blocklist.from_texts(
        [("one", LONG), ("two", SHORT), ("formulas", made_up(1001, 15)), ("untouched", made_up(1007, 20))]
    )


def test_documents_are_dropped_and_counted_by_benchmark(sources: list[Path], blocklist: Blocklist) -> None:
    store = build_documents(sources, workers=1, blocklist=blocklist)
    assert {d.pmid for d in store.documents()} == set(range(1, 61)) - {3, 40, 41}
    assert (len(store), store.merged.counts["contaminated"]) == (57, 3)
    record = store.screened.record
    assert {name: counts["documents"] for name, counts in record["benchmarks"].items()} == {
        "formulas": 0,
        "one": 3,
        "two": 1,
        "untouched": 0,
    }
    assert record["documents"] == 3
    assert record["common_runs"] == 3 and MOST_DOCUMENTS == 10  # 15 words hold three runs of 13; twelve documents do
    assert {d.pmid: names for d, names in store.contaminated()} == {3: ["one"], 40: ["one", "two"], 41: ["one"]}
    # Without the list nothing changes, also after it.
    assert len(build_documents(sources, workers=1)) == 60


def test_what_was_found_in_a_file_is_remembered(sources: list[Path], blocklist: Blocklist, monkeypatch) -> None:
    first = build_documents(sources, workers=1, blocklist=blocklist).screened.record
    monkeypatch.setattr(Blocklist, "find", lambda *_: pytest.fail("screened again"))
    assert build_documents(sources, workers=1, blocklist=blocklist).screened.record == first


def test_the_tokenized_set_depends_on_the_list(sources: list[Path], blocklist: Blocklist, tokenizer) -> None:
    plain = prepare(sources, tokenizer, heldout_fraction=0.1, workers=1)
    clean = prepare(sources, tokenizer, heldout_fraction=0.1, workers=1, blocklist=blocklist)
    again = prepare(sources, tokenizer, heldout_fraction=0.1, workers=1, blocklist=blocklist)
    other = prepare(
        sources, tokenizer, heldout_fraction=0.1, workers=1, blocklist=Blocklist.from_texts([("one", LONG)])
    )
    assert len({plain.folder, clean.folder, other.folder}) == 3
    assert again.folder == clean.folder
    pmids = {*clean.train["pmid"], *clean.heldout["pmid"]}
    assert pmids == {*plain.train["pmid"], *plain.heldout["pmid"]} - {3, 40}
    assert clean.record["decontamination"]["documents"] == clean.record["documents"]["contaminated"] == 3
    assert "decontamination" not in plain.record


def test_several_processes_find_the_same(sources: list[Path], blocklist: Blocklist, cache: Path, monkeypatch) -> None:
    alone = build_documents(sources, workers=1, blocklist=blocklist).screened.record
    monkeypatch.setenv("COMPACT_BIOMED_CACHE", str(cache.with_name("other")))
    assert build_documents(sources, workers=2, blocklist=blocklist).screened.record == alone


def test_from_the_command_line(sources: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from compact_biomed.cli import main

    folder = tmp_path / "data" / "NER" / "NCBI-disease"
    folder.mkdir(parents=True)
    for split in ("train", "devel", "test"):
        words = LONG.split() if split == "test" else made_up(5, 8).split()
        folder.joinpath(f"{split}.tsv").write_text("".join(f"{word}\t{'OB'[n == 0]}\n" for n, word in enumerate(words)))
    hits = tmp_path / "hits.jsonl"
    command = ["corpus", "decontaminate", *map(str, sources), "--against", str(tmp_path / "data"), "--workers", "1"]
    assert main([*command, "--hits", str(hits)]) == 0
    message = capsys.readouterr().err
    assert "3 documents dropped" in message and "NCBI-disease" in message and "57 documents remain" in message
    lines = [json.loads(line) for line in hits.read_text().splitlines()]
    assert [hit["pmid"] for hit in lines] == [3, 40, 41]
    assert lines[0] == {"pmid": 3, "year": 2001, "benchmarks": ["NCBI-disease"], "passages": [LONG]}
    assert main([*command[:-3], str(tmp_path), "--workers", "1"]) == 1
    assert "no benchmark in this folder" in capsys.readouterr().err
    assert main([*command[:-3], "NCBI-diseases", "--workers", "1"]) == 2
    message = capsys.readouterr().err
    assert "NCBI-diseases: no benchmark of this name (use all, a folder, or some of NCBI-disease" in message
    assert "--ner-dir" not in message
