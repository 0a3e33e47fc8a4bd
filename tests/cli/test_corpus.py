"""`compact-biomed corpus build`: flags, summary, exit status."""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from corpus_inputs import citation, made_up, medline

from compact_biomed.cli import corpus as command
from compact_biomed.corpus.document import read_jsonl
from compact_biomed.errors import UserError

Write = Callable[..., Path]


def call(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    options, rest = parser.parse_known_args(["corpus", "build", *map(str, arguments)])
    return options.run(options, rest)


@pytest.fixture
def source(write: Write, cache: Path) -> Path:
    return write("pubmed25n0001.xml", medline(*(citation(n, "T", made_up(n)) for n in range(1, 200))))


def test_without_tokenizer_the_documents_are_exported(source: Path, tmp_path: Path, capsys) -> None:
    assert call(source, "--out", tmp_path / "a", "--workers", 1) == 0
    message = capsys.readouterr().err
    assert re.search(r"read: +199 citations", message)
    assert "citations/s" in message
    assert "next:" in message
    documents = list(read_jsonl(tmp_path / "a" / "documents.jsonl.gz"))
    assert len(documents) == 199
    assert call(source, "--out", tmp_path / "b", "--workers", 1) == 0
    assert "already built" in capsys.readouterr().err
    assert (tmp_path / "a" / "documents.jsonl.gz").read_bytes() == (tmp_path / "b" / "documents.jsonl.gz").read_bytes()


def test_without_tokenizer_citations_without_abstract_are_left_out(write: Write, cache: Path, tmp_path, capsys) -> None:
    source = write("a.xml", medline(*(citation(n, "T", made_up(n) if n % 3 else "") for n in range(1, 31))))
    assert call(source, "--out", tmp_path / "a", "--workers", 1) == 0
    assert re.search(r"no abstract: +10 of these are left out", capsys.readouterr().err)
    pmids = [document.pmid for document in read_jsonl(tmp_path / "a" / "documents.jsonl.gz")]
    assert pmids == [n for n in range(1, 31) if n % 3]
    assert call(source, "--out", tmp_path / "b", "--workers", 1, "--keep-title-only") == 0
    assert "no abstract" not in capsys.readouterr().err
    assert len(list(read_jsonl(tmp_path / "b" / "documents.jsonl.gz"))) == 30
    titles = write("b.xml", medline(citation(1), citation(2)))
    with pytest.raises(UserError, match="none of 2 documents has an abstract"):
        call(titles, "--out", tmp_path / "c", "--workers", 1)
    assert not list((tmp_path / "c").glob("*"))


def test_with_tokenizer_the_set_is_summarized(source: Path, tmp_path: Path, capsys, monkeypatch, tokenizer) -> None:
    import sys
    import types

    start = types.SimpleNamespace(load_tokenizer=lambda name: tokenizer)
    monkeypatch.setitem(sys.modules, "compact_biomed.models", types.ModuleType("compact_biomed.models"))
    monkeypatch.setitem(sys.modules, "compact_biomed.models.checkpoints", start)
    assert call(source, "--tokenizer", "t", "--out", tmp_path / "set", "--workers", 1, "--max-length", 40) == 0
    message = capsys.readouterr().err
    assert "train: " in message
    assert "heldout: " in message
    assert "cut at 40" in message
    assert str(tmp_path / "set") in message
    assert json.loads((tmp_path / "set" / "corpus.json").read_text())["settings"]["max_length"] == 40


def test_dry_run_builds_nothing(source: Path, cache: Path, capsys) -> None:
    assert call(source, "--dry-run") == 0
    assert "to read" in capsys.readouterr().err
    assert not (cache / "corpus" / "documents").exists()


def test_an_unknown_flag_suggests_the_nearest(source: Path) -> None:
    with pytest.raises(UserError, match=r"--tokeniser.*did you mean --tokenizer\?"):
        call(source, "--tokeniser", "x")
