"""What `evaluate` scores is what `predict` and run.py do with the text, in every family of tokenizers."""

import io
import json
import random
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2
from tokenizer_families import FAMILIES, build
from transformers import AutoConfig, AutoModel

from compact_biomed.benchmarks.examples import QuestionExample
from compact_biomed.benchmarks.standoff.columns import read_columns
from compact_biomed.compression.export import run_script
from compact_biomed.evaluation.analysis.thresholds import thresholds_in
from compact_biomed.evaluation.api import finetune
from compact_biomed.evaluation.features import encode_questions, pieces_of
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.files import sha256_file
from compact_biomed.inference.formats import conll_lines
from compact_biomed.inference.model import Predictor, load

NAMES = ("fever", "anemia", "ovarian cancer", "pain of the liver", "β - anemia")
# No punctuation mark inside a word, which predict would split.
OTHERS = ("the", "old", "nurse", "saw", "a", "kinase", "of", "mice", ",", "(", ")", ";", "2", "mg", "/", "naïve")


def write_set(folder: Path) -> Path:
    """Sentences of words above, names of diseases among them; some sentences end with a full stop."""
    folder.mkdir()
    chosen = random.Random(3)
    for split, n in (("train", 64), ("devel", 8), ("test", 24)):
        lines = []
        for _ in range(n):
            for _ in range(chosen.randint(1, 4)):
                lines += [f"{word}\tO" for word in chosen.choices(OTHERS, k=chosen.randint(0, 3))]
                first, *further = chosen.choice(NAMES).split()
                lines += [f"{first}\tB-Disease", *(f"{word}\tI-Disease" for word in further), "was\tO"]
            lines += [".\tO"] * chosen.randint(0, 1) + [""]
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def make_encoder(folder: Path, family: str) -> Path:
    """A RoBERTa, or for WordPiece a BERT, with random weights."""
    tokenizer = build(family)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model_type = "bert" if family == "WordPiece" else "roberta"
    special = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(1)
    config = AutoConfig.for_model(
        model_type, vocab_size=len(tokenizer), max_position_embeddings=130, hidden_dropout_prob=0.0, **sizes, **special
    )
    model = AutoModel.from_config(config)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(20)  # words that differ, so that a few steps suffice
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ner_set(tmp_path_factory) -> Path:
    return write_set(tmp_path_factory.mktemp("sets") / "diseases")


def run_py(model: Predictor, folder: Path, head: str, **more: object) -> dict:
    """The functions of an exported folder's run.py, with the logits of the model in place of onnxruntime's."""
    engine = model.engine
    engine.tokenizer.save_pretrained(folder)
    manifest = {
        **{"family": head, "labels": engine.labels, "problem_type": engine.problem_type, "inputs": ["input_ids"]},
        **{"max_length": engine.limit, "mask": "<mask>", "unknown": engine.tokenizer.unk_token_id},
        **more,
    }
    (folder / "model.onnx").write_bytes(b"")
    manifest["sha256"] = {name: sha256_file(folder / name) for name in ("model.onnx", "tokenizer.json")}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "run.py").write_text(run_script(), encoding="utf-8")
    functions = runpy.run_path(str(folder / "run.py"))
    functions["entities"].__globals__["compute"] = engine
    return functions


@pytest.mark.parametrize(
    "family", ["WordPiece", "byte-level, blanks in offsets", "byte-level, forced prefix", "unigram", "metaspace BPE"]
)
def test_predict_and_run_py_reach_the_score_that_evaluate_reports(family: str, ner_set: Path, tmp_path: Path) -> None:
    result = finetune(
        make_encoder(tmp_path / "encoder", family),
        ner_dirs=ner_set,
        records=tmp_path / "records.jsonl",
        save=tmp_path / "kept",
        learning_rate=1e-2,
        epochs=8,
    )
    assert not result.failed
    (record,), (folder,) = result.records, result.saved
    assert 50 < record["score"]  # it has learned something
    model = load(folder)
    alone = run_py(model, tmp_path, "token")
    examples = read_columns(ner_set / "test.tsv", "test", {}).examples
    gold, predicted, lines = [list(example.tags) for example in examples], [], []
    for example in examples:
        text = " ".join(example.words)
        words = list(model.words(io.StringIO(text).read))
        assert tuple(word.surface for word in words) == example.words
        predicted.append([word.tag for word in words])
        lines += conll_lines("", words)
        entities = [[e.start, e.end, e.label, e.text] for e in model.entities(text)]
        assert alone["entities"](text) == entities
        # Blanks around punctuation marks make no difference.
        dense = text.replace(" ,", ",").replace("( ", "(").replace(" )", ")").replace(" .", ".")
        assert [e.text.replace(" ", "") for e in model.entities(dense)] == [e[3].replace(" ", "") for e in entities]
        assert not any(e.text != e.text.strip(" ,.") for e in model.entities(dense))
    assert 100 * f1_score(gold, predicted, mode="strict", scheme=IOB2) == pytest.approx(record["metrics"]["f1"])
    # A document of these sentences has the same entities: each is read by itself, as in fine-tuning.
    document = "\n".join(" ".join(example.words) for example in examples)
    assert [word.tag for word in model.words(io.StringIO(document).read)] == [tag for tags in predicted for tag in tags]
    assert alone["entities"](document) == [[e.start, e.end, e.label, e.text] for e in model.entities(document)]
    # What predict writes as CoNLL, the reader of entity sets takes.
    (tmp_path / "predicted.tsv").write_text("\n".join(lines), encoding="utf-8")
    again = read_columns(tmp_path / "predicted.tsv", "test", {}).examples
    assert [example.words for example in again] == [example.words for example in examples]
    assert [list(example.tags) for example in again] == _without_strays(predicted)
    model.close()


