"""The fast encoders compute what transformers' own modules compute: losses, logits, every gradient."""

import pytest
import torch
from small_models import SIZES, VOCABULARY, random_batch, small_model
from torch.nn import functional as F

from compact_biomed.engine.encoders import is_supported
from compact_biomed.objectives.mlm import MaskedLM

MODELS = pytest.mark.parametrize("model_type", SIZES)


def gradients(model) -> dict[str, torch.Tensor]:
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}


def reference(model, ids, mask, labels):
    """Loss, logits of the labeled rows and gradients by the forward of transformers alone."""
    model.zero_grad()
    logits = model(input_ids=ids, attention_mask=mask).logits
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
    loss.backward()
    return loss.detach(), logits[labels != -100].detach(), gradients(model)


def ours(model, ids, mask, labels, **options):
    model.zero_grad()
    objective = MaskedLM(model, **options).eval()
    output = objective(ids, mask, labels)
    output.loss_sum.backward()
    with torch.no_grad():
        logits = objective.logits(ids, mask, labels != -100)
    return output, logits, gradients(model)


def assert_same_gradients(got, expected, tolerance: float) -> None:
    assert set(got) == set(expected)
    for name, gradient in expected.items():
        scale = max(float(gradient.abs().max()), 1.0)
        assert float((got[name] - gradient).abs().max()) <= tolerance * scale, name


@MODELS
@pytest.mark.parametrize("lengths", [[20, 20, 20], [20, 13, 1, 7]], ids=["full", "padded"])
def test_float64_equals_transformers(model_type: str, lengths: list[int]) -> None:
    model = small_model(model_type)
    batch = random_batch(lengths, 20)
    loss, logits, expected = reference(model, *batch)
    output, our_logits, got = ours(model, *batch, dtype=torch.float64)
    assert output.rows == len(logits) > 10
    assert int(output.correct) == int((logits.argmax(-1) == batch[2][batch[2] != -100]).sum())
    torch.testing.assert_close(our_logits, logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(output.loss_sum.detach(), loss, rtol=1e-9, atol=0)
    assert_same_gradients(got, expected, 1e-9)
    # Nothing was compared with zero by mistake: all that the loss depends on has a gradient.
    unused = [n for n, g in expected.items() if not g.any()]
    assert all("pooler" in name for name in unused), unused


@MODELS
def test_documents_without_masked_tokens_only_add_context(model_type: str) -> None:
    model = small_model(model_type)
    ids, mask, labels = random_batch([20, 13, 9], 20)
    labels[1] = -100
    _, logits, expected = reference(model, ids, mask, labels)
    _, our_logits, got = ours(model, ids, mask, labels, dtype=torch.float64)
    torch.testing.assert_close(our_logits, logits, rtol=1e-9, atol=1e-9)
    assert_same_gradients(got, expected, 1e-9)


@MODELS
def test_no_attention_mask_means_no_padding(model_type: str) -> None:
    model = small_model(model_type)
    ids, mask, labels = random_batch([16, 16], 16)
    with_mask, _, a = ours(model, ids, mask, labels, dtype=torch.float64)
    without, _, b = ours(model, ids, None, labels, dtype=torch.float64)
    torch.testing.assert_close(with_mask.loss_sum, without.loss_sum, rtol=1e-12, atol=0)
    assert_same_gradients(a, b, 1e-11)


@MODELS
def test_float32_within_rounding(model_type: str) -> None:
    batch = random_batch([48, 31, 17], 48)
    loss, _, _ = reference(small_model(model_type, torch.float32), *batch)
    output, _, _ = ours(small_model(model_type, torch.float32), *batch)
    assert abs(output.loss_sum.item() / loss.item() - 1) < 1e-6


@MODELS
def test_bf16_loss_within_a_thousandth(model_type: str) -> None:
    """At a moderate size, where single roundings average out as they do in training."""
    heads = {"n_heads" if model_type == "distilbert" else "num_attention_heads": 4}
    wide = {"bert": {"hidden_size": 128}, "distilbert": {"dim": 128}, "mobilebert": {"hidden_size": 128}}[model_type]
    model = small_model(model_type, torch.float32, vocab_size=2000, initializer_range=0.02, **heads, **wide)
    torch.manual_seed(2)
    with torch.no_grad():  # the size of weights in training, not the perturbed ones
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn_like(parameter) * 0.02)
    batch = random_batch([64] * 12, 64, vocabulary=2000)
    exact, _, _ = ours(model, *batch)
    rounded, _, _ = ours(model, *batch, dtype=torch.bfloat16)
    assert rounded.loss_sum.dtype == torch.float32
    assert abs(rounded.loss_sum.item() / exact.loss_sum.item() - 1) < 1e-3


