"""Taps of transformers' modules, against their eager forward and against the fast encoder."""

import threading

import pytest
import torch
from small_models import SIZES, VOCABULARY, random_batch, small_model
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

from compact_biomed.engine import taps as module_taps
from compact_biomed.engine.taps import FEATURES, NO_TAPS, VECTORS, Taps, module_with_taps
from compact_biomed.errors import UserError
from compact_biomed.objectives.mlm import MaskedLM

MODELS = pytest.mark.parametrize("model_type", SIZES)
LENGTHS = [20, 13, 1, 7]
LAYERS = range(3)
EVERYTHING = Taps.of([("hidden", i) for i in range(4)] + [(feature, i) for feature in FEATURES[1:] for i in LAYERS])


def base_of(model):
    return getattr(model, model.base_model_prefix)


def eager(model, ids, mask):
    """Hidden states and maps as transformers itself returns them."""
    before = model.config._attn_implementation
    model.config._attn_implementation = "eager"
    try:
        return base_of(model)(ids, attention_mask=mask, output_attentions=True, output_hidden_states=True)
    finally:
        model.config._attn_implementation = before


def gradients(loss, model) -> dict[str, torch.Tensor]:
    named = dict(model.named_parameters())
    gradients_or_none = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {
        n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named.items(), gradients_or_none, strict=True)
    }


def assert_same_gradients(got, expected, tolerance: float = 1e-9) -> None:
    assert any(g.any() for g in expected.values())
    for name, gradient in expected.items():
        assert float((got[name] - gradient).abs().max()) <= tolerance * max(float(gradient.abs().max()), 1.0), name


