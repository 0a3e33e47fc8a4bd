"""What the fast encoders show of themselves, against transformers' eager modules."""

from functools import partial

import pytest
import torch
from small_models import SIZES, random_batch, small_model

from compact_biomed.engine import attention
from compact_biomed.engine.dropout import random_stream
from compact_biomed.engine.taps import FEATURES, VECTORS, Taps
from compact_biomed.objectives.mlm import MaskedLM

MODELS = pytest.mark.parametrize("model_type", SIZES)
LENGTHS = [20, 13, 1, 7]
LAYERS, LAST = range(3), 2
EVERYTHING = Taps.of([("hidden", i) for i in range(4)] + [(f, i) for f in FEATURES[1:] for i in LAYERS])
VECTOR_NAMES = {
    "queries": {"bert": "self.query", "mobilebert": "self.query", "distilbert": "q_lin"},
    "keys": {"bert": "self.key", "mobilebert": "self.key", "distilbert": "k_lin"},
    "values": {"bert": "self.value", "mobilebert": "self.value", "distilbert": "v_lin"},
}


def eager(model, ids, mask) -> dict[str, list]:
    """Hidden states, maps, and queries, keys and values of transformers' modules, the last by hooks on projections."""
    before, heads = model.config._attn_implementation, model.config.num_attention_heads
    found: dict[str, list] = {vectors: [] for vectors in VECTOR_NAMES}
    hooks = []

    def keep(vectors: str, _module, _inputs, output) -> None:
        found[vectors].append(output.unflatten(-1, (heads, -1)).transpose(1, 2))

    for vectors, names in VECTOR_NAMES.items():
        name = f"attention.{names[model.config.model_type]}"
        modules = [module for path, module in model.named_modules() if path.endswith(name)]
        hooks += [module.register_forward_hook(partial(keep, vectors)) for module in modules]
    model.config._attn_implementation = "eager"
    base = getattr(model, model.base_model_prefix)
    output = base(ids, attention_mask=mask, output_attentions=True, output_hidden_states=True)
    model.config._attn_implementation = before
    for hook in hooks:
        hook.remove()
    return {"hidden": output.hidden_states, "attention": output.attentions, **found}


def tap(model, batch, taps: Taps, *, training: bool = False, keep_padding: bool = False, final: bool = True):
    """(final states of labeled rows, or None, what was tapped)."""
    ids, mask, labels = batch
    masked_lm = MaskedLM(model, dtype=torch.float64)
    weights = masked_lm.cast(masked_lm.prepare())
    options = {"prepared": weights, "training": training, "keep_padding": keep_padding}
    return masked_lm.with_taps(ids, mask, labels != -100 if final else None, taps, **options)


def close(got, expected) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def real_rows(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """[batch, heads, length, any] -> [real tokens, heads, any]"""
    return x.transpose(1, 2)[mask.bool()]


def gradients(loss: torch.Tensor, model) -> dict[str, torch.Tensor]:
    named = dict(model.named_parameters())
    gradients_or_none = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return {
        n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named.items(), gradients_or_none, strict=True)
    }


@MODELS
def test_taps_are_what_eager_modules_compute(model_type: str) -> None:
    model = small_model(model_type)
    batch = random_batch(LENGTHS, 20)
    ids, mask, labels = batch
    expected = eager(model, ids, mask)
    hidden, maps = expected["hidden"], expected["attention"]
    states, tapped = tap(model, batch, EVERYTHING)
    close(states, hidden[-1][labels != -100])
    for i in range(4):
        assert tapped["hidden"][i].shape == (sum(LENGTHS), model.config.hidden_size)
        close(tapped["hidden"][i], hidden[i][mask.bool()])
    for i in LAYERS:
        close(real_rows(tapped["attention"][i], mask), real_rows(maps[i], mask))
        close(real_rows(tapped["scores"][i].softmax(-1), mask), real_rows(maps[i], mask))
        for vectors in VECTORS:
            close(real_rows(tapped[vectors][i], mask), real_rows(expected[vectors][i], mask))
        for feature in FEATURES[1:]:
            assert torch.isfinite(tapped[feature][i]).all()


