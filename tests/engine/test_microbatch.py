"""How a batch is cut up, and how many cores compute it, changes nothing that is learned."""

import pytest
import torch
from small_models import SIZES, VOCABULARY, small_model

from compact_biomed.engine.microbatch import Replicas, prediction_groups, split, training_groups
from compact_biomed.objectives.mlm import MaskedLM

NO_DROPOUT = {
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "distilbert": {"dropout": 0.0, "attention_dropout": 0.0},
    "mobilebert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
}

pytestmark = pytest.mark.usefixtures("one_thread")


MODELS = pytest.mark.parametrize("model_type", SIZES)


def objective_of(model_type: str, dtype: torch.dtype = torch.float64, *, fast: bool = True, **options) -> MaskedLM:
    weights = torch.float64 if dtype == torch.float64 else torch.float32
    model = small_model(model_type, weights, max_position_embeddings=96, **options)
    return MaskedLM(model, dtype=dtype, fast=fast).train()


def batch(lengths: list[int] | None = None, width: int = 96) -> dict[str, torch.Tensor]:
    lengths = lengths or [90, 5, 33, 64, 17, 48, 95, 32, 60, 20]
    generator = torch.Generator().manual_seed(1)
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, VOCABULARY, mask.shape, generator=generator) * mask
    chosen = (torch.rand(mask.shape, generator=generator) < 0.15) & mask.bool()
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.where(chosen, ids, -100)}


def gradient_of(objective: MaskedLM, *, tokens: int, replicas: int = 1, scale: float = 0.1):
    objective.zero_grad(set_to_none=True)
    engine = Replicas(objective, replicas)
    result = engine.backward(split(**batch(), tokens=tokens), scale=scale, stream=(42, 7))
    engine.close()
    return result, {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("tokens", [1, 64, 100, 256, 10_000])
def test_split_takes_each_document_once(tokens: int) -> None:
    data = batch()
    parts = split(**data, tokens=tokens)
    documents = []
    for ids, mask, labels in parts:
        assert ids.numel() <= tokens + 2 * 96  # memory stays near the budget
        assert ids.shape[1] % 32 == 0
        assert mask is None or not mask.all()
        for row in range(len(ids)):
            length = ids.shape[1] if mask is None else int(mask[row].sum())
            documents.append((ids[row, :length].tolist(), labels[row, :length].tolist()))
            assert (labels[row, length:] == -100).all()
    lengths = data["attention_mask"].sum(1)
    expected = [(data["input_ids"][i, :n].tolist(), data["labels"][i, :n].tolist()) for i, n in enumerate(lengths)]
    assert sorted(documents) == sorted(expected)


def test_prediction_groups_take_each_document_once_in_few_shapes() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes, otherwise = set(), set()
    for _ in range(50):  # of 1,000 answers each
        lengths = torch.randint(3, 320, (1000,), generator=generator)
        parts = prediction_groups(lengths, widest=512, tokens=8192)
        assert sorted(torch.cat([rows for rows, _ in parts]).tolist()) == list(range(1000))
        for rows, width in parts:
            assert lengths[rows].max() < width and width % 32 == 0 and len(rows) * width <= 8192
            shapes.add((len(rows), width))
        otherwise |= {(len(rows), width) for rows, width in training_groups(lengths, widest=512, tokens=8192)}
    assert 3 * len(shapes) < len(otherwise)
    assert prediction_groups(torch.tensor([512, 512]), widest=512, tokens=100)[0][1] == 512  # over budget


@MODELS
@pytest.mark.parametrize("fast", [True, False])
def test_the_token_budget_changes_nothing(model_type: str, fast: bool) -> None:
    objective = objective_of(model_type, fast=fast, **NO_DROPOUT[model_type])
    whole, expected = gradient_of(objective, tokens=10_000)
    for tokens in (1, 100, 300):
        result, got = gradient_of(objective, tokens=tokens)
        assert (result.rows, result.correct) == (whole.rows, whole.correct)
        assert result.loss_sum == pytest.approx(whole.loss_sum, rel=1e-12)
        assert set(got) == set(expected)
        for name in expected:
            torch.testing.assert_close(got[name], expected[name], rtol=1e-9, atol=1e-12, msg=name)


@MODELS
def test_it_is_the_gradient_of_the_mean_loss(model_type: str) -> None:
    """Against the model of transformers with its own loss."""
    objective = objective_of(model_type, **NO_DROPOUT[model_type])
    data = batch()
    result, got = gradient_of(objective, tokens=100, scale=1 / int((data["labels"] != -100).sum()))
    objective.zero_grad(set_to_none=True)
    loss = objective.model(**data).loss
    loss.backward()
    assert result.loss_sum / result.rows == pytest.approx(loss.item(), rel=1e-9)
    for name, parameter in objective.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(got[name], parameter.grad, rtol=1e-7, atol=1e-11, msg=name)


@MODELS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dropout", [False, True])
def test_replicas_change_not_one_bit(model_type: str, dtype: torch.dtype, dropout: bool) -> None:
    """Nor do the threads' timing: each micro-batch has its own dropout stream and its place in the sum."""
    objective = objective_of(model_type, dtype, **({} if dropout else NO_DROPOUT[model_type]))
    one, expected = gradient_of(objective, tokens=100)
    for replicas in (2, 2, 3):
        result, got = gradient_of(objective, tokens=100, replicas=replicas)
        assert result == one
        assert all(torch.equal(got[name], expected[name]) for name in expected)
    other = Replicas(objective).backward(split(**batch(), tokens=100), scale=0.1, stream=(42, 8))
    # The step is in the stream; MobileBERT's draws are in its attention only, yet seen.
    assert (other.loss_sum != one.loss_sum) == dropout


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_batch_without_labels_has_no_gradient(dtype: torch.dtype) -> None:
    """Nothing was masked: the head sees no token, and sums over no rows are zero."""
    objective = objective_of("bert", dtype)
    content = batch()
    content["labels"] = torch.full_like(content["labels"], -100)
    result = Replicas(objective).backward(split(**content, tokens=256), scale=0.1, stream=(42, 7))
    assert result.loss_sum == 0
    assert all(not p.grad.any() for p in objective.parameters() if p.grad is not None)


def test_gradients_are_added_to_those_that_are_there() -> None:
    objective = objective_of("bert", **NO_DROPOUT["bert"])
    _, single = gradient_of(objective, tokens=100)
    Replicas(objective).backward(split(**batch(), tokens=100), scale=0.1, stream=(0,))
    for name, parameter in objective.named_parameters():
        if name in single:
            torch.testing.assert_close(parameter.grad, 2 * single[name], rtol=1e-12, atol=0)


@MODELS
def test_the_way_through_a_wrapper_gives_the_same(model_type: str) -> None:
    from contextlib import nullcontext

    objective = objective_of(model_type)  # with dropout: the same stream
    result, expected = gradient_of(objective, tokens=100)
    objective.zero_grad(set_to_none=True)
    held = []

    def hold():
        held.append(1)
        return nullcontext()

    parts = split(**batch(), tokens=100)
    loss = Replicas(objective).backward_wrapped(objective, parts, scale=0.1, stream=(42, 7), hold=hold)
    assert len(held) == len(parts) - 1  # the processes talk at the last one
    assert loss.loss_sum == pytest.approx(result.loss_sum, rel=1e-12)
    for name, parameter in objective.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-9, atol=1e-12, msg=name)


def test_modules_of_transformers_run_one_at_a_time() -> None:
    with pytest.raises(ValueError, match="fast encoder"):
        Replicas(objective_of("bert", fast=False), 2)