def _without_strays(sentences: list[list[str]]) -> list[list[str]]:
    """An I that continues nothing is no entity, so predict writes it as O."""
    result = []
    for tags in sentences:
        kept: list[str] = []
        for tag in tags:
            kept.append("O" if tag[0] == "I" and (not kept or kept[-1][1:] != tag[1:]) else tag)
        result.append(kept)
    return result


class Engine:
    """A model of spans, or of tags, that computes what it is told."""

    limit, thresholds, pairs = 130, None, None

    def __init__(self, family: str, labels: list[str], tokenizer, logits, problem_type: str | None = None):
        self.problem_type = problem_type
        self.family, self.labels, self.tokenizer, self._logits = family, labels, tokenizer, logits

    def __call__(self, ids, types=None) -> np.ndarray:
        return self._logits(list(ids))


CONTEXT = "the old nurse saw a mild fever , ovarian cancer and  anemia  of the lung ."


@pytest.mark.parametrize("family", list(FAMILIES))
def test_answers_have_no_blank_at_their_ends(family: str, tmp_path: Path) -> None:
    tokenizer = build(family)
    (window,) = pieces_of(tokenizer).of_question("what ?", CONTEXT, 130)
    inside = [i for i, sequence in enumerate(window.sequence_ids) if sequence == 1]
    assert all(window.offsets[i][1] <= len(CONTEXT) for i in inside)
    for text in ("the old nurse", "fever", "ovarian cancer", "anemia", "."):
        begin, end = CONTEXT.index(text), CONTEXT.index(text) + len(text)
        example = QuestionExample("q", "q", "what ?", CONTEXT, ((text, begin),))
        (feature,) = encode_questions([example], tokenizer, max_length=130)
        logits = np.zeros((len(feature["input_ids"]), 2), np.float32)
        logits[feature["start"], 0] = logits[feature["end"], 1] = 9  # where the training has the answer
        assert KINDS["qa"].decode([example], [feature], [logits], labels=["start", "end"])[0].ranked[0][0] == text
        model = Predictor(Engine("span", ["start", "end"], tokenizer, lambda ids, told=logits: told), name="oracle")
        found = model.answers("what ?", CONTEXT)
        assert found[0][:2] == (begin, end) and found[0].text == text
        assert all(answer.text == answer.text.strip() != "" for answer in found)
        assert run_py(model, tmp_path, "span")["answer"]("what ?", CONTEXT) == [[begin, end, text]]
        model.close()


def test_an_answer_of_white_space_alone_is_none(tmp_path: Path) -> None:
    tokenizer = build("byte-level, blanks in offsets")
    context = "fever   \n   anemia"
    (window,) = pieces_of(tokenizer).of_question("what ?", context, 130)
    blank = [i for i, (s, e) in enumerate(window.offsets) if window.sequence_ids[i] == 1 and context[s:e].isspace()]
    logits = np.zeros((len(window), 2), np.float32)
    logits[blank] = 9
    logits[blank[-1] + 1, 1] = 5  # begins at the blank before "anemia", which ends with some piece of it
    model = Predictor(Engine("span", ["start", "end"], tokenizer, lambda ids: logits), name="oracle")
    assert len(blank) > 1
    found = model.answers("what ?", context)
    assert all(context[a.start : a.end] == a.text == a.text.strip() != "" for a in found)
    assert found[0].start == context.index("anemia")
    assert run_py(model, tmp_path, "span")["answer"]("what ?", context) == [[*found[0][:2], found[0].text]]
    model.close()