@MODELS
def test_scores_are_the_scaled_products(model_type: str) -> None:
    """Up to a shift of each row the softmax tells them; on a full batch here to the value itself."""
    model = small_model(model_type)
    ids, mask, labels = random_batch([6, 6], 6)
    inputs: dict[str, torch.Tensor] = {}
    query, key = {"distilbert": ("q_lin", "k_lin")}.get(model_type, ("self.query", "self.key"))
    for name, module in model.named_modules():
        for part in (query, key):
            if name.endswith(f"0.attention.{part}"):
                module.register_forward_hook(lambda _m, _i, output, part=part: inputs.update({part: output}))
    model(ids, attention_mask=mask)
    heads = model.config.num_attention_heads
    q, k = (inputs[part].unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key))
    _, tapped = tap(model, (ids, None, labels), Taps.of([("scores", 0)]))
    close(tapped["scores"][0], q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5)


@MODELS
def test_kept_padding_has_the_states_of_the_modules(model_type: str) -> None:
    """Padding included: its states and its rows of the maps."""
    model = small_model(model_type)
    batch = random_batch(LENGTHS, 20)
    expected = eager(model, *batch[:2])
    hidden, maps = expected["hidden"], expected["attention"]
    states, tapped = tap(model, batch, EVERYTHING, keep_padding=True)
    close(states, hidden[-1][batch[2] != -100])
    for i in range(4):
        close(tapped["hidden"][i], hidden[i])
    for i in LAYERS:
        close(tapped["attention"][i], maps[i])
        for vectors in VECTORS:
            close(tapped[vectors][i], expected[vectors][i])


@MODELS
@pytest.mark.parametrize("keep_padding", [False, True])
@pytest.mark.parametrize("feature", ["hidden", "attention", *VECTORS])
def test_gradients_go_through_the_taps(model_type: str, feature: str, keep_padding: bool) -> None:
    model = small_model(model_type)
    batch = random_batch(LENGTHS, 20)
    ids, mask, _ = batch
    numbers = range(4) if feature == "hidden" else LAYERS
    theirs = eager(model, ids, mask)[feature]
    _, tapped = tap(model, batch, Taps.of((feature, i) for i in numbers), keep_padding=keep_padding)
    generator, got, expected = torch.Generator().manual_seed(3), 0, 0
    for i in numbers:
        ours, plain = tapped[feature][i], theirs[i]
        if feature == "hidden":
            ours, plain = (x if x.dim() == 2 else x[mask.bool()] for x in (ours, plain))
        else:
            ours, plain = (real_rows(x, mask) for x in (ours, plain))
        weight = torch.randn(plain.shape, generator=generator, dtype=torch.float64)
        got, expected = got + (ours * weight).sum(), expected + (plain * weight).sum()
    got, expected = gradients(got, model), gradients(expected, model)
    assert any(g.any() for g in expected.values())
    for name, gradient in expected.items():
        assert float((got[name] - gradient).abs().max()) <= 1e-9 * max(float(gradient.abs().max()), 1.0), name


DROPOUT = {
    "bert": {"attention_probs_dropout_prob": 0.4, "hidden_dropout_prob": 0.0},
    "distilbert": {"attention_dropout": 0.4, "dropout": 0.0},
    "mobilebert": {"attention_probs_dropout_prob": 0.4},
}


@MODELS
def test_after_dropout_is_the_draw_of_the_context(model_type: str) -> None:
    model = small_model(model_type, **DROPOUT[model_type])
    batch = random_batch(LENGTHS, 20)
    seen = {}
    for name, taps in {
        "dropped": Taps.of([("attention", 0), ("values", 0)], after_dropout=True),
        "whole": Taps.of([("attention", 0)]),
        "none": Taps(),
    }.items():
        with random_stream(1):
            seen[name] = tap(model, batch, taps, training=True)
    for name in ("whole", "none"):  # looking draws nothing and changes nothing
        close(seen[name][0], seen["dropped"][0])
    dropped, whole = (seen[name][1]["attention"][0] for name in ("dropped", "whole"))
    close(dropped, whole * (dropped != 0) / (1 - 0.4))
    real = whole > 0
    assert 0.3 < float((dropped == 0)[real].double().mean()) < 0.5
    # The context is these maps times these values: with another draw the states differ.
    with random_stream(2):
        assert not torch.allclose(tap(model, batch, Taps(), training=True)[0], seen["none"][0])
    with random_stream(1):
        undropped = tap(model, batch, EVERYTHING, training=False)[1]["attention"][0]
    close(real_rows(undropped, batch[1]), real_rows(whole, batch[1]))


