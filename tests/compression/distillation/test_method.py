"""What a student learns from a teacher: more than few labels tell; and what it leaves as it is."""

import copy
from pathlib import Path

import pytest
import torch
from small_runs import make_checkpoint
from taught import FP32, LABELS, TASK, sentences, trained_teacher

from compact_biomed.compression.distillation.method import FromTeacher, Relations, Transfer
from compact_biomed.compression.distillation.teacher import Teacher
from compact_biomed.compression.distillation.text import Text, UnlabeledText
from compact_biomed.evaluation.finetune import Assignment, fine_tune
from compact_biomed.evaluation.protocols import FinetuneHyperparameters
from compact_biomed.models.checkpoints import load_tokenizer

STEPS = 100
FEW, TEST = sentences(3, seed=1), sentences(40, seed=2)
TEXTS = [Text(" ".join(example.words)) for example in sentences(97, seed=3)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, checkpoint: Path) -> Teacher:
    settings = FinetuneHyperparameters(1e-2, epochs=8, batch_size=8)
    return trained_teacher(tmp_path_factory.mktemp("kept") / "teacher", checkpoint, settings, sentences(120, seed=0))


def method_of(teacher: Teacher, texts=tuple(TEXTS), **options) -> FromTeacher:
    given = {"temperature": 2.0, "soft_weight": 1.0, "protocol": "standard"} | options
    return FromTeacher(teacher, UnlabeledText(texts), **given)


def learned(checkpoint: Path, epochs: int, **method):
    work = Assignment(str(checkpoint), TASK, LABELS, "standard", FEW, TEST, **method)
    return fine_tune(work, FinetuneHyperparameters(1e-2, epochs=epochs, batch_size=10), seed=1, speed=FP32)


def test_unlabeled_text_teaches_what_few_labels_do_not(checkpoint: Path, teacher: Teacher) -> None:
    """As many steps of as many examples; the student on labels alone has never seen half of the words."""
    before = copy.deepcopy(teacher.checkpoint.model.state_dict())
    alone = learned(checkpoint, STEPS)
    taught = learned(checkpoint, STEPS // 10, method=method_of(teacher))
    assert taught.fitted.steps == alone.fitted.steps == STEPS
    assert taught.scores.metrics["f1"] > alone.scores.metrics["f1"] + 10
    assert taught.scores.metrics["f1"] > 90
    # The teacher is as it was, and no gradient reached it.
    after = teacher.checkpoint.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in teacher.checkpoint.model.parameters())


def test_gradients_reach_the_student_from_unlabeled_text_alone(checkpoint: Path, teacher: Teacher) -> None:
    method = method_of(teacher)
    work = Assignment(str(checkpoint), TASK, LABELS, "standard", [], TEST, method)
    outcome = fine_tune(work, FinetuneHyperparameters(1e-2, epochs=12, batch_size=10), seed=1, speed=FP32)
    assert outcome.scores.metrics["f1"] > 90


def test_the_teacher_is_asked_once_for_all_seeds(checkpoint: Path, teacher: Teacher, monkeypatch) -> None:
    asked, logits = [], Teacher.logits
    monkeypatch.setattr(Teacher, "logits", lambda *given, **more: asked.append(1) or logits(*given, **more))
    method = method_of(teacher)
    first, again = (learned(checkpoint, 1, method=method) for _ in range(2))
    assert len(asked) == 2  # labeled and unlabeled
    assert first.fitted.loss == again.fitted.loss
    assert learned(checkpoint, 1, method=method_of(teacher, temperature=3.0)).fitted.loss != first.fitted.loss


LAYERS = Transfer(("attention", "hidden"), (0, 1), (16, 16))
RELATED = Transfer(("relations",), (), (16, 16), relations=Relations(4, 1, 1))


@pytest.mark.parametrize("transfer", [None, LAYERS, RELATED], ids=["soft", "layers", "relations"])
def test_replicas_and_kernels_change_rounding_alone(checkpoint: Path, teacher: Teacher, transfer) -> None:
    from compact_biomed.engine.plan import ComputePlan
    from compact_biomed.evaluation.learner import Learner
    from compact_biomed.models.checkpoints import load_with_new_head

    losses, weights = [], []
    teacher = copy.copy(teacher)  # as module, it computes in the type of its own weights
    teacher.checkpoint = teacher.checkpoint._replace(model=copy.deepcopy(teacher.checkpoint.model).double())
    for fast, replicas, tokens in ((True, 1, 4096), (True, 2, 64), (False, 1, 64)):
        model = load_with_new_head(str(checkpoint), "token", LABELS, seed=1).model.double()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.0
        method = method_of(teacher, transfer=transfer)
        work = Assignment(str(checkpoint), TASK, LABELS, "standard", FEW, TEST, method)
        encoding = {"labels": LABELS, "max_length": 64, "level": "standard"}
        features = method.features(work, load_tokenizer(str(checkpoint), model.config), encoding)
        learner = method.learner(model, "token", ComputePlan(torch.float64, fast, replicas, tokens, 0.0, "test"))
        assert isinstance(learner, Learner)
        settings = FinetuneHyperparameters(1e-3, epochs=1, batch_size=10)
        losses.append(learner.fit(features, settings, seed=1, after_epoch=lambda number: None).loss)
        learner.close()
        weights.append(model.state_dict())
    for loss, after in zip(losses[1:], weights[1:], strict=True):
        assert loss == pytest.approx(losses[0], rel=1e-9)
        for name, tensor in weights[0].items():
            torch.testing.assert_close(after[name], tensor, rtol=1e-7, atol=1e-7, msg=name)


def test_layers_alone_teach_a_student_its_teachers_layers(checkpoint: Path, teacher: Teacher) -> None:
    """The teacher started where the student does, and reads its own ids, not those that training numbers anew."""
    before, after = (
        learned(
            checkpoint,
            epochs,
            method=method_of(teacher, soft_weight=0.0, transfer=Transfer(("hidden",), (0, 1), (16, 16))),
        )
        for epochs in (1, 10)
    )
    assert after.fitted.loss < before.fitted.loss / 3
    inputs = torch.tensor([load_tokenizer(str(checkpoint), after.model.config).convert_tokens_to_ids(list("aknz"))])
    after.model.eval()
    with torch.no_grad():
        ours, theirs = (
            model.base_model(input_ids=inputs).last_hidden_state for model in (after.model, teacher.checkpoint.model)
        )
    assert torch.cosine_similarity(ours, theirs, dim=-1).min() > 0.9
    assert after.model.state_dict().keys() == teacher.checkpoint.model.state_dict().keys()  # no projection, no teacher
