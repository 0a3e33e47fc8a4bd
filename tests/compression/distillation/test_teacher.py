"""Soft labels stand where hard ones do, whatever the kind of task, the level and the tokenizer."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from evaluation_inputs import build_tokenizer
from small_runs import make_checkpoint
from taught import FP32

from compact_biomed.benchmarks import tasks
from compact_biomed.benchmarks.examples import QuestionExample, TextExample, WordsExample
from compact_biomed.compression.distillation.method import FromTeacher
from compact_biomed.compression.distillation.prepare import cut_out
from compact_biomed.compression.distillation.teacher import Teacher, check_tokenizers, student_features
from compact_biomed.compression.distillation.text import Text, UnlabeledText
from compact_biomed.errors import UserError
from compact_biomed.evaluation.finetune import Assignment, fine_tune
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.protocols import FinetuneHyperparameters
from compact_biomed.models.checkpoints import load_with_new_head
from compact_biomed.objectives import IGNORED

TAGS = ["B", "I", "O"]
WORDS = WordsExample("t/0", ("mild", "kinase", "fever"), ("O", "B", "I"))  # kin ##as ##e
QUESTION = QuestionExample("q", "q", "which frogs ?", "the mild fever of old frogs " * 12, (("fever", 9),))
TEXT = TextExample("t", "old frogs", "the mild fever", None)


def teacher_of(folder: Path, head: str, labels: list[str], **options) -> Teacher:
    """A teacher of random weights, large enough to differ from position to position."""
    model = load_with_new_head(str(make_checkpoint(folder / "start", **options)), head, labels, seed=1).model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder / "teacher")
    build_tokenizer().save_pretrained(folder / "teacher")
    return Teacher(str(folder / "teacher"), FP32)


def expected(teacher: Teacher, ids: list[int], types=None) -> np.ndarray:
    """The teacher's logits by transformers' own forward."""
    inputs = {"input_ids": torch.tensor([ids])} | ({"token_type_ids": torch.tensor([types])} if types else {})
    with torch.inference_mode():
        output = teacher.checkpoint.model(**inputs)
    if teacher.head == "span":
        return torch.stack([output.start_logits, output.end_logits], -1)[0].numpy()
    return output.logits[0].numpy() if teacher.head == "token" else output.logits.numpy()


def features_of(kind: str, example, teacher: Teacher, labels: list[str], *, labeled: bool = True, **encoding):
    given = {"labels": labels, "max_length": 64, "level": "standard"} | encoding
    return student_features(kind, [example], build_tokenizer(), given, teacher=teacher, labeled=labeled)


@pytest.mark.parametrize(("level", "places"), [("standard", [1, 2, 5]), ("published", [1, 2, 3, 4, 5])])
@pytest.mark.parametrize("labeled", [True, False])
def test_pieces_of_entities(tmp_path: Path, level: str, places: list[int], labeled: bool) -> None:
    teacher = teacher_of(tmp_path, "token", ["O", "I", "B"])  # another order of the same labels
    (feature,) = features_of("ner", WORDS, teacher, TAGS, labeled=labeled, level=level)
    assert feature["soft_positions"].tolist() == places and feature["rows"] == len(places)
    assert feature["labeled"] is labeled
    assert [i for i, label in enumerate(feature["labels"]) if label != IGNORED] == (places if labeled else [])
    logits = expected(teacher, feature["input_ids"])[places][:, [2, 1, 0]]
    assert feature["soft_logits"].dtype == np.float16
    np.testing.assert_allclose(feature["soft_logits"], logits, rtol=2e-3, atol=2e-3)


def test_a_teacher_with_another_tokenizer_speaks_of_the_same_words(tmp_path: Path) -> None:
    other = build_tokenizer()
    other.backend_tokenizer.add_tokens(["fev"])  # "fever" is now fev, e, ##r
    other = type(other)(tokenizer_object=other.backend_tokenizer, **other.special_tokens_map)
    teacher, asked = teacher_of(tmp_path, "token", TAGS), {}
    teacher.tokenizer = other
    teacher.logits = lambda features, rows, labels: asked.update(rows=rows) or [np.zeros((3, 3), np.float16)]
    example = WordsExample("t/0", ("fever", "kinase", "mild"), ("B", "O", "O"))
    (feature,) = features_of("ner", example, teacher, TAGS)
    assert asked["rows"][0].tolist() == [1, 4, 7] and feature["soft_positions"].tolist() == [1, 2, 5]


def test_words_that_the_teacher_does_not_reach_have_no_soft_labels(tmp_path: Path) -> None:
    teacher = teacher_of(tmp_path, "token", TAGS, max_position_embeddings=16)
    long = WordsExample("t/0", ("mild",) * 30, ("O",) * 30)
    (feature,) = features_of("ner", long, teacher, TAGS)
    assert (
        feature["soft_positions"].tolist() == list(range(1, 15))
        and len(feature["soft_logits"]) == 14
        and feature["rows"] == 30
    )
    (feature,) = features_of("ner", long, teacher, TAGS, labeled=False)
    assert feature["rows"] == 14


def test_every_token_of_every_window_of_a_question(tmp_path: Path) -> None:
    teacher = teacher_of(tmp_path, "span", ["start", "end"])
    features = features_of("qa", QUESTION, teacher, ["start", "end"])
    assert len(features) > 1
    for feature in features:
        assert feature["soft_positions"].tolist() == list(range(len(feature["input_ids"]))) and feature["rows"] == 1
        logits = expected(teacher, feature["input_ids"], feature["token_type_ids"])
        np.testing.assert_allclose(feature["soft_logits"], logits, rtol=2e-3, atol=2e-3)
    shorter = teacher_of(tmp_path / "short", "span", ["start", "end"], max_position_embeddings=32)
    with pytest.raises(UserError, match="their windows differ"):
        features_of("qa", QUESTION, shorter, ["start", "end"])


@pytest.mark.parametrize(
    ("kind", "head", "labels"),
    [
        ("classification", "sequence", ["no", "yes"]),
        ("multilabel", "multilabel", ["a", "b", "c"]),
        ("regression", "regression", ["score"]),
    ],
)
def test_texts(tmp_path: Path, kind: str, head: str, labels: list[str]) -> None:
    teacher = teacher_of(tmp_path, head, labels)
    assert teacher.head == head
    example = TextExample("t", TEXT.text, TEXT.pair, {"multilabel": ("a",), "regression": 0.5}.get(kind, "no"))
    (feature,) = features_of(kind, example, teacher, labels)
    assert feature["soft_positions"].tolist() == [0] and feature["rows"] == 1
    logits = expected(teacher, feature["input_ids"], feature["token_type_ids"])
    np.testing.assert_allclose(feature["soft_logits"], logits, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "labels", "example", "text"),
    [
        ("GAD", ["0", "1"], TextExample("t", "the @GENE$", None, "1"), Text("no @GENE$")),
        ("HoC", ["a", "b"], TextExample("t", "old frogs", None, ("b",)), Text("mild fever")),
        ("BIOSSES", ["score"], TextExample("t", "old frogs", "fever", 0.5), Text("mild fever", "frogs")),
        ("BioASQ-7b", ["start", "end"], QUESTION, Text("the old frogs", question="which frogs ?")),
    ],
)
def test_every_kind_is_learned_from_both(tmp_path: Path, name: str, labels: list[str], example, text: Text) -> None:
    task = tasks.TASKS[name]
    teacher = teacher_of(tmp_path, KINDS[task.kind].head, labels)
    teacher.check(task, labels, protocol="standard", fold=None)
    method = FromTeacher(teacher, UnlabeledText([text] * 3), temperature=1.0, soft_weight=2.0, protocol="standard")
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    start = make_checkpoint(tmp_path / "student", num_hidden_layers=1, seed=2, **none)
    work = Assignment(str(start), task, labels, "standard", [example] * 3, [example] * 2, method)
    losses = [
        fine_tune(work, FinetuneHyperparameters(1e-2, epochs=epochs, batch_size=6), seed=1, speed=FP32).fitted.loss
        for epochs in (1, 20)
    ]
    assert losses[1] < losses[0]


def test_logits_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    teacher = teacher_of(tmp_path, "token", TAGS)
    with torch.no_grad():
        teacher.checkpoint.model.classifier.bias.fill_(1e6)
    with pytest.raises(UserError, match="above 65504"):
        features_of("ner", WORDS, teacher, TAGS)


def test_a_teacher_of_another_fold_has_seen_the_test_set(tmp_path: Path) -> None:
    teacher = teacher_of(tmp_path, "sequence", ["0", "1"])
    task = tasks.TASKS["GAD"]
    (teacher.folder / "record.json").write_text('{"task": {"name": "GAD", "fold": 2}}')
    teacher.check(task, ["0", "1"], protocol="standard", fold=2)
    with pytest.raises(UserError, match="test examples of fold 1"):
        teacher.check(task, ["0", "1"], protocol="standard", fold=1)
    with pytest.raises(UserError, match="has a sequence head, NCBI-disease needs a token head"):
        teacher.check(tasks.TASKS["NCBI-disease"], TAGS, protocol="standard", fold=None)


@pytest.mark.parametrize(
    ("kind", "level", "refused"),
    [("ner", "standard", False), ("ner", "published", True), ("qa", "standard", True), ("relation", "standard", False)],
)
def test_pieces_compare_under_one_tokenizer_alone(tmp_path: Path, kind: str, level: str, refused: bool) -> None:
    teacher = teacher_of(tmp_path, "token", TAGS)
    check_tokenizers(kind, level, teacher, teacher.sums)
    other = {"tokenizer_sha256": "other"}
    if not refused:
        return check_tokenizers(kind, level, teacher, other)
    with pytest.raises(UserError, match="different pieces"):
        check_tokenizers(kind, level, teacher, other)


@pytest.mark.parametrize(("layers", "depth", "has"), [(5, 2, "2 layers"), (0, 2, "2 layers"), (3, 1, "1 layer")])
def test_more_layers_than_the_teacher_has(layers: int, depth: int, has: str, tmp_path: Path) -> None:
    model = SimpleNamespace(config=SimpleNamespace(num_hidden_layers=depth))
    teacher = SimpleNamespace(name="big", sums={"weights_sha256": "0"}, checkpoint=SimpleNamespace(model=model))
    message = rf"--student {layers}: the teacher has {has} \(give a number from 1 to {depth}, or name a checkpoint\)"
    with pytest.raises(UserError, match=message):
        cut_out(teacher, layers, tmp_path)
    assert not any(tmp_path.iterdir())