@MODELS
@pytest.mark.parametrize("feature", FEATURES)
def test_the_last_layer_shows_all_its_rows_beside_row_selection(model_type: str, feature: str) -> None:
    """Its map is wanted of every token, its output of the labeled ones alone."""
    model = small_model(model_type)
    batch = random_batch(LENGTHS, 20)
    alone, _ = tap(model, batch, Taps())
    number = LAST + 1 if feature == "hidden" else LAST
    states, tapped = tap(model, batch, Taps.of([(feature, number)]))
    close(states, alone)
    rows = tapped[feature][number].shape
    assert rows[0] == sum(LENGTHS) if feature == "hidden" else rows[2] == 20
    got, expected = (gradients(x.square().sum(), model) for x in (states, alone))
    for name, gradient in expected.items():
        close(got[name], gradient)


@MODELS
def test_nothing_is_tapped_that_is_not_asked_for(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(model_type)
    batch = random_batch(LENGTHS, 20)
    computed, plain = [], attention.attention_and_maps
    monkeypatch.setattr(
        attention, "attention_and_maps", lambda *a, **k: computed.append(list(k["maps"])) or plain(*a, **k)
    )
    _, tapped = tap(model, batch, Taps.of([("scores", 1), ("values", 0), ("queries", 1), ("hidden", 2)]))
    numbers_of = {feature: list(numbers) for feature, numbers in tapped.items() if numbers}
    assert numbers_of == {"hidden": [2], "scores": [1], "queries": [1], "values": [0]}
    assert computed == [["scores"]]
    computed.clear()
    _, tapped = tap(model, batch, Taps())
    assert not computed
    assert not any(tapped.values())


@MODELS
@pytest.mark.parametrize("training", [False, True])
def test_vectors_need_neither_maps_nor_padded_attention(model_type: str, training: bool) -> None:
    """In training, attention runs within packed documents as without taps; vectors, states and gradients agree."""
    rates = {name: 0.0 for name in DROPOUT[model_type]}
    model = small_model(model_type, **rates)
    batch = random_batch(LENGTHS, 20)
    expected = eager(model, *batch[:2])
    states, tapped = tap(model, batch, Taps.of((v, i) for v in VECTORS for i in LAYERS), training=training)
    alone, _ = tap(model, batch, Taps(), training=training)
    close(states, alone)
    for vectors in VECTORS:
        for i in LAYERS:
            close(real_rows(tapped[vectors][i], batch[1]), real_rows(expected[vectors][i], batch[1]))
    loss = sum(real_rows(tapped[v][i], batch[1]).square().sum() for v in VECTORS for i in LAYERS)
    wanted = sum(real_rows(expected[v][i], batch[1]).square().sum() for v in VECTORS for i in LAYERS)
    got, plain = gradients(loss, model), gradients(wanted, model)
    for name, gradient in plain.items():
        close(got[name], gradient)


@MODELS
@pytest.mark.parametrize(
    ("pairs", "layers"),
    [([("keys", 1)], 2), ([("hidden", 2)], 2), ([("hidden", 0)], 0), ([("queries", 0), ("attention", 2)], 3)],
)
def test_without_final_states_no_layer_above_the_taps_is_computed(
    model_type: str, pairs: list, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = small_model(model_type), random_batch(LENGTHS, 20)
    taps = Taps.of(pairs)
    _, expected = tap(model, batch, taps)
    layer, computed = MaskedLM(model)._encoder.layer.__class__, []
    plain = layer.__call__
    monkeypatch.setattr(layer, "__call__", lambda *a: computed.append(1) or plain(*a))
    states, tapped = tap(model, (*batch[:2], torch.full_like(batch[2], -100)), taps, final=False)
    assert (states, len(computed), taps.depth) == (None, layers, layers)
    for feature, number in pairs:
        ours, whole = (x[feature][number] for x in (tapped, expected))
        close(*(x if feature == "hidden" else real_rows(x, batch[1]) for x in (ours, whole)))


def test_taps_from_pairs() -> None:
    taps = Taps.of([("attention", 1), ("attention", 3), ("hidden", 0), ("attention", 1)])
    assert (taps.attention, taps.hidden, taps.scores) == ({1, 3}, {0}, set())
    assert taps.at(1) == {"attention"}
    assert taps.at(0) == set()  # hidden states are not attention's
