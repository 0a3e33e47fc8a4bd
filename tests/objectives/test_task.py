"""Task models on the fast encoder compute what transformers' task models compute: logits, losses, every gradient."""

import pytest
import torch
from small_tasks import AUTO_CLASSES, SIZES, random_task_batch, small_task_model

from compact_biomed.objectives.task import TaskObjective

MODELS = pytest.mark.parametrize("model_type", SIZES)
HEADS = pytest.mark.parametrize("head", AUTO_CLASSES)


def gradients(model) -> dict[str, torch.Tensor]:
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}


def reference(model, head: str, ids, mask, types, targets):
    """Mean loss, logits and gradients by the forward of transformers alone, labels given."""
    model.zero_grad()
    inputs = {"input_ids": ids, "attention_mask": mask} | ({} if types is None else {"token_type_ids": types})
    if head == "span":
        output = model(**inputs, start_positions=targets[:, 0], end_positions=targets[:, 1])
        logits = torch.stack([output.start_logits, output.end_logits], -1)[mask.bool()]
    else:
        output = model(**inputs, labels=targets)
        logits = output.logits[targets != -100] if head == "token" else output.logits
    output.loss.backward()
    return output.loss.detach(), logits.detach(), gradients(model)


def ours(model, head: str, ids, mask, types, targets, **options):
    model.zero_grad()
    objective = TaskObjective(model, head, **options).eval()
    output = objective(ids, mask, types, targets)
    (output.loss_sum / max(output.rows, 1)).backward()
    with torch.no_grad():
        seen = torch.ones_like(ids) if mask is None else mask
        logits = objective.logits(ids, mask, types, objective.head.loss_positions(seen, targets))
    return output.loss_sum.detach() / max(output.rows, 1), logits, gradients(model)


def assert_same(got, expected, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(got[0], expected[0], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(got[1], expected[1], rtol=tolerance, atol=tolerance)
    assert set(got[2]) == set(expected[2])
    for name, gradient in expected[2].items():
        torch.testing.assert_close(got[2][name], gradient, rtol=tolerance, atol=tolerance, msg=name)


@MODELS
@HEADS
@pytest.mark.parametrize("fast", [True, False])
def test_float64_equals_transformers(model_type: str, head: str, fast: bool) -> None:
    model = small_task_model(model_type, head)
    lengths = [20, 20, 20] if head == "span" else [20, 13, 5, 7]  # transformers' span loss takes in the padding
    batch = random_task_batch(model_type, head, lengths, 20)
    expected = reference(model, head, *batch)
    assert_same(ours(model, head, *batch, dtype=torch.float64, fast=fast), expected)
    unused = [name for name, gradient in expected[2].items() if not gradient.any()]
    assert not unused  # nothing was compared with zero by mistake


@MODELS
@HEADS
def test_more_padding_and_other_company_change_nothing(model_type: str, head: str) -> None:
    model = small_task_model(model_type, head)
    ids, mask, types, targets = random_task_batch(model_type, head, [19, 13, 7], 20)
    loss, logits, expected = ours(model, head, ids, mask, types, targets, dtype=torch.float64)
    pad = torch.nn.functional.pad
    wide = (pad(ids, (0, 9)), pad(mask, (0, 9)), None if types is None else pad(types, (0, 9)))
    wide_targets = pad(targets, (0, 9), value=-100) if head == "token" else targets
    assert_same(ours(model, head, *wide, wide_targets, dtype=torch.float64), (loss, logits, expected), 1e-11)
    alone = [
        ours(
            model,
            head,
            ids[i : i + 1],
            mask[i : i + 1],
            None if types is None else types[i : i + 1],
            targets[i : i + 1],
            dtype=torch.float64,
        )[1]
        for i in range(3)
    ]
    torch.testing.assert_close(torch.cat(alone), logits, rtol=1e-10, atol=1e-10)


@MODELS
@HEADS
def test_bf16_is_close_and_its_logits_are_float32(model_type: str, head: str) -> None:
    model = small_task_model(model_type, head, torch.float32)
    batch = random_task_batch(model_type, head, [20, 13, 5, 7], 20)
    exact, logits, _ = ours(model, head, *batch)
    rounded, rounded_logits, _ = ours(model, head, *batch, dtype=torch.bfloat16)
    assert rounded_logits.dtype == torch.float32
    assert (rounded_logits - logits).abs().max() < 0.05 * logits.abs().max().clamp(min=1)
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.02)


@pytest.mark.parametrize(
    ("model_type", "option"),
    [
        ("mobilebert", {"classifier_activation": False}),
        ("bert", {"classifier_dropout": 0.3}),
    ],
)
def test_options_of_the_heads(model_type: str, option: dict) -> None:
    model = small_task_model(model_type, "sequence", **option)
    batch = random_task_batch(model_type, "sequence", [20, 13], 20)
    assert_same(ours(model, "sequence", *batch, dtype=torch.float64), reference(model, "sequence", *batch))


def test_an_architecture_that_only_transformers_knows() -> None:
    model = small_task_model("electra", "token")
    objective = TaskObjective(model, "token", dtype=torch.float64)
    assert not objective.fast
    batch = random_task_batch("electra", "token", [20, 13], 20)
    assert_same(ours(model, "token", *batch, dtype=torch.float64), reference(model, "token", *batch))
