"""The tokenized set: right, the same however it was made, and never half-made."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from corpus_inputs import citation, deletion, made_up, medline

from compact_biomed.corpus.build import build_documents, prepare
from compact_biomed.corpus.document import is_heldout
from compact_biomed.errors import UserError

Write = Callable[..., Path]


@pytest.fixture
def sources(write: Write, cache: Path) -> list[Path]:
    """Three files, 300 citations, some without abstract, one replaced and one deleted."""
    first = [citation(n, f"[{made_up(n, 4)}]", made_up(n, 5 + n % 90) if n % 10 else None) for n in range(1, 201)]
    last = [citation(n, made_up(n, 4), made_up(-n, 20)) for n in range(150, 251)]
    return [
        write("pubmed25n0001.xml.gz", medline(*first)),
        write("pubmed25n0002.xml.gz", medline(*last, deletion((1, 1)))),
        write("more.jsonl", "".join(json.dumps({"text": made_up(n)}) + "\n" for n in range(1000, 1050))),
    ]


def arrow_hashes(folder: Path) -> dict[str, str]:
    paths = [*folder.rglob("*.arrow"), *folder.rglob("*.npy")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}


def test_ids_are_those_of_the_tokenizer_itself(sources: list[Path], tokenizer) -> None:
    corpus = prepare(sources, tokenizer, max_length=64, heldout_fraction=0.1, workers=1)
    documents = {d.key: d for d in build_documents(sources, workers=1).documents() if d.abstract}
    seen = 0
    for heldout, split in ((False, corpus.train), (True, corpus.heldout)):
        for row in split:
            document = documents.pop(row["key"])
            expected = tokenizer(document.text, truncation=True, max_length=64)["input_ids"]
            assert row["input_ids"] == expected
            assert row["length"] == len(expected)
            assert row["pmid"] == document.pmid
            assert is_heldout(row["key"], 0.1) == heldout
            seen += 1
    assert not documents  # every document is on one side
    assert seen == len(corpus.train) + len(corpus.heldout)


def test_order_is_that_of_the_corpus(sources: list[Path], tokenizer) -> None:
    corpus = prepare(sources, tokenizer, workers=1)
    kept = [d for d in build_documents(sources, workers=1).documents() if d.abstract]
    assert corpus.train["key"][:] == [d.key for d in kept if not is_heldout(d.key, 0.02)]


def test_record_unigram_and_types(sources: list[Path], tokenizer) -> None:
    corpus = prepare(sources, tokenizer, max_length=64, workers=1)
    record = corpus.record
    assert record["documents"]["kept"] == 299 - 50 + 50  # 250 PMIDs less the deleted one, and 50 texts
    assert record["documents"]["replaced"] == 51
    assert record["documents"]["deleted"] == 1
    assert record["documents"]["without_abstract"] == 14
    ids = np.concatenate(corpus.train.with_format("numpy")["input_ids"][:])
    assert corpus.train.features["input_ids"].feature.dtype == "uint16"
    assert corpus.train.data.schema.field("input_ids").type.value_type == "uint16"
    assert record["train"]["tokens"] == len(ids) == sum(corpus.train["length"])
    counted = np.bincount(ids, minlength=len(tokenizer))
    counted[tokenizer.all_special_ids] = 0
    assert np.array_equal(corpus.unigram, counted)
    full = [len(tokenizer(d.text)["input_ids"]) for d in build_documents(sources, workers=1).documents() if d.abstract]
    assert record["train"]["truncated"] + record["heldout"]["truncated"] == sum(length > 64 for length in full)
    assert [source["sha256"] for source in record["sources"]] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in sources
    ]


def test_set_is_mapped_not_read(sources: list[Path], tokenizer) -> None:
    import pyarrow as pa

    corpus = prepare(sources, tokenizer, workers=1)
    before = pa.total_allocated_bytes()
    assert corpus.train.cache_files
    assert pa.total_allocated_bytes() - before < 10_000


def test_title_only_documents_on_demand(sources: list[Path], tokenizer) -> None:
    kept = prepare(sources, tokenizer, require_abstract=False, workers=1)
    dropped = prepare(sources, tokenizer, workers=1)
    assert kept.record["documents"]["without_abstract"] == 0
    assert len(kept.train) + len(kept.heldout) == len(dropped.train) + len(dropped.heldout) + 14


def test_truncation_and_padding_of_the_given_tokenizer_do_not_matter(sources: list[Path], tokenizer) -> None:
    import copy

    other = copy.deepcopy(tokenizer)
    other.backend_tokenizer.enable_truncation(16)
    other.backend_tokenizer.enable_padding(length=16)
    assert prepare(sources, other, workers=1).folder == prepare(sources, tokenizer, workers=1).folder
    assert other.backend_tokenizer.truncation["max_length"] == 16  # the caller's object is as it was


def test_written_out_special_tokens_are_text(write: Write, cache: Path, tokenizer) -> None:
    path = write("a.txt", f"{made_up(1)} [MASK] [SEP] {made_up(2)}\n")
    row = prepare(path, tokenizer, heldout_fraction=0, workers=1).train[0]["input_ids"]
    assert tokenizer.mask_token_id not in row
    assert row.count(tokenizer.sep_token_id) == 1


def test_any_number_of_workers_gives_the_same_bytes(sources: list[Path], cache: Path, tokenizer) -> None:
    alone = arrow_hashes(prepare(sources, tokenizer, workers=1).folder)
    shutil.rmtree(cache)
    assert arrow_hashes(prepare(sources, tokenizer, workers=2).folder) == alone
    assert len(alone) >= 5


def test_second_call_reads_no_source(sources: list[Path], tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    time.sleep(0.15)  # a file younger than a tenth of a second is hashed again
    first = prepare(sources, tokenizer, workers=1)
    monkeypatch.setattr("compact_biomed.corpus.shards.sha256_file", lambda path: pytest.fail(f"read {path}"))
    second = prepare(sources, tokenizer, workers=1)
    assert second.folder == first.folder
    assert second.parsed == 0
    assert second.record == first.record


def test_what_decides_the_tokens_decides_the_folder(sources: list[Path], tokenizer) -> None:
    folders = {
        prepare(sources, tokenizer, workers=1).folder,
        prepare(sources, tokenizer, workers=1, max_length=32).folder,
        prepare(sources, tokenizer, workers=1, heldout_fraction=0.1).folder,
        prepare(sources[:2], tokenizer, workers=1).folder,
    }
    assert len(folders) == 4


def test_an_update_tokenizes_only_what_it_touches(
    sources: list[Path], write: Write, tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compact_biomed.corpus import tokenize

    prepare(sources, tokenizer, workers=1)
    done = []
    original = tokenize.tokenize_stretch
    monkeypatch.setattr(tokenize, "tokenize_stretch", lambda task: (done.append(task), original(task))[1])
    update = write("pubmed25n0003.xml", medline(citation(3, "New.", made_up(5))))
    corpus = prepare([*sources, update], tokenizer, workers=1)
    assert len(done) == 2  # the file that loses citation 3, and the update
    assert 3 in corpus.train["pmid"]


def test_a_damaged_set_is_made_again(sources: list[Path], tokenizer) -> None:
    corpus = prepare(sources, tokenizer, workers=1)
    whole = arrow_hashes(corpus.folder)
    victim = next(corpus.folder.glob("train/*.arrow"))
    victim.unlink()
    assert arrow_hashes(prepare(sources, tokenizer, workers=1).folder) == whole


def test_out_folder(sources: list[Path], tokenizer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    corpus = prepare(sources, tokenizer, workers=1, out=out)
    assert corpus.folder == out
    assert sorted(item.name for item in out.iterdir()) == ["corpus.json", "heldout", "train", "unigram.npy"]
    prepare(sources, tokenizer, workers=1, out=out, max_length=32)  # one set may replace another
    (out / "notes.md").write_text("mine")
    with pytest.raises(UserError, match="holds something else"):
        prepare(sources, tokenizer, workers=1, out=out)
    assert (out / "notes.md").read_text() == "mine"
    with pytest.raises(UserError, match="is where a folder"):
        prepare(sources, tokenizer, workers=1, out=out / "notes.md")


@pytest.mark.parametrize("workers", [1, 2])
def test_one_broken_file_is_named_or_skipped(sources: list[Path], write: Write, tokenizer, workers: int) -> None:
    broken = write("pubmed25n0004.xml.gz", b"")
    broken.write_bytes(sources[0].read_bytes()[:-9])
    with pytest.raises(UserError, match=r"pubmed25n0004\.xml\.gz, byte \d+: the gzip file is cut off"):
        prepare([*sources, broken], tokenizer, workers=workers)
    corpus = prepare([*sources, broken], tokenizer, workers=workers, skip_broken=True)
    skipped = {Path(s["name"]).name: s["skipped"] for s in corpus.record["sources"] if "skipped" in s}
    assert list(skipped) == ["pubmed25n0004.xml.gz"]
    assert "cut off" in skipped["pubmed25n0004.xml.gz"]
    assert len(corpus.train) == len(prepare(sources, tokenizer, workers=1).train)


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("\n\n", {}, "no document in 1 files"),
        (medline(), {}, "no document"),
        (medline(citation(1), citation(2)), {}, "none of 2 documents has an abstract.*--keep-title-only"),
        (medline(citation(1, "", None)), {"require_abstract": False}, "no document has any text"),
        ("one\n", {}, "no held-out document among 1"),
        ("one\n", {"heldout_fraction": 0.9999999}, "no train document among 1"),
        ("one\n", {"heldout_fraction": 1.5}, "--heldout"),
        ("one\n", {"max_length": 2}, "--max-length"),
        ("one\n", {"workers": 0}, "--workers"),
    ],
)
def test_a_corpus_of_nothing_is_an_error(
    write: Write, cache: Path, tokenizer, content: bytes | str, options: dict, said: str
) -> None:
    path = write("a.xml" if isinstance(content, bytes) else "a.txt", content)
    with pytest.raises(UserError, match=said):
        prepare(path, tokenizer, **{"workers": 1, **options})
    assert not list(cache.glob("corpus/sets/*"))


def test_a_title_alone_is_kept_with_its_own_text(write: Write, cache: Path, tokenizer) -> None:
    path = write("a.xml", medline(citation(1, "[ba de].")))
    corpus = prepare(path, tokenizer, workers=1, require_abstract=False, heldout_fraction=0)
    assert tokenizer.decode(corpus.train[0]["input_ids"], skip_special_tokens=True) == "ba de."
    with pytest.raises(UserError, match="no held-out"):
        corpus.heldout  # noqa: B018


@pytest.mark.parametrize(("change", "said"), [("few", "vocabulary of 9 entries"), ("mask", "no mask_token")])
def test_an_unfit_tokenizer_is_refused(sources: list[Path], tokenizer, change: str, said: str) -> None:
    import copy

    from transformers import BertTokenizerFast

    bad = copy.deepcopy(tokenizer)
    if change == "mask":
        bad.mask_token = None
    else:
        bad = BertTokenizerFast(vocab={t: n for n, t in enumerate("[PAD] [UNK] [CLS] [SEP] [MASK] a b c d".split())})
    with pytest.raises(UserError, match=said):
        prepare(sources, bad, workers=1)
