"""One text, lists, tables and files: results have the shape of what was given, and the bits of one by one."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_checkpoints import build_tokenizer, make_checkpoint
from transformers import AutoModel

from compact_biomed import to_frame
from compact_biomed.errors import UserError
from compact_biomed.inference.model import Predictor, load
from compact_biomed.inference.ranking import Answer
from compact_biomed.inference.words import Entity

TEXTS = ["the kinase of frogs", "", "fever of the mice and of frogs, " * 30, "TNF in the kin", "fevers"]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Predictor]:
    """A model per method."""
    folder = tmp_path_factory.mktemp("models")
    heads = {"entities": "token", "classify": "sequence", "answers": "span"}
    made = {m: load(make_checkpoint(folder / h, h), precision="fp32", threads=3) for m, h in heads.items()}
    yield made
    for model in made.values():
        model.close()


@pytest.fixture(scope="module")
def ner(models) -> Predictor:
    return models["entities"]


def test_many_texts_are_answered_in_order_and_to_the_bit_as_one_by_one(models) -> None:
    ner, classes, span = models.values()
    alone = [ner.entities(text) for text in TEXTS]
    assert alone[0] and alone[1] == [] and isinstance(alone[0][0], Entity)
    for many in (TEXTS, tuple(TEXTS), iter(TEXTS), np.array(TEXTS, object), (text for text in TEXTS)):
        assert ner.entities(many) == alone
    assert ner.entities([]) == [] and ner.entities(TEXTS[:1]) == alone[:1]
    assert list(ner.map(ner.entities, [TEXTS, TEXTS])) == [alone, alone]  # a map within a map
    assert classes.classify(TEXTS) == [classes.classify(text) for text in TEXTS]
    assert classes.classify(TEXTS, TEXTS[::-1]) == [classes.classify(*two) for two in zip(TEXTS, TEXTS[::-1])]  # noqa: B905
    assert classes.classify(TEXTS, "frogs") == [classes.classify(text, "frogs") for text in TEXTS]
    expected = [span.answers("what of?", text, n=2) for text in TEXTS]
    assert span.answers("what of?", TEXTS, n=2) == expected and len(expected[0]) == 2 and expected[1] == []
    assert span.answers(["what of?", "whose?"], TEXTS[0])[1] == span.answers("whose?", TEXTS[0])


def test_tables_keep_their_index_and_their_other_columns(models) -> None:
    ner, classes, span = models.values()
    index = [f"row {i}" for i in range(len(TEXTS))]
    frame = pd.DataFrame({"text": TEXTS, "year": range(2001, 2006), "label": "gold"}, index=index)
    series = ner.entities(frame["text"])
    assert list(series.index) == index and list(series) == ner.entities(TEXTS)
    table = ner.entities(frame)
    assert list(table.columns) == ["year", "label", "start", "end", "predicted_label", "score", "text"]
    rows = [
        (name, year, *entity) for name, year, found in zip(index, frame.year, series, strict=True) for entity in found
    ]
    assert list(table.drop(columns="label").itertuples(name=None)) == rows
    assert list(ner.entities(frame.iloc[[1]]).columns) == list(table.columns)  # a text without entities
    best = [found[0] for found in classes.classify(TEXTS)]
    labeled = classes.classify(frame)
    assert list(zip(labeled.predicted_label, labeled.score, strict=True)) == best and list(labeled.text) == TEXTS
    pairs = pd.DataFrame({"text_a": TEXTS, "text_b": TEXTS[::-1]})
    assert list(classes.classify(pairs).score) == [found[0].score for found in classes.classify(TEXTS, TEXTS[::-1])]
    answered = span.answers(frame.assign(question="what of?"))
    first = span.answers("what of?", TEXTS[0])[0]
    assert Answer(*answered.loc["row 0", ["start", "end", "score", "answer"]]) == first
    assert pd.isna(answered.loc["row 1", "start"]) and answered.start.dtype == "Int64"


def test_a_table_of_predictions(ner) -> None:
    one, several = ner.entities(TEXTS[0]), ner.entities(TEXTS)
    assert list(to_frame(one).itertuples(index=False, name=None)) == one
    table = to_frame(several)
    assert list(table.columns) == ["document", *Entity._fields] and len(table) == sum(map(len, several))
    named = to_frame(ner.entities(pd.Series(TEXTS, index=list("abcde"))))
    assert named.document.tolist() == ["abcde"[i] for i in table.document]
    assert list(to_frame([[], []]).columns) == ["document"] and to_frame(table) is table


def test_files_and_folders(models, tmp_path: Path) -> None:
    ner, classes, span = models.values()
    for name, text in zip(("b.txt", "a.txt"), TEXTS, strict=False):
        (tmp_path / name).write_text(text)
    (tmp_path / "notes.md").write_text("not read")
    assert ner.entities(tmp_path / "b.txt") == ner.entities(TEXTS[0])
    folder = ner.entities(tmp_path)
    assert list(folder.items()) == [("a.txt", []), ("b.txt", ner.entities(TEXTS[0]))]
    assert set(to_frame(folder).document) == {"b.txt"}
    assert classes.classify(tmp_path, "frogs")["b.txt"] == classes.classify(TEXTS[0], "frogs")
    lines = tmp_path / "q.jsonl"
    rows = [{"id": i, "text": text, "question": "what of?", "pair": "frogs"} for i, text in enumerate(TEXTS)]
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert span.answers(lines) == {str(i): found for i, found in enumerate(span.answers("what of?", TEXTS))}
    assert span.answers("whose?", lines)["0"] == span.answers("whose?", TEXTS[0])
    assert list(classes.classify(lines).values()) == classes.classify(TEXTS, "frogs")
    lines.write_text('{"id": 1, "text": "a"}\n{"id": 1, "text": "b"}\n')
    with pytest.raises(UserError, match=r"q\.jsonl:2: a second document with the id '1'"):
        ner.entities(lines)
    (tmp_path / "empty").mkdir()
    for path, message in ((tmp_path / "c.txt", "no such file"), (tmp_path / "empty", r"no \.txt file")):
        with pytest.raises(UserError, match=message):
            ner.entities(path)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (3, "text: a value of type int is no text"),
        (None, r"text: a value of type NoneType \(missing\) is no text"),
        (b"frogs", "text: a value of type bytes is no text"),
        ({"a": "frogs"}, "text: a value of type dict is no text"),
        ({"frogs"}, "text: a value of type set is no text"),
        (["frogs", 7], r"text\[1\]: a value of type int is no text"),
        (["frogs", float("nan")], r"text\[1\]: a value of type float \(missing\) is no text"),
        ([["frogs"]], r"text\[0\]: a value of type list is no text"),
        (pd.Series(["frogs", None]), r"text\[1\]: a value of type \w+ \(missing\)"),
        (["frogs", "half \ud800"], r"text\[1\]: half a surrogate pair"),
        ("half \ud800", "text: half a surrogate pair"),
        (pd.DataFrame({"abstract": ["a"]}), r'DataFrame: no column "text"; there are abstract \(rename it'),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "DataFrame: two columns are called 'text'"),
    ],
)
def test_whatever_is_no_text_is_one_line_that_says_what_is_taken(ner, texts: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        ner.entities(texts)
    assert "surrogate" in message or "DataFrame:" in message or "a list of texts, a pandas Series" in str(error.value)


def test_texts_and_questions_that_do_not_fit(models) -> None:
    _, classes, span = models.values()
    with pytest.raises(UserError, match="2 in 'text', 1 in 'pair'"):
        classes.classify(["a", "b"], ["c"])
    with pytest.raises(UserError, match="pair: a value of type int"):
        classes.classify("a", 3)
    with pytest.raises(UserError, match=r"no context \(model.answers"):
        span.answers("what?")
    with pytest.raises(UserError, match="text 0: no question"):
        span.answers(pd.DataFrame({"text": ["a"]}))
    with pytest.raises(UserError, match="list beside texts in files"):
        classes.classify(Path(__file__), ["a"])


def test_vectors_are_means_of_the_last_states_over_the_tokens_of_each_text(models, tmp_path: Path) -> None:
    encoder = load(make_checkpoint(tmp_path / "mlm", "mlm"))
    for model, folder in ((encoder, tmp_path / "mlm"), (models["entities"], models["entities"].name)):
        vectors, truth = model.embed(TEXTS), AutoModel.from_pretrained(folder).eval()
        assert vectors.shape == (5, 16) and vectors.dtype == np.float32
        for text, vector in zip(TEXTS, vectors, strict=True):
            ids = build_tokenizer()(text, truncation=True, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                states = truth(input_ids=ids).last_hidden_state[0].double()
            np.testing.assert_allclose(vector, states.mean(0), atol=1e-6)
            assert (model.embed(text) == vector).all()
        assert (model.embed(pd.DataFrame({"text": TEXTS})) == vectors).all() and model.embed([]).shape == (0, 16)
    (tmp_path / "a.txt").write_text(TEXTS[0])
    assert list(encoder.embed(tmp_path)) == ["a.txt"] and encoder.method == "embed"


PAIRS = {"record": "scores", "version": 1, "run": "r", "seed": 1, "split": "test", "score": 50.0, "settings": {}}
PAIRS |= {"model": {"name": "m", "weights_sha256": "w"}, "protocol": {"name": "standard", "overrides": {}}}


def test_pairs_are_asked_of_models_of_pairs_and_single_texts_of_others(models, tmp_path: Path) -> None:
    files = {"train": "a.csv", "format": "csv", "columns": {"text": "a", "label": "y"}}
    tasks = {
        "single": {"name": "a", "files": files},
        "pairs": {"name": "a", "files": files | {"columns": files["columns"] | {"pair": "b"}}},
        "PubMedQA": {"name": "PubMedQA"},
        "HoC": {"name": "HoC"},
    }
    made = {}
    for name, task in tasks.items():
        folder = make_checkpoint(tmp_path / name, "sequence")
        task |= {"fold": None, "metric": "accuracy", "data_sha256": {}, "kind": "classification"}
        (folder / "record.json").write_text(json.dumps(PAIRS | {"task": task, "metrics": {"accuracy": 50.0}}))
        made[name] = load(folder, precision="fp32")
    either, single, pairs = models["classify"], made["single"], made["pairs"]
    assert [model.pairs for model in (either, *made.values())] == [None, False, True, True, False]
    expected = either.classify("frogs", "mice of frogs")
    assert expected == pairs.classify("frogs", "mice of frogs") == pairs.classify("frogs\tmice of frogs")
    assert pairs.classify(["frogs\tmice of frogs"]) == [expected]
    lines, table, objects = tmp_path / "a.txt", tmp_path / "a.csv", tmp_path / "a.jsonl"
    lines.write_text("frogs\tmice of frogs\n")
    table.write_text("text_a,text_b\nfrogs,mice of frogs\n")
    objects.write_text('{"text_a": "frogs", "text_b": "mice of frogs"}\n')
    assert pairs.classify(lines) == expected and single.classify("frogs") == either.classify("frogs")
    assert pairs.classify(table) == pairs.classify(objects) == {"1": expected}
    one, two = "one text, but this model was fine-tuned on pairs of texts", "two texts, but .* on single texts"
    (tmp_path / "b.jsonl").write_text('{"text": "frogs", "pair": "mice"}\n{"text": "frogs"}\n')
    (tmp_path / "b.csv").write_text("text,pair\nfrogs,\n")
    for model, given, message in (
        (pairs, ("frogs",), f"pairs: {one} .give two: a tab between"),
        (pairs, (["frogs", "mice"],), f"text 0: {one}"),
        (pairs, ("frogs", " "), one),
        (pairs, ("frogs\tmice\tfevers",), one),
        (pairs, (pd.DataFrame({"text": ["frogs"]}),), one),
        (pairs, (tmp_path / "b.jsonl",), rf"b\.jsonl:2: {one}"),
        (pairs, (tmp_path / "b.csv",), rf"b\.csv:2: {one}"),
        (single, ("frogs", "mice"), f"single: {two}"),
        (single, (tmp_path / "b.jsonl",), rf"b\.jsonl:1: {two}"),
        (made["HoC"], (["frogs"], ["mice"]), f"text 0: {two}"),
    ):
        with pytest.raises(UserError, match=message):
            model.classify(*given)
    for model in made.values():
        model.close()
