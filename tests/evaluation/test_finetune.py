"""One fine-tuning learns, predicts every example, and saves a model that transformers opens."""

import dataclasses
import weakref

import pytest
import torch
from small_runs import make_checkpoint, make_ner_set

from compact_biomed.benchmarks import tasks
from compact_biomed.benchmarks.examples import QuestionExample, Splits, TextExample
from compact_biomed.benchmarks.readers import read
from compact_biomed.evaluation import kinds, protocols
from compact_biomed.evaluation.finetune import Assignment, fine_tune
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.learner import Learner
from compact_biomed.evaluation.protocols import FinetuneHyperparameters
from compact_biomed.machine import PerformanceSettings

FP32 = PerformanceSettings(precision="fp32", replicas=1)
QUICK = FinetuneHyperparameters(1e-2, epochs=6, batch_size=4, max_length=200)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return str(make_checkpoint(tmp_path_factory.mktemp("checkpoint"), max_position_embeddings=256))


@pytest.fixture(scope="module")
def ner(checkpoint: str, tmp_path_factory) -> Assignment:
    task = tasks.ner_task_from_folder(make_ner_set(tmp_path_factory.mktemp("ner") / "fevers"))
    splits = read(task, tasks.find(task))
    return Assignment(checkpoint, task, KINDS["ner"].labels(splits), "standard", splits.train, splits.test)


def test_it_learns_an_easy_task_and_repeats_itself(ner: Assignment) -> None:
    outcome = fine_tune(ner, QUICK, seed=1, speed=FP32, each_epoch=True)
    assert outcome.scores.metrics["f1"] > 70
    assert len(outcome.by_epoch) == 6 and outcome.by_epoch[-1] == outcome.scores.metrics["f1"]
    again = fine_tune(ner, QUICK, seed=1, speed=FP32)
    assert again.predictions == outcome.predictions
    assert again.fitted.loss == outcome.fitted.loss  # to the bit, scored in between or not
    other = fine_tune(ner, QUICK, seed=2, speed=FP32)
    assert other.fitted.loss != outcome.fitted.loss


def test_the_size_of_chunks_changes_nothing(ner: Assignment, monkeypatch) -> None:
    whole = fine_tune(ner, dataclasses.replace(QUICK, epochs=2), seed=1, speed=FP32)
    monkeypatch.setattr(kinds, "_CHUNK", 1)
    single = fine_tune(ner, dataclasses.replace(QUICK, epochs=2), seed=1, speed=FP32)
    assert single.predictions == whole.predictions
    assert len(single.predictions) == len(ner.scored)


def test_logits_of_a_large_test_set_are_never_all_in_memory(ner: Assignment, monkeypatch) -> None:
    most, made, gone = 0, 0, []
    logits_of = Learner.logits

    def logits(learner, features):
        nonlocal most, made
        result = [array.copy() for array in logits_of(learner, features)]
        for array in result:
            weakref.finalize(array, gone.append, None)
        made += len(result)
        most = max(most, made - len(gone))
        return result

    monkeypatch.setattr(kinds, "_CHUNK", 3)
    monkeypatch.setattr(Learner, "logits", logits)
    many = dataclasses.replace(ner, scored=[*ner.scored] * 10)
    outcome = fine_tune(many, dataclasses.replace(QUICK, epochs=1), seed=1, speed=FP32)
    assert len(outcome.predictions) == made == len(many.scored)
    assert most <= 3


def test_patience_stops_after_so_many_epochs_that_are_not_better(ner: Assignment, monkeypatch) -> None:
    scores = iter([10.0, 30.0, 30.0, 20.0, 40.0, 50.0])
    result = kinds.KINDS["ner"].score(ner.scored, fine_tune(ner, QUICK, seed=1, speed=FP32).predictions)
    kind = kinds.KINDS["ner"]
    monkeypatch.setattr(kind, "score", lambda *_: dataclasses.replace(result, metrics={"f1": next(scores)}), False)
    stopped = fine_tune(ner, QUICK, seed=1, speed=FP32, each_epoch=True, patience=2)
    assert stopped.by_epoch == [10.0, 30.0, 30.0, 20.0]