@MODELS
def test_more_padding_changes_nothing(model_type: str) -> None:
    model = small_model(model_type)
    # MobileBERT's last token sees the embedding of what follows: nothing, or one [PAD]. That is its
    # architecture; so every document here is followed by one [PAD] in both batches.
    ids, mask, labels = random_batch([19, 13, 7], 20)
    short, _, a = ours(model, ids, mask, labels, dtype=torch.float64)
    longer = (F.pad(ids, (0, 9)), F.pad(mask, (0, 9)), F.pad(labels, (0, 9), value=-100))
    long, _, b = ours(model, *longer, dtype=torch.float64)
    torch.testing.assert_close(long.loss_sum, short.loss_sum, rtol=1e-12, atol=0)
    assert_same_gradients(b, a, 1e-11)


@MODELS
def test_a_batch_is_the_sum_of_its_parts(model_type: str) -> None:
    model = small_model(model_type)
    batch = random_batch([20, 13, 7, 18], 20)
    whole, _, expected = ours(model, *batch, dtype=torch.float64)
    total, sums = 0.0, {name: torch.zeros_like(g) for name, g in expected.items()}
    for rows in (slice(0, 1), slice(1, 4)):
        part, _, got = ours(model, *(x[rows] for x in batch), dtype=torch.float64)
        total += part.loss_sum
        sums = {name: sums[name] + g for name, g in got.items()}
    torch.testing.assert_close(total, whole.loss_sum, rtol=1e-12, atol=0)
    assert_same_gradients(sums, expected, 1e-11)


@MODELS
@pytest.mark.parametrize("fast", [True, False])
def test_a_batch_without_labels_is_worth_nothing(model_type: str, fast: bool) -> None:
    model = small_model(model_type)
    ids, mask, labels = random_batch([9, 4], 9)
    output, logits, got = ours(model, ids, mask, torch.full_like(labels, -100), dtype=torch.float64, fast=fast)
    assert (output.loss_sum.item(), int(output.correct), output.rows) == (0.0, 0, 0)
    assert logits.shape == (0, VOCABULARY)
    assert all(not g.any() for g in got.values())  # NaN would count as any


@MODELS
def test_the_modules_of_transformers_serve_as_fallback(model_type: str) -> None:
    model = small_model(model_type)
    batch = random_batch([20, 13], 20)
    loss, logits, expected = reference(model, *batch)
    output, our_logits, got = ours(model, *batch, dtype=torch.float64, fast=False)
    torch.testing.assert_close(our_logits, logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(output.loss_sum.detach(), loss, rtol=1e-9, atol=0)
    assert_same_gradients(got, expected, 1e-9)


UNSUPPORTED = [
    ("mobilebert", {"normalization_type": "layer_norm"}),
    ("mobilebert", {"hidden_act": "gelu"}),
    ("mobilebert", {"hidden_dropout_prob": 0.1}),
    ("mobilebert", {"use_bottleneck_attention": True}),
]


@pytest.mark.parametrize(("model_type", "option"), UNSUPPORTED)
def test_what_the_fast_encoder_does_not_know_is_left_to_transformers(model_type: str, option: dict) -> None:
    model = small_model(model_type, **option)
    assert not is_supported(model.config)
    objective = MaskedLM(model, dtype=torch.float64)
    assert not objective.fast
    batch = random_batch([12, 5], 12)
    loss, _, _ = reference(model, *batch)
    output, _, _ = ours(model, *batch, dtype=torch.float64)
    torch.testing.assert_close(output.loss_sum.detach(), loss, rtol=1e-9, atol=0)


SUPPORTED = [
    ("mobilebert", {"trigram_input": False}),
    ("mobilebert", {"num_feedforward_networks": 1}),
    ("bert", {"hidden_act": "relu"}),
    ("bert", {"tie_word_embeddings": False}),
    ("distilbert", {"activation": "relu"}),
    ("distilbert", {"sinusoidal_pos_embds": True}),
    ("distilbert", {"tie_word_embeddings": False}),
]


@pytest.mark.parametrize(("model_type", "option"), SUPPORTED)
def test_options_that_the_fast_encoder_claims_to_support(model_type: str, option: dict) -> None:
    model = small_model(model_type, **option)
    assert is_supported(model.config)
    batch = random_batch([20, 13], 20)
    loss, _, expected = reference(model, *batch)
    output, _, got = ours(model, *batch, dtype=torch.float64)
    torch.testing.assert_close(output.loss_sum.detach(), loss, rtol=1e-9, atol=0)
    assert_same_gradients(got, expected, 1e-9)
