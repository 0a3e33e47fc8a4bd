"""Training steps are those of AdamW on the whole batch, and micro-batches change nothing."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from small_tasks import VOCABULARY, small_task_model
from transformers import Trainer, TrainingArguments, get_scheduler

from compact_biomed.engine import compiled
from compact_biomed.engine.plan import ComputePlan
from compact_biomed.errors import UserError
from compact_biomed.evaluation import learner as learners
from compact_biomed.evaluation.descent import Descent, decay_groups
from compact_biomed.evaluation.learner import Learner, epoch
from compact_biomed.evaluation.protocols import FinetuneHyperparameters

SETTINGS = FinetuneHyperparameters(3e-3, epochs=2, batch_size=4, schedule="cosine", warmup=0.2)
NO_DROPOUT = {
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "mobilebert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "distilbert": {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0},
}
MODELS = pytest.mark.parametrize("model_type", NO_DROPOUT)


# In float64: keys' biases have a gradient of zero, of whose rounding AdamW makes whole steps in float32.
def plan(*, fast: bool = True, replicas: int = 1, tokens: int = 64) -> ComputePlan:
    return ComputePlan(torch.float64, fast, replicas, tokens, 0.0, "test")


def features(head: str, n: int = 14) -> list[dict]:
    """Invented inputs that use a part of the vocabulary only."""
    generator = np.random.default_rng(5)
    result = []
    for i in range(n):
        ids = [2, *generator.integers(5, VOCABULARY - 20, generator.integers(3, 40)).tolist(), 3]
        answer = {
            "token": {"labels": [-100, *generator.integers(0, 3, len(ids) - 2).tolist(), -100]},
            "sequence": {"labels": i % 3},
            "span": {"start": 1, "end": 2},
        }[head]
        result.append({"input_ids": ids, "example": i, **answer})
    return result


def fitted(
    model, head: str, machine: ComputePlan, settings: FinetuneHyperparameters = SETTINGS, *, seed: int = 3, data=None
):
    learner = Learner(model, head, machine)
    outcome = learner.fit(data or features(head), settings, seed=seed, after_epoch=lambda number: None)
    learner.close()
    return outcome, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_close(got: dict, expected: dict, tolerance: float = 1e-9) -> None:
    assert got.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=tolerance, atol=tolerance, msg=name)


def plain_training(
    model, data: list[dict], settings: FinetuneHyperparameters, seed: int, *, groups=None, after_step=lambda: None
) -> None:
    """Token classification as one would write it: padded batches, every embedding, transformers' own loss."""
    groups = groups or decay_groups(model, settings.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
    total = -(-len(data) // settings.batch_size) * settings.epochs
    schedule = get_scheduler(settings.schedule, optimizer, int(np.ceil(settings.warmup * total)), total)
    model.train()
    for number in range(settings.epochs):
        for rows in epoch(len(data), settings.batch_size, seed=seed, number=number):
            chosen = [data[i] for i in rows]
            width = max(len(f["input_ids"]) for f in chosen) + 1
            ids = torch.tensor([f["input_ids"] + [0] * (width - len(f["input_ids"])) for f in chosen])
            labels = torch.tensor([f["labels"] + [-100] * (width - len(f["labels"])) for f in chosen])
            model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            after_step()


@MODELS
@pytest.mark.parametrize("fast", [True, False])
def test_training_is_plain_training(model_type: str, fast: bool) -> None:
    model = small_task_model(model_type, "token", **NO_DROPOUT[model_type])
    plain, start = copy.deepcopy(model), copy.deepcopy(model.state_dict())
    plain_training(plain, features("token"), SETTINGS, seed=3)
    outcome, got = fitted(model, "token", plan(fast=fast))
    assert outcome.steps == 8
    assert outcome.tokens == 2 * sum(len(f["input_ids"]) for f in features("token"))
    assert_close(got, dict(plain.state_dict()))
    # Embeddings that do not occur are decayed and otherwise left alone.
    name = model.base_model_prefix + ".embeddings.word_embeddings.weight"
    assert not torch.equal(got[name][VOCABULARY - 10 :], start[name][VOCABULARY - 10 :])
    torch.testing.assert_close(got[name][VOCABULARY - 10 :], start[name][VOCABULARY - 10 :], rtol=1e-3, atol=0)


def groups_by_hand(model, settings: FinetuneHyperparameters) -> list[dict]:
    """Return torch's groups of a model of two layers, two for each depth, with the learning rate of that depth."""
    base = model.base_model
    layers = base.transformer.layer if model.config.model_type == "distilbert" else base.encoder.layer
    share = settings.layer_decay
    below = [(base.embeddings, share**3), (layers[0], share**2), (layers[1], share)]
    decayed = {id(p) for p in decay_groups(model, settings.weight_decay)[0]["params"]}
    seen: set[int] = set()
    groups = []
    for module, factor in [*below, (model, 1.0)]:
        own = [p for p in module.parameters() if id(p) not in seen]
        seen.update(map(id, own))
        for with_decay in (True, False):
            chosen = [p for p in own if (id(p) in decayed) == with_decay]
            decay = settings.weight_decay if with_decay else 0.0
            groups.append({"params": chosen, "lr": settings.learning_rate * factor, "weight_decay": decay})
    return groups


@MODELS
@pytest.mark.parametrize("fast", [True, False])
def test_layer_decay_is_plain_adamw_with_a_rate_for_each_layer(model_type: str, fast: bool) -> None:
    settings = dataclasses.replace(SETTINGS, layer_decay=0.5)
    model = small_task_model(model_type, "token", **NO_DROPOUT[model_type])
    plain = copy.deepcopy(model)
    plain_training(plain, features("token"), settings, seed=3, groups=groups_by_hand(plain, settings))
    _, got = fitted(model, "token", plan(fast=fast), settings)
    assert_close(got, dict(plain.state_dict()))


@MODELS
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("share", "steps"), [(0.5, 2), (1.0, 4)])
def test_the_model_after_an_epoch_is_the_mean_of_its_last_steps(
    model_type: str, fast: bool, share: float, steps: int
) -> None:
    settings = dataclasses.replace(SETTINGS, average_last=share, layer_decay=0.8)  # 4 steps per epoch
    model = small_task_model(model_type, "token", **NO_DROPOUT[model_type])
    plain, snapshots, data = copy.deepcopy(model), [], features("token")

    def keep() -> None:
        snapshots.append({name: tensor.clone() for name, tensor in plain.state_dict().items()})

    plain_training(plain, data, settings, seed=3, groups=groups_by_hand(plain, settings), after_step=keep)
    learner, got = Learner(model, "token", plan(fast=fast)), []
    learner.fit(
        data,
        settings,
        seed=3,
        after_epoch=lambda _: got.append({name: tensor.clone() for name, tensor in model.state_dict().items()}),
    )
    learner.close()
    embedding = model.base_model_prefix + ".embeddings.word_embeddings.weight"
    used = sorted({i for feature in data for i in feature["input_ids"]})  # the others have no mean
    for number, state in enumerate([*got, model.state_dict()]):
        last = snapshots[:4] if number == 0 else snapshots[4:]
        for name, tensor in state.items():
            rows = used if name == embedding else slice(None)
            mean = torch.stack([snapshot[name] for snapshot in last[-steps:]]).mean(0)
            torch.testing.assert_close(tensor[rows], mean[rows], rtol=1e-9, atol=1e-9, msg=name)


def test_the_mean_is_exact_in_the_type_of_the_weights() -> None:
    settings = dataclasses.replace(SETTINGS, average_last=1.0, epochs=1)
    model, snapshots = small_task_model("bert", "token", torch.float32), []
    learner = Learner(model, "token", in_bf16())
    learner.after_step = lambda: snapshots.append(model.classifier.weight.detach().clone())
    learner.fit(features("token"), settings, seed=3, after_epoch=lambda number: None)
    learner.close()
    torch.testing.assert_close(model.classifier.weight.detach(), torch.stack(snapshots).mean(0), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_training_ends_when_it_is_told_to_and_is_then_one_of_that_length(share: float) -> None:
    settings = dataclasses.replace(SETTINGS, epochs=6, schedule="constant_with_warmup", average_last=share)
    model = small_task_model("bert", "token")
    learner = Learner(model, "token", plan())
    outcome = learner.fit(features("token"), settings, seed=3, after_epoch=lambda number: number == 2)
    learner.close()
    short = fitted(small_task_model("bert", "token"), "token", plan(), dataclasses.replace(settings, stop_after=2))
    assert outcome.steps == short[0].steps == 8
    assert_close(dict(model.state_dict()), short[1], 0)


@pytest.mark.parametrize("head", ["token", "sequence", "span"])
def test_micro_batches_and_replicas_change_nothing(head: str, monkeypatch) -> None:
    monkeypatch.setattr(learners, "_ONE_PIECE", 60)  # of the batches with two replicas, some are cut and some are not
    model = small_task_model("bert", head, **NO_DROPOUT["bert"])
    results = [
        fitted(copy.deepcopy(model), head, plan(tokens=tokens, replicas=replicas))[1]
        for tokens, replicas in ((10_000, 1), (1, 1), (50, 2))
    ]
    assert_close(results[1], results[0])
    assert_close(results[2], results[0])


def freeze(model) -> None:
    model.bert.encoder.layer[0].attention.self.query.weight.requires_grad_(False)
    model.get_input_embeddings().weight.requires_grad_(False)


def share(model) -> None:
    """Two layers with one matrix, joined with others in each."""
    first, second = (model.bert.encoder.layer[i].attention.self for i in (0, 1))
    second.query.weight = first.query.weight


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("change", [freeze, share])
def test_frozen_and_shared_weights_are_trained_as_plainly(change, fast: bool) -> None:
    model = small_task_model("bert", "token", **NO_DROPOUT["bert"])
    change(model)
    plain, start = copy.deepcopy(model), copy.deepcopy(model.state_dict())
    plain_training(plain, features("token"), SETTINGS, seed=3)
    _, got = fitted(model, "token", plan(fast=fast))
    assert_close(got, dict(plain.state_dict()))
    same = {name for name in start if torch.equal(got[name], start[name])}
    assert same == {name for name, parameter in plain.named_parameters() if not parameter.requires_grad}


def test_a_training_that_breaks_off_leaves_a_whole_model(tmp_path) -> None:
    model = small_task_model("bert", "token")
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    learner, steps = Learner(model, "token", plan()), []

    def interrupt() -> None:
        steps.append(1)
        if len(steps) == 2:
            raise KeyboardInterrupt

    learner.after_step = interrupt
    with pytest.raises(KeyboardInterrupt):
        learner.fit(features("token"), SETTINGS, seed=1, after_epoch=lambda number: None)
    assert {name: parameter.shape for name, parameter in model.named_parameters()} == shapes
    model.save_pretrained(tmp_path)
    learner.after_step = lambda: None
    assert learner.fit(features("token"), SETTINGS, seed=1, after_epoch=lambda number: None).steps == 8


def test_a_batch_of_few_tokens_is_computed_in_one_piece() -> None:
    data = features("token")
    learner = Learner(small_task_model("bert", "token"), "token", plan(replicas=2, tokens=4096))
    pieces = []
    plain = learner.objective_inputs
    learner.objective_inputs = lambda features, parts: pieces.append(len(parts)) or plain(features, parts)
    tokens = sum(len(feature["input_ids"]) for feature in data)
    descent = Descent(learner.objective, data, SETTINGS)
    data = [{**feature, "input_ids": descent.vocabulary.renumbered(feature["input_ids"])} for feature in data]
    with descent.epoch():
        for copies in (1, learners._ONE_PIECE // tokens + 1):
            learner._backward(descent, data * copies, stream=(0, copies))
    learner.close()
    assert pieces == [1, 2]


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    runs = [fitted(small_task_model("bert", "token"), "token", plan(replicas=2), seed=seed)[1] for seed in (1, 1, 2)]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert any(not torch.equal(runs[0][name], runs[2][name]) for name in runs[0])


def in_bf16(*, replicas: int = 1) -> ComputePlan:
    return ComputePlan(torch.bfloat16, True, replicas, 4096, 0.0, "test")


def gradient(machine: ComputePlan, model_type: str) -> torch.Tensor:
    """Return the gradient of a batch's loss by all weights, without dropout."""
    model = small_task_model(model_type, "token", **NO_DROPOUT[model_type])
    if machine.dtype == torch.bfloat16:
        model.float()
    learner, data = Learner(model, "token", machine), features("token")
    descent = Descent(learner.objective, data, SETTINGS)
    data = [{**feature, "input_ids": descent.vocabulary.renumbered(feature["input_ids"])} for feature in data]
    learner.objective.train()
    with descent.epoch():
        learner._backward(descent, data, stream=(0, 0))
        flat = torch.cat([vector.double() for vector in descent._flat.gradients])
    learner.close()
    return flat


@MODELS
def test_compiled_loops_are_as_exact_as_torch_in_bfloat16(model_type: str, monkeypatch) -> None:
    exact = gradient(plan(tokens=4096), model_type)
    compiled_ = (gradient(in_bf16(), model_type) - exact).norm() / exact.norm()
    monkeypatch.setenv(compiled.OFF, "1")
    plain = (gradient(in_bf16(), model_type) - exact).norm() / exact.norm()
    assert 0 < float(compiled_) < max(1.2 * float(plain), 0.02) < 0.1


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_same_seed_gives_the_same_bits_in_bfloat16(replicas: int, monkeypatch) -> None:
    monkeypatch.setattr(learners, "_ONE_PIECE", 0)
    machine = in_bf16(replicas=replicas)
    models = [small_task_model("bert", "token", torch.float32) for _ in range(3)]
    runs = [fitted(model, "token", machine, seed=seed)[1] for model, seed in zip(models, (1, 1, 2), strict=True)]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert any(not torch.equal(runs[0][name], runs[2][name]) for name in runs[0])


@MODELS
@pytest.mark.parametrize("head", ["token", "sequence", "span"])
def test_other_inputs_of_a_batch_do_not_change_predictions(model_type: str, head: str) -> None:
    model = small_task_model(model_type, head)
    data = [{k: v for k, v in f.items() if k in ("input_ids", "example")} for f in features(head)]
    learner = Learner(model, head, plan(replicas=2))
    together = learner.logits(data)
    backwards = learner.logits(data[::-1])[::-1]
    alone = [learner.logits([feature])[0] for feature in data]
    learner.close()
    for feature, a, b, c in zip(data, together, backwards, alone, strict=True):
        assert (
            a.shape
            == {"token": (len(feature["input_ids"]), 3), "sequence": (3,), "span": (len(feature["input_ids"]), 2)}[head]
        )
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(c, a, rtol=1e-4, atol=1e-5)


def test_the_model_may_predict_between_epochs() -> None:
    model = small_task_model("bert", "token")
    learner, seen = Learner(model, "token", plan()), []
    unseen = [{"input_ids": [2, VOCABULARY - 1, VOCABULARY - 2, 3], "example": 0}]
    learner.fit(features("token"), SETTINGS, seed=1, after_epoch=lambda n: seen.append((n, learner.logits(unseen)[0])))
    assert [n for n, _ in seen] == [1, 2]
    np.testing.assert_array_equal(seen[-1][1], learner.logits(unseen)[0])
    undisturbed = fitted(small_task_model("bert", "token"), "token", plan(), seed=1)[1]
    assert_close(dict(model.state_dict()), undisturbed, 0)


def test_stopping_early_keeps_the_schedule() -> None:
    early = FinetuneHyperparameters(**{**vars(SETTINGS), "stop_after": 1})
    states: list[dict] = []
    model = small_task_model("bert", "token")
    learner = Learner(model, "token", plan())
    learner.fit(
        features("token"),
        SETTINGS,
        seed=1,
        after_epoch=lambda n: states.append({k: v.clone() for k, v in model.state_dict().items()}),
    )
    outcome, got = fitted(small_task_model("bert", "token"), "token", plan(), early, seed=1)
    assert outcome.steps == 4
    assert_close(got, states[0], 0)


@pytest.mark.parametrize("model_type", NO_DROPOUT)
def test_what_is_decayed_is_what_the_trainer_decays(model_type: str, tmp_path) -> None:
    model = small_task_model(model_type, "sequence")
    trainer = Trainer(model=model, args=TrainingArguments(output_dir=str(tmp_path), weight_decay=0.01, report_to=[]))
    theirs = trainer.create_optimizer().param_groups
    ours = decay_groups(model, 0.01)
    for mine, wanted in zip(ours, theirs, strict=True):
        assert mine["weight_decay"] == wanted["weight_decay"]
        assert {id(p) for p in mine["params"]} == {id(p) for p in wanted["params"]}


def test_divergence_is_an_error() -> None:
    model = small_task_model("bert", "token")
    with pytest.raises(UserError, match="training has diverged"):
        fitted(model, "token", plan(), FinetuneHyperparameters(1e9, epochs=40, max_grad_norm=1e9, batch_size=2))


def test_a_model_that_broke_in_its_last_step_has_diverged() -> None:
    """Its last loss was finite; its predictions would all be the first label."""
    model = small_task_model("bert", "token")
    with torch.no_grad():
        model.classifier.bias[0] = float("nan")
    learner = Learner(model, "token", plan())
    with pytest.raises(learners.Diverged, match="not finite"):
        learner.logits(features("token"))
    learner.close()
