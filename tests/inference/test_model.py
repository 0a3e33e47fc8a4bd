"""`load`: entities of long documents, classes, answers; whatever else is asked."""
# ruff: noqa: RUF001

import io
import json
import time
import tracemalloc

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import LABELS, build_tokenizer, make_checkpoint

import compact_biomed
from compact_biomed import cli
from compact_biomed.compression.manifest import FORMAT
from compact_biomed.errors import UserError
from compact_biomed.inference.documents import of_text
from compact_biomed.inference.formats import output_lines
from compact_biomed.inference.model import Predictor, load

TEXT = "the kinase of Müller–frogs (TNF-α) and fevers\nin the µg of é frogs. "


@pytest.fixture(scope="module")
def ner(tmp_path_factory):
    return load(make_checkpoint(tmp_path_factory.mktemp("ner"), "token"), precision="fp32", window=32)


def test_three_lines(tmp_path) -> None:
    model = compact_biomed.load(make_checkpoint(tmp_path, "token"))
    found = model.entities(TEXT * 5)
    assert found and all(TEXT[e.start : e.end] == e.text for e in model.entities(TEXT))
    assert {e.label for e in found} <= {"Disease", "Gene"} and all(0 < e.score <= 1 for e in found)
    model.close()


def test_a_short_text_is_what_transformers_computes(ner, tmp_path) -> None:
    from transformers import AutoModelForTokenClassification

    folder = make_checkpoint(tmp_path, "token")
    text = "the kinase of frogs"
    encoded = build_tokenizer()(text, return_tensors="pt")
    with torch.no_grad():
        logits = AutoModelForTokenClassification.from_pretrained(folder)(**encoded).logits[0]
    first_pieces = [i for i, word in enumerate(encoded.word_ids()) if word != encoded.word_ids()[i - 1] and i]
    rows = logits[[i for i in first_pieces if encoded.word_ids()[i] is not None]]
    found = list(ner.words(io.StringIO(text).read))
    assert [w.tag for w in found] == [LABELS["token"][i] for i in rows.argmax(-1)]
    np.testing.assert_allclose([w.score for w in found], rows.softmax(-1).max(-1).values, atol=1e-6)


def test_marks_of_the_tokenizer_in_a_text_are_ordinary_words(ner) -> None:
    text = "the [SEP] of frogs"
    found = list(ner.words(io.StringIO(text).read))
    assert [(w.start, w.surface) for w in found][:4] == [(0, "the"), (4, "["), (5, "SEP"), (8, "]")]


def test_each_word_has_the_answer_of_the_window_in_which_it_is_deepest(ner) -> None:
    text = TEXT * 6
    in_windows = Predictor(ner.engine, name="ner", window=32, context="window")
    found = list(in_windows.words(io.StringIO(text, newline="").read))
    in_windows.close()
    assert "".join(w.lead + w.surface for w in found) == text.rstrip()
    tokenizer = build_tokenizer()
    pieces = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, room = pieces["input_ids"], 30
    step = room - room // 4
    answers = {}
    for start in range(0, len(ids), step):
        window = ids[start : start + room]
        logits = ner.engine([2, *window, 3])[1:-1]
        for i in range(len(window)):
            left = i if start else len(ids)
            right = len(window) - 1 - i if start + len(window) < len(ids) else len(ids)
            depth, position = min(left, right), start + i
            if position not in answers or depth >= answers[position][0]:
                answers[position] = (depth, LABELS["token"][int(logits[i].argmax())])
    starts = {offset[0]: position for position, offset in reversed(list(enumerate(pieces["offset_mapping"])))}
    assert [w.tag for w in found] == [answers[starts[w.start]][1] for w in found]


def test_what_is_asked_beside_it_changes_no_bit(ner, tmp_path) -> None:
    text = TEXT * 4
    alone = load(make_checkpoint(tmp_path, "token"), precision="fp32", window=32, threads=1)
    both = [list(model.words(io.StringIO(text, newline="").read)) for model in (alone, ner)]
    assert both[0] == both[1]
    ner.entities("frogs " * 500)
    assert list(ner.words(io.StringIO(text, newline="").read)) == both[0]


class Constant:
    """An engine that finds nothing."""

    family, labels, problem_type, limit = "token", LABELS["token"], None, 64

    def __init__(self):
        self.tokenizer = build_tokenizer()

    def __call__(self, ids, types=None):
        return np.eye(5, dtype=np.float32)[[4] * len(ids)]


