"""`export --trim-vocabulary`: a smaller vocabulary, the same answers wherever no cut piece occurs."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from corpus_inputs import citation, medline
from tiny_checkpoints import AUTO_CLASSES, SPECIALS, build_tokenizer, make_checkpoint
from tokenizer_families import FAMILIES, build
from transformers import BertTokenizerFast

from compact_biomed import cli
from compact_biomed.compression import to_onnx
from compact_biomed.compression.vocabulary import read_texts, trim
from compact_biomed.errors import UserError
from compact_biomed.inference.engines import open_engine
from compact_biomed.models.checkpoints import Checkpoint, input_names, load_with_head, logits_module

KEPT = "the old kinase of a mouse"  # needs neither "fever" nor "frogs"
CUT = "fever and frogs"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text(f"{KEPT}\n\n{KEPT}s\n")
    return path


def logits_of(checkpoint: Checkpoint, text: str) -> torch.Tensor:
    encoded = checkpoint.tokenizer(text, return_tensors="pt", return_token_type_ids=True)
    inputs = [encoded[name] for name in input_names(checkpoint.model)]
    with torch.inference_mode():
        return logits_module(checkpoint.model, checkpoint.family)(*inputs)


@pytest.mark.parametrize(
    ("head", "model_type"),
    [*((head, "bert") for head in AUTO_CLASSES), ("token", "distilbert"), ("mlm", "mobilebert")],
)
def test_the_same_bits_where_no_cut_piece_occurs(tmp_path, texts: Path, head: str, model_type: str) -> None:
    whole = load_with_head(str(make_checkpoint(tmp_path / "m", head, model_type, num_hidden_layers=1)))
    smaller, trimmed = trim(whole, texts)
    assert len(smaller.tokenizer) == smaller.model.config.vocab_size == len(trimmed.kept) < len(whole.tokenizer)
    expected, found = logits_of(whole, KEPT), logits_of(smaller, KEPT)
    if head == "mlm":
        torch.testing.assert_close(found, expected[..., trimmed.kept], atol=1e-5, rtol=1e-5)
        assert smaller.model.get_input_embeddings().weight is smaller.model.get_output_embeddings().weight
    else:
        assert torch.equal(found, expected)
    assert whole.tokenizer.tokenize(CUT)[:2] == ["fever", "and"]
    assert smaller.tokenizer.tokenize(CUT)[:6] == ["f", "##e", "##v", "##e", "##r", "and"]
    for name in ("pad", "unk", "cls", "sep", "mask"):
        assert getattr(smaller.tokenizer, f"{name}_token") == getattr(whole.tokenizer, f"{name}_token")
    assert smaller.model.config.pad_token_id == smaller.tokenizer.pad_token_id
    pair = (whole.tokenizer("the mouse", "of"), smaller.tokenizer("the mouse", "of"))
    assert trimmed.kept[pair[1]["input_ids"]].tolist() == pair[0]["input_ids"]


def greedy(word: str, vocabulary: set[str]) -> list[str]:
    """WordPiece by its definition."""
    pieces, start = [], 0
    while start < len(word):
        mark = "##" if start else ""
        end = next((e for e in range(len(word), start, -1) if mark + word[start:e] in vocabulary), None)
        if end is None:
            return ["[UNK]"]
        pieces.append(mark + word[start:end])
        start = end
    return pieces


def test_a_word_is_divided_as_before_or_further_and_never_lost(tmp_path) -> None:
    """8 random vocabularies of four letters; "d" lacks an entry within words, and its pieces are kept for that."""
    chance = random.Random(3)
    checkpoint = load_with_head(str(make_checkpoint(tmp_path / "m", "token", num_hidden_layers=1)))
    for _ in range(8):
        made = ["".join(chance.choices("abc", k=chance.randint(2, 4))) for _ in range(30)]
        pieces = [*"abcd", "##a", "##b", "##c", "ad", *(mark + piece for piece in made for mark in ("", "##"))]
        vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys([*SPECIALS, *pieces]))}
        tokenizer = BertTokenizerFast(vocab=vocabulary, do_lower_case=False)
        words = ["".join(chance.choices("abc", k=chance.randint(1, 9))) for _ in range(200)]
        path = tmp_path / "words.txt"
        path.write_text(" ".join(words[:10]))
        config = checkpoint.model.config.__class__.from_dict({**checkpoint.model.config.to_dict()})
        config.vocab_size, config.hidden_size, config.num_attention_heads = len(vocabulary), 4, 1
        model = transformers.BertForTokenClassification(config).eval()
        smaller, trimmed = trim(checkpoint._replace(model=model, tokenizer=tokenizer), path)
        kept = {piece for piece, number in vocabulary.items() if number in set(trimmed.kept.tolist())}
        assert {"ad", *"abcd", "##a", "##b", "##c"} <= kept
        for word in [*words, "ad"]:
            before, after = tokenizer.tokenize(word), smaller.tokenizer.tokenize(word)
            assert before == greedy(word, set(vocabulary)) and after == greedy(word, kept)
            assert "[UNK]" not in after and (after == before or not kept.issuperset(before))
        assert all(smaller.tokenizer.tokenize(word) == tokenizer.tokenize(word) for word in words[:10])


def test_what_was_kept_and_how_much_it_covers(tmp_path) -> None:
    checkpoint = load_with_head(str(make_checkpoint(tmp_path / "m", "token", num_hidden_layers=1)))
    path = tmp_path / "words.txt"
    path.write_text("fever\n" * 64 + "frogs\n" * 576)  # the first batch of ten has what the others lack
    smaller, trimmed = trim(checkpoint, path)
    assert trimmed.recorded() == {
        "kept": len(checkpoint.tokenizer),
        "of": len(checkpoint.tokenizer),
        **{"occurring": 2, "texts": 640, "tokens": 640, "coverage": 1.0, "coverage_of_new": 0.0},
    }
    smaller, trimmed = trim(checkpoint, path, size=len(checkpoint.tokenizer) - 1)
    assert trimmed.coverage == 0.9 and "frogs" in smaller.tokenizer.get_vocab()
    assert "fever" not in smaller.tokenizer.get_vocab()
    with pytest.raises(
        UserError, match=r"size of 3 is too small: \d+ special tokens .* --vocabulary-size \d+ or more|"
    ):
        trim(checkpoint, path, size=3)


def test_any_file_of_text_is_read(write) -> None:
    files = {
        "plain.txt": ("old frogs\nmild fever\n", ["old frogs", "mild fever"]),
        "packed.txt.gz": ("old frogs\n", ["old frogs"]),
        "fields.jsonl": ('{"id": 3, "sentence": "mild", "more": ["old", {"x": "frogs"}]}\n', ["frogs", "mild", "old"]),
        "one.json": ('{\n "a": "frogs"\n}\n', ['"a": "frogs"', "{", "}"]),
        "tags.tsv": ("mild\tB\nfever\tI\n", ["fever\tI", "mild\tB"]),
        "pubmed.xml.gz": (medline(citation(1, "Old frogs", "Mild fever.")), ["Old frogs Mild fever."]),
    }
    for name, (content, expected) in files.items():
        read = [text.strip() for text in read_texts(write(name, content)) if text]
        assert sorted(read) == sorted(expected), name
    assert len(list(read_texts([write("a/x.txt", "a\n").parent, write("b.txt", "b\n")]))) == 2


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "WordPiece"])
def test_other_vocabularies_are_refused_in_one_line(texts: Path, family: str) -> None:
    checkpoint = Checkpoint("mine", "token", None, build(family))
    with pytest.raises(UserError, match=r"only WordPiece vocabularies .* this one is (BPE|Unigram) "):
        trim(checkpoint, texts)


def test_texts_that_are_missing_or_empty_are_refused(tmp_path, texts: Path, capsys) -> None:
    checkpoint = str(make_checkpoint(tmp_path / "m", "token", num_hidden_layers=1))
    (tmp_path / "blank.txt").write_text("\n \n")
    common = ["export", "--model", checkpoint, "--output", str(tmp_path / "o")]
    capsys.readouterr()
    for flags, status, message in (
        (["--trim-vocabulary", str(tmp_path / "none.txt")], 1, "none.txt: no such file or folder"),
        (["--trim-vocabulary", str(tmp_path / "blank.txt")], 1, "blank.txt: no text"),
        (["--trim-vocabulary", str(texts), "--vocabulary-size", "9"], 1, "a size of 9 is too small"),
        (["--vocabulary-size", "9"], 2, "--vocabulary-size: needs texts"),
    ):
        assert cli.main([*common, *flags]) == status
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
        assert not (tmp_path / "o").exists()


def test_the_int8_export_gives_the_same_bits_and_says_its_size(tmp_path, texts: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(to_onnx, "EXPORTERS", {"TorchScript": False})  # the faster one
    checkpoint = str(make_checkpoint(tmp_path / "m", "token", num_hidden_layers=1))
    whole, smaller = tmp_path / "whole", tmp_path / "smaller"
    common = ["export", "--model", checkpoint, "--int8"]
    assert cli.main([*common, "--output", str(whole)]) == 0
    assert cli.main([*common, "--output", str(smaller), "--trim-vocabulary", str(texts)]) == 0
    printed = " ".join(capsys.readouterr())
    engines = [open_engine(whole), open_engine(smaller)]
    ids = [engine.tokenizer(KEPT)["input_ids"] for engine in engines]
    assert ids[0] != ids[1]
    np.testing.assert_array_equal(engines[0](ids[0]), engines[1](ids[1]))
    manifest = json.loads((smaller / "manifest.json").read_text())
    kept = manifest["vocabulary"]["kept"]
    assert f"{kept} of {len(build_tokenizer())} entries kept" in printed
    assert f"cut to {kept} of" in (smaller / "README.md").read_text()
    rows = len(build_tokenizer()) - kept
    saved = (whole / "model.onnx").stat().st_size - (smaller / "model.onnx").stat().st_size
    assert abs(saved - rows * (16 + 4)) < 10  # a row: 16 integers and their scale
    assert re.search(r"smaller: [\d.]+ KiB \(with the whole vocabulary [\d.]+ KiB\)", printed)