def test_labels_without_a_begin_are_read_as_iob1(tmp_path: Path) -> None:
    tokenizer, labels = build("byte-level"), ["O", "I-Disease", "I-Gene"]
    kinds = {"fever": 1, "anemia": 1, "kinase": 2}
    by_piece = {pieces_of(tokenizer).of_words([word])[0][0]: label for word, label in kinds.items()}
    told = Engine("token", labels, tokenizer, lambda ids: np.eye(3)[[by_piece.get(i, 0) for i in ids]])
    model = Predictor(told, name="oracle")
    text = "anemia fever, kinase fever"
    found = [(e.label, e.text) for e in model.entities(text)]
    assert found == [("Disease", "anemia fever"), ("Gene", "kinase"), ("Disease", "fever")]
    assert [tuple(row[2:]) for row in run_py(model, tmp_path, "token")["entities"](text)] == found
    assert [w.tag for w in model.words(io.StringIO(text).read)][:2] == ["B-Disease", "I-Disease"]
    model.close()


def test_no_word_is_white_space(tmp_path: Path) -> None:
    tokenizer = build("byte-level, blanks in offsets")
    tag_all = Engine("token", ["B-Disease", "O"], tokenizer, lambda ids: np.eye(2)[[0] * len(ids)])
    model = Predictor(tag_all, name="oracle")
    text = "mild   fever \n\n\u00a0 , \u2003of  "
    found = model.entities(text)
    assert [e.text for e in found] == ["mild", "fever", ",", "of"]
    assert [row[:2] for row in run_py(model, tmp_path, "token")["entities"](text)] == [[e.start, e.end] for e in found]
    assert all(line.split("\t")[0].strip() for line in conll_lines("", model.words(io.StringIO(text).read)) if line)
    model.close()


def test_tags_without_a_type_have_the_same_label_in_predict_and_run_py(tmp_path: Path) -> None:
    tokenizer = build("byte-level")
    fever = pieces_of(tokenizer).of_words(["fever"])[0][0]
    model = Predictor(
        Engine("token", ["O", "B", "I"], tokenizer, lambda ids: np.eye(3)[[int(i == fever) for i in ids]]),
        name="oracle",
    )
    found = [[e.start, e.end, e.label, e.text] for e in model.entities("mild fever, pain")]
    assert found == [[5, 10, "Entity", "fever"]]
    assert run_py(model, tmp_path, "token")["entities"]("mild fever, pain") == found


def test_thresholds_leave_the_same_in_predict_and_run_py(tmp_path: Path, capsys) -> None:
    tokenizer, chance = build("WordPiece"), np.random.default_rng(2)
    of_piece = chance.normal(size=(len(tokenizer), 5)) * 1.5
    labels = ["B-Disease", "B-Gene", "I-Disease", "I-Gene", "O"]
    text = " ".join(np.random.default_rng(3).choice([*OTHERS, *NAMES, "."], 60))
    cases = (
        ("token", None, labels, {"Disease": 0.62}, None),
        ("sequence", None, labels, {"O": 0.86}, None),
        ("sequence", None, labels, {"B-Gene": 0.1}, "O"),
        ("sequence", "multi_label_classification", labels, {"B-Gene": 0.3, "O": 0.7}, None),
    )
    for number, (family, problem, names, values, otherwise) in enumerate(cases):
        fields = {"values": values, "default": 0.45, "otherwise": otherwise}
        rows = of_piece if family == "token" else of_piece.mean(0) + of_piece[:1]
        logits = (lambda ids, rows=rows: rows[ids]) if family == "token" else (lambda ids, rows=rows: rows[0])
        engine = Engine(family, names, tokenizer, logits, problem)
        engine.thresholds = thresholds_in({"thresholds": fields})
        (tmp_path / str(number)).mkdir()
        alone = run_py(Predictor(engine, name="m"), tmp_path / str(number), family, thresholds=fields)
        found = {}
        for threshold in (None, "dev", 0.0, 0.5, 0.8, 1.0):
            with Predictor(engine, name="m", threshold=threshold) as model:
                if family == "token":
                    expected = [[str(e.start), str(e.end), e.label, e.text] for e in model.entities(text)]
                else:
                    expected = [[each.label, f"{each.score:.4f}"] for each in model.classify(text)]
            alone["main"]([text] if threshold is None else ["--threshold", str(threshold), text])
            found[threshold] = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
            assert found[threshold] == expected, (family, threshold)
        assert len({json.dumps(each) for each in found.values()}) > 2, found
        for wrong in ("--threshold=2", "--threshold=x", "--threshold"):
            with pytest.raises(SystemExit, match=r"error: --threshold: .* is no threshold"):
                alone["main"]([text, wrong])
    without = run_py(Predictor(engine, name="m"), tmp_path, "sequence", pairs=True)
    for arguments, message in (
        (["a", "--threshold", "dev"], "no thresholds chosen on dev"),
        (["a"], "takes two texts"),
    ):
        with pytest.raises(SystemExit, match=message):
            without["main"](arguments)
    span = run_py(Predictor(Engine("span", ["start", "end"], tokenizer, None), name="m"), tmp_path, "span")
    with pytest.raises(SystemExit, match="neither types nor classes"):
        span["main"](["--threshold", "0.5", "a", "b"])