def real_part(feature: str, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What belongs to real tokens alone, in one order for every layout; columns of padding are cut to 0."""
    if feature == "hidden":
        return x if x.dim() == 2 else x[mask.bool()]
    if feature not in VECTORS:
        x = x.masked_fill(mask[:, None, None] == 0, 0)
    return x.transpose(1, 2)[mask.bool()]


def weighted(tapped, mask: torch.Tensor) -> torch.Tensor:
    """A scalar in which every real cell of every feature has a weight of its own."""
    generator = torch.Generator().manual_seed(3)
    total = 0
    for feature in FEATURES:
        for number in sorted(tapped[feature]):
            x = real_part(feature, tapped[feature][number], mask)
            total = total + (x * torch.randn(x.shape, generator=generator, dtype=x.dtype)).sum()
    return total


@MODELS
@pytest.mark.parametrize("feature", FEATURES)
def test_the_fast_encoder_sees_the_same(model_type: str, feature: str) -> None:
    model = small_model(model_type)
    ids, mask, labels = random_batch(LENGTHS, 20)
    taps = Taps.of((feature, i) for i in (range(4) if feature == "hidden" else LAYERS))
    seen = []
    for fast in (True, False):
        masked_lm = MaskedLM(model, dtype=torch.float64, fast=fast)
        weights = masked_lm.cast(masked_lm.prepare()) if fast else None
        states, tapped = masked_lm.with_taps(ids, mask, labels != -100, taps, prepared=weights, training=False)
        loss = weighted(tapped, mask) + states.square().sum()
        seen.append((states, tapped, gradients(loss, model)))
    (states, fast, of_fast), (module_states, slow, of_slow) = seen
    torch.testing.assert_close(module_states, states, rtol=1e-10, atol=1e-10)
    assert fast[feature].keys() == slow[feature].keys()
    for number, x in fast[feature].items():
        ours, theirs = (real_part(feature, y, mask) for y in (x, slow[feature][number]))
        torch.testing.assert_close(theirs, ours, rtol=1e-10, atol=1e-10)
    assert_same_gradients(of_slow, of_fast)


@MODELS
@pytest.mark.parametrize("lengths", [LENGTHS, [9, 9]], ids=["padded", "full"])
def test_it_is_what_eager_modules_return(model_type: str, lengths: list[int]) -> None:
    """Values and gradients, those of padding included: this is the same computation."""
    model = small_model(model_type)
    ids, mask, labels = random_batch(lengths, max(lengths))
    expected = eager(model, ids, mask)
    states, tapped = module_with_taps(base_of(model), ids, mask, labels != -100, EVERYTHING)
    torch.testing.assert_close(states, expected.last_hidden_state[labels != -100], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(tapped["hidden"][3], expected.last_hidden_state, rtol=1e-10, atol=1e-10)
    for i in range(4):
        torch.testing.assert_close(tapped["hidden"][i], expected.hidden_states[i], rtol=1e-10, atol=1e-10)
    for i in LAYERS:
        torch.testing.assert_close(tapped["attention"][i], expected.attentions[i], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(tapped["scores"][i].softmax(-1), expected.attentions[i], rtol=1e-10, atol=1e-10)
        assert torch.isfinite(tapped["scores"][i]).all()
        assert torch.isfinite(tapped["values"][i]).all()
    weights = torch.randn(expected.attentions[0].shape, dtype=torch.float64)
    got = gradients(sum((tapped["attention"][i] * weights).sum() for i in LAYERS), model)
    assert_same_gradients(got, gradients(sum((x * weights).sum() for x in expected.attentions), model))


@MODELS
def test_maps_of_other_layers_are_never_made(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(model_type)
    ids, mask, labels = random_batch(LENGTHS, 20)
    fused, plain = [], module_taps.sdpa_attention_forward
    monkeypatch.setattr(module_taps, "sdpa_attention_forward", lambda *a, **k: fused.append(1) or plain(*a, **k))
    taps = Taps.of([("attention", 1), ("values", 2), ("keys", 0), ("hidden", 2)])
    _, tapped = module_with_taps(base_of(model), ids, mask, labels != -100, taps)
    numbers = {feature: list(by_number) for feature, by_number in tapped.items() if by_number}
    assert numbers == {"hidden": [2], "attention": [1], "keys": [0], "values": [2]}
    assert len(fused) == 2


@MODELS
def test_without_taps_the_model_is_left_alone(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(model_type)
    ids, mask, labels = random_batch(LENGTHS, 20)
    monkeypatch.setattr(module_taps, "_attention", None)
    for taps, states in ((NO_TAPS, []), (Taps.of([("hidden", 0)]), [0])):
        rows, tapped = module_with_taps(base_of(model), ids, mask, labels != -100, taps)
        assert list(tapped["hidden"]) == states
        expected = base_of(model)(ids, attention_mask=mask).last_hidden_state[labels != -100]
        torch.testing.assert_close(rows, expected, rtol=0, atol=0)


@MODELS
def test_maps_after_dropout_are_those_that_the_context_goes_through(model_type: str) -> None:
    """Against the eager modules with the same draws."""
    rate = {"distilbert": {"attention_dropout": 0.4, "dropout": 0.2}}.get(model_type)
    rate = rate or {"attention_probs_dropout_prob": 0.4, "hidden_dropout_prob": 0.2 * (model_type == "bert")}
    model = small_model(model_type, **rate).train()
    ids, mask, labels = random_batch(LENGTHS, 20)
    pairs = [("attention", i) for i in LAYERS]
    torch.manual_seed(5)
    expected = eager(model, ids, mask)
    torch.manual_seed(5)
    states, dropped = module_with_taps(base_of(model), ids, mask, labels != -100, Taps.of(pairs, after_dropout=True))
    torch.testing.assert_close(states, expected.last_hidden_state[labels != -100], rtol=1e-10, atol=1e-10)
    torch.manual_seed(5)
    same_states, whole = module_with_taps(base_of(model), ids, mask, labels != -100, Taps.of(pairs))
    torch.testing.assert_close(same_states, states, rtol=0, atol=0)
    for i in LAYERS:
        torch.testing.assert_close(dropped["attention"][i], expected.attentions[i], rtol=1e-10, atol=1e-10)
        keep = dropped["attention"][i] != 0
        torch.testing.assert_close(dropped["attention"][i], whole["attention"][i] * keep / 0.6)
        assert 0.3 < float((~keep)[whole["attention"][i] > 0].double().mean()) < 0.5


@MODELS
def test_nothing_is_left_behind(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(model_type, attn_implementation="eager")
    ids, mask, labels = random_batch(LENGTHS, 20)
    module_with_taps(base_of(model), ids, mask, labels != -100, EVERYTHING)
    assert model.config._attn_implementation == "eager"

    def fails(*_):
        raise RuntimeError("in the middle")

    monkeypatch.setattr(module_taps._Collector, "next_layer", fails)
    with pytest.raises(RuntimeError, match="in the middle"):
        module_with_taps(base_of(model), ids, mask, labels != -100, EVERYTHING)
    assert model.config._attn_implementation == "eager"


def test_threads_with_one_model_do_not_mix() -> None:
    model = small_model("bert")
    batches = [random_batch([20, 3 + seed], 20, seed=seed) for seed in range(4)]
    taps = [Taps.of([("attention", seed % 3), ("values", 0)]) for seed in range(4)]

    def compute(i: int):
        ids, mask, labels = batches[i]
        with torch.no_grad():
            return module_with_taps(base_of(model), ids, mask, labels != -100, taps[i])

    expected, got = [compute(i) for i in range(4)], {}
    threads = [threading.Thread(target=lambda i=i: got.update({i: compute(i)})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert model.config._attn_implementation == "sdpa"
    for i, (states, tapped) in enumerate(expected):
        torch.testing.assert_close(got[i][0], states)
        assert got[i][1]["attention"].keys() == {i % 3}
        torch.testing.assert_close(got[i][1]["attention"][i % 3], tapped["attention"][i % 3])


@MODELS
def test_bf16_autocast_is_finite_and_near(model_type: str) -> None:
    model = small_model(model_type, torch.float32)
    ids, mask, labels = random_batch(LENGTHS, 20)
    _, exact = module_with_taps(base_of(model), ids, mask, labels != -100, EVERYTHING)
    masked_lm = MaskedLM(model, dtype=torch.bfloat16, fast=False)
    states, rounded = masked_lm.with_taps(ids, mask, labels != -100, EVERYTHING, prepared=None, training=False)
    assert rounded["values"][1].dtype == rounded["scores"][1].dtype == torch.bfloat16
    for i in LAYERS:
        assert torch.isfinite(rounded["scores"][i]).all()
        assert float((rounded["attention"][i].float() - exact["attention"][i]).detach().abs().max()) < 0.05
    got = gradients(weighted(rounded, mask) + states.float().sum(), model)
    assert all(torch.isfinite(g).all() for g in got.values())


SMALL = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}


def other_model(model_type: str, **options):
    torch.manual_seed(0)
    sizes = SMALL | {"vocab_size": VOCABULARY, "max_position_embeddings": 64} | options
    return AutoModelForMaskedLM.from_config(AutoConfig.for_model(model_type, **sizes)).double().eval()


@pytest.mark.parametrize(("model_type", "option"), [("roberta", {}), ("electra", {"embedding_size": 16})])
def test_kin_of_bert_shows_its_attention_too(model_type: str, option: dict) -> None:
    model = other_model(model_type, **option)
    ids, mask, labels = random_batch([12, 5], 12)
    taps = Taps.of([("attention", 0), ("attention", 1), ("hidden", 0), ("hidden", 2)])
    states, tapped = module_with_taps(base_of(model), ids, mask, labels != -100, taps)
    expected = eager(model, ids, mask)
    torch.testing.assert_close(states, expected.last_hidden_state[labels != -100], rtol=1e-10, atol=1e-10)
    for i in (0, 1):
        torch.testing.assert_close(tapped["attention"][i], expected.attentions[i], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(tapped["hidden"][2 * i], expected.hidden_states[2 * i], rtol=1e-10, atol=1e-10)


def test_what_does_not_show_its_attention_is_refused() -> None:
    model = other_model("deberta-v2", relative_attention=True, pos_att_type=["p2c", "c2p"])
    ids, mask, labels = random_batch([12, 5], 12)
    with pytest.raises(UserError, match=r"DebertaV2Model.*mobilebert"):
        module_with_taps(base_of(model), ids, mask, labels != -100, Taps.of([("scores", 0)]))
    states, tapped = module_with_taps(base_of(model), ids, mask, labels != -100, Taps.of([("hidden", 1)]))
    assert (states.shape[1], tapped["hidden"][1].shape) == (16, (2, 12, 16))


def test_a_decoder_is_refused() -> None:
    model = AutoModel.from_config(AutoConfig.for_model("bert", vocab_size=VOCABULARY, is_decoder=True, **SMALL))
    ids, mask, labels = random_batch([12, 12], 12)
    with pytest.raises(UserError, match="BertModel"):
        module_with_taps(model, ids, mask, labels != -100, Taps.of([("attention", 0)]))


def test_a_model_that_calls_attention_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never maps of fewer layers, nor of other ones, than were asked for."""
    model = small_model("bert")
    ids, mask, labels = random_batch([12, 5], 12)
    monkeypatch.setattr(model.config, "num_hidden_layers", 4)
    with pytest.raises(UserError, match="BertModel"):
        module_with_taps(base_of(model), ids, mask, labels != -100, Taps.of([("attention", 0)]))