def test_memory_does_not_grow_with_the_document(monkeypatch) -> None:
    monkeypatch.setattr("compact_biomed.inference.words.blocks.__defaults__", (1 << 12,))
    monkeypatch.setattr("compact_biomed.inference.words.tokens.__defaults__", (1 << 12,))
    model = Predictor(Constant(), name="constant", threads=1)
    peaks = []
    for size in (30_000, 150_000):
        left = [size]

        def read(n: int, left=left) -> str:
            n = min(n, left[0])
            left[0] -= n
            return ("fever of the frogs " * (n // 19 + 1))[:n]

        tracemalloc.start()
        assert sum(1 for _ in model.words(read)) > size / 6
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_closing_leaves_documents_unfinished(monkeypatch) -> None:
    def slow(self, ids, types=None):
        time.sleep(0.02)
        return np.eye(5, dtype=np.float32)[[4] * len(ids)]

    monkeypatch.setattr(Constant, "__call__", slow)
    began = time.monotonic()
    with Predictor(Constant(), name="constant", threads=2) as model:
        results = model.map(model.entities, ["frogs", *["fever of the frogs " * 3000] * 3])  # 5 s each
        assert next(results) == []
    assert time.monotonic() - began < 3


def test_a_precision_that_does_not_exist_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="no precision 'fp16'"):
        load(make_checkpoint(tmp_path / "m", "sequence"), precision="fp16")


def test_classes(tmp_path) -> None:
    model = load(make_checkpoint(tmp_path / "m", "sequence"), precision="fp32")
    found = model.classify("the fever of frogs")
    assert {each.label for each in found} == set(LABELS["sequence"])
    assert sum(each.score for each in found) == pytest.approx(1) and found[0].score >= found[-1].score
    assert model.classify("fever", "of frogs") != model.classify("fever of frogs")
    assert model.classify("the fever of frogs " * 100)  # cut, as in evaluation
    with pytest.raises(UserError, match="classify"):
        model.entities("a")
    several = load(
        make_checkpoint(tmp_path / "l", "sequence", problem_type="multi_label_classification"), precision="fp32"
    )
    found = several.classify("fever")
    assert all(0 < each.score < 1 for each in found)
    (line,) = output_lines(several, of_text("fever"))
    assert json.loads(line)["labels"] == [each.label for each in found if each.score > 0.5]
    number = load(
        make_checkpoint(tmp_path / "r", "sequence", labels=["score"], problem_type="regression"), precision="fp32"
    )
    assert [each.label for each in number.classify("fever", "frogs")] == ["score"]


def test_answers_from_a_long_context(tmp_path) -> None:
    model = load(make_checkpoint(tmp_path, "span"), precision="fp32")
    context = TEXT * 6
    found = model.answers("what of the frogs?", context)
    assert len(found) == 5 and all(context[a.start : a.end] == a.text for a in found)
    assert [a.score for a in found] == sorted((a.score for a in found), reverse=True)
    assert model.answers("what?", "") == []


@pytest.mark.parametrize(("head", "texts"), [("token", [TEXT]), ("sequence", [TEXT]), ("span", ["what?", TEXT])])
def test_logits_that_overflow_give_no_label(tmp_path, capsys, head: str, texts: list[str]) -> None:
    """Finite weights whose sums are not; the first label had a score of NaN, which is not JSON."""
    folder = make_checkpoint(tmp_path / "model", head)
    weights = load_file(folder / "model.safetensors")
    for name in ("classifier.weight", "qa_outputs.weight"):
        if name in weights:
            weights[name] = torch.full_like(weights[name], 3e38)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    model = load(folder, precision="fp32")
    with pytest.raises(UserError, match="logits are not finite"):
        getattr(model, model.method)(*texts)
    model.close()
    (tmp_path / "text.txt").write_text(TEXT)
    if head == "token":
        assert cli.main(["predict", "--model", str(folder), str(tmp_path / "text.txt")]) == 1
        output = capsys.readouterr()
        assert not output.out and output.err.strip().splitlines()[-1].startswith(f"error: {folder}: ")


def test_models_that_cannot_predict(tmp_path) -> None:
    with pytest.raises(UserError, match=r"no task to predict.*`model\.embed`"):
        load(make_checkpoint(tmp_path / "mlm", "mlm")).entities("frogs")
    with pytest.raises(UserError, match="no IOB2 tags"):
        load(make_checkpoint(tmp_path / "odd", "token", labels=["yes", "no"]))
    with pytest.raises(UserError, match="too few"):
        load(make_checkpoint(tmp_path / "ner", "token"), window=6)
    with pytest.raises(UserError, match=r"--window 65, but this model reads at most 64 tokens \(--window 64"):
        load(tmp_path / "ner", window=65)
    with pytest.raises(UserError):
        load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"family": "token", "labels": ["O"]}, "no inputs"),
        (
            {"family": "else", "labels": [], "problem_type": None, "inputs": [], "max_length": 8, "precision": "fp32"},
            "unknown family 'else'",
        ),
    ],
)
def test_a_manifest_that_was_changed_is_one_line(tmp_path, about: dict, message: str) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"format": FORMAT, "sha256": {}, **about}))
    with pytest.raises(UserError, match=message):
        load(tmp_path)


def test_fewer_than_no_threads(tmp_path) -> None:
    with pytest.raises(UserError, match="--threads"):
        load(make_checkpoint(tmp_path, "token"), precision="fp32", threads=-1)