def test_an_epoch_of_the_thorough_protocol_is_the_same_model_however_long_the_search(ner: Assignment) -> None:
    thorough = protocols.protocol("thorough", ner.task, len(ner.train), protocols.NO_OVERRIDES)
    settings = dataclasses.replace(thorough.hyperparameters, epochs=8, learning_rate=1e-2, max_length=200)
    searched = fine_tune(ner, settings, seed=1, speed=FP32, each_epoch=True, patience=thorough.patience)
    best = searched.by_epoch.index(max(searched.by_epoch)) + 1
    final = fine_tune(ner, dataclasses.replace(settings, stop_after=best), seed=1, speed=FP32)
    assert final.by_epoch == [max(searched.by_epoch)]


def test_the_model_opens_with_plain_transformers(ner: Assignment, tmp_path) -> None:
    from transformers import AutoModelForTokenClassification

    outcome = fine_tune(ner, dataclasses.replace(QUICK, epochs=1), seed=1, speed=FP32)
    outcome.model.save_pretrained(tmp_path)
    opened = AutoModelForTokenClassification.from_pretrained(tmp_path)
    assert [opened.config.id2label[i] for i in range(len(ner.labels))] == list(ner.labels)
    ids = torch.tensor([[2, 40, 41, 42, 3]])
    with torch.inference_mode():
        torch.testing.assert_close(opened(ids).logits, outcome.model.eval()(ids).logits)


def test_the_length_limit_of_the_model_is_kept_and_reported(ner: Assignment) -> None:
    outcome = fine_tune(ner, dataclasses.replace(QUICK, epochs=1, max_length=512), seed=1, speed=FP32)
    assert outcome.max_length == 256


def _texts(label, n: int = 12) -> list[TextExample]:
    return [TextExample(f"t/{i}", "the mild fever" if i % 2 else "old frogs", "of frogs", label(i)) for i in range(n)]


@pytest.mark.parametrize(
    ("name", "examples"),
    [
        ("GAD", _texts(lambda i: str(i % 2))),
        ("PubMedQA", _texts(lambda i: "yes" if i % 2 else "no")),
        ("HoC", _texts(lambda i: ("a", "b") if i % 2 else ())),
        ("BIOSSES", _texts(lambda i: float(i % 2))),
        (
            "BioASQ-7b",
            [
                QuestionExample(f"q{i}_1", f"q{i}", "of the old ?", "the mild fever of old frogs", (("fever", 9),))
                for i in range(8)
            ],
        ),
    ],
)
def test_every_kind_learns_what_is_easy(checkpoint: str, name: str, examples: list) -> None:
    task = tasks.TASKS[name]
    splits = Splits(examples, examples, examples)
    work = Assignment(checkpoint, task, KINDS[task.kind].labels(splits), "standard", examples, examples)
    outcome = fine_tune(work, dataclasses.replace(QUICK, epochs=15), seed=1, speed=FP32)
    assert len(outcome.predictions) == len(examples)
    assert outcome.scores.metrics[task.metric] > 95


def test_intermediate_examples_are_learned_first(ner: Assignment, monkeypatch) -> None:
    fits, fit = [], Learner.fit

    def noted(learner, features, hyperparameters, **options):
        fits.append((len(features), hyperparameters))
        return fit(learner, features, hyperparameters, **options)

    monkeypatch.setattr(Learner, "fit", noted)
    settings = dataclasses.replace(QUICK, epochs=1, intermediate_epochs=2, average_last=1.0)
    both = fine_tune(dataclasses.replace(ner, intermediate=ner.train[:3]), settings, seed=1, speed=FP32)
    alone = fine_tune(ner, dataclasses.replace(settings, intermediate_epochs=0), seed=1, speed=FP32)
    assert [n for n, _ in fits] == [3, len(ner.train), len(ner.train)]
    first, second = (used for _, used in fits[:2])
    assert (first.epochs, first.schedule, first.average_last) == (2, "linear", 0) and second == settings
    assert both.fitted.steps == alone.fitted.steps + 2 and both.fitted.loss != alone.fitted.loss
