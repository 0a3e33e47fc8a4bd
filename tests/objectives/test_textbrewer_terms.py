"""TextBrewer as a language: what is read, what is refused, and that its traps stay shut."""

import sys
import warnings
from pathlib import Path

import pytest
import torch
from term_outputs import random_outputs

from compact_biomed.errors import UserError
from compact_biomed.objectives.terms import FEATURES, WITH_PADDING, Projection, Term, build_projections, evaluate, total
from compact_biomed.objectives.textbrewer import TextBrewerEvaluation, distillation_config, library, match, read_terms

MASK = (torch.arange(5) < torch.tensor([5, 3])[:, None]).long()
MATCHES = [kind for kind, feature in FEATURES.items() if feature != "logits"]
COSINE = {"layer_S": 1, "layer_T": 1, "feature": "hidden", "loss": "cb_hidden_cosine", "weight": 1}


def outputs(*, empty: bool = False) -> tuple[dict, dict]:
    return tuple(random_outputs(2, 8, MASK, rows=0 if empty else 4, seed=seed) for seed in (1, 2))


def test_what_is_stated_is_read() -> None:
    projection = Projection("states", 4, 8)
    config = distillation_config(
        mlm_weight=2.0,
        kd_loss="soft_cross_entropy",
        kd_weight=5.0,
        temperature=3.0,
        matches=[
            match("attention_kl", 0, 1, 0.5, published=True),
            match("hidden_mse", 1, 2, 0.25, projection=projection),
            match("attention_mse", 0, 1, 0.0),
        ],
    )
    assert read_terms(config) == [
        Term("mlm_cross_entropy", 2.0),
        Term("soft_cross_entropy", 5.0, temperature=3.0),
        Term("attention_kl", 0.5, 0, 1, published=True),
        Term("hidden_mse", 0.25, 1, 2, projection),
    ]
    assert read_terms(distillation_config()) == []


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("kind", MATCHES)
def test_every_loss_is_known_to_textbrewer(kind: str, published: bool) -> None:
    if published and kind not in WITH_PADDING:
        return
    config = distillation_config(matches=[match(kind, 0, 1, 1.5, published=published)])
    (term,) = read_terms(config)
    assert (term.kind, term.published) == (kind, published)
    student, teacher = outputs()
    loss, values = TextBrewerEvaluation(config)(student, teacher, MASK)
    ours = evaluate([term], student, teacher, MASK)
    assert loss.item() == pytest.approx(1.5 * ours[term.name].item(), rel=1e-12)
    assert values.keys() == ours.keys()


def test_projections_without_a_name_are_not_shared() -> None:
    entries = [COSINE | {"layer_S": i, "proj": ["linear", 4, 8]} for i in (0, 1)]
    terms = read_terms(distillation_config(matches=entries))
    assert [t.projection.name for t in terms] == ["hidden_cosine_0_1", "hidden_cosine_1_1"]
    assert len(build_projections(terms)) == 2
    # TextBrewer appends to the caller's list unless it is given a copy.
    assert [entry["proj"] for entry in entries] == [["linear", 4, 8]] * 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kd_loss_type": "mse"}, ("'mse'", "cb_soft_kl")),
        ({"temperature_scheduler": "constant"}, ("temperature_scheduler",)),
        ({"kd_loss_weight_scheduler": "linear_decay"}, ("kd_loss_weight_scheduler",)),
        ({"probability_shift": True}, ("probability_shift",)),
        ({"is_caching_logits": True}, ("is_caching_logits",)),
        ({"intermediate_matches": [COSINE | {"loss": "mmd"}]}, ("'mmd'", "cb_attention_kl_published")),
        ({"intermediate_matches": [COSINE | {"loss": "attention_ce", "feature": "attention"}]}, ("'attention_ce'",)),
        ({"intermediate_matches": [COSINE | {"loss": "cb_hidden_cosine_published"}]}, ("published",)),
        ({"intermediate_matches": [COSINE | {"feature": "attention"}]}, ("hidden", "attention")),
        ({"intermediate_matches": [COSINE | {"layer_S": [0, 1]}]}, ("layer_S",)),
        ({"intermediate_matches": [COSINE | {"proj": ["tanh", 4, 8]}]}, ("linear",)),
        ({"intermediate_matches": [COSINE, COSINE]}, ("twice", "hidden_cosine_1_1")),
    ],
)
def test_what_has_no_counterpart_is_refused(options: dict, says: tuple[str, ...]) -> None:
    settings = {"kd_loss_type": "cb_soft_kl"} | options
    with pytest.raises(UserError) as caught:
        read_terms(library().DistillationConfig(**settings))
    for words in says:
        assert words in str(caught.value)


def test_it_leaves_no_folder_and_the_generator_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = distillation_config(matches=[match("hidden_mse", 0, 0, 1.0, projection=Projection("p", 8, 8))])
    projections = build_projections(read_terms(config)).double()
    before = torch.get_rng_state()
    TextBrewerEvaluation(config, projections)(*outputs(), MASK)
    assert torch.equal(torch.get_rng_state(), before)
    assert list(tmp_path.iterdir()) == []


def test_outputs_are_not_changed() -> None:
    student, teacher = outputs()
    keys, logits = set(student), student["logits"]
    TextBrewerEvaluation(distillation_config(mlm_weight=1.0, kd_weight=1.0))(student, teacher, MASK)
    assert set(student) == set(teacher) == keys
    assert student["logits"] is logits


def test_a_batch_without_labels_has_no_loss() -> None:
    config = distillation_config(mlm_weight=1.0, kd_weight=1.0)
    terms = read_terms(config)
    student, teacher = outputs(empty=True)
    assert TextBrewerEvaluation(config)(student, teacher, MASK)[0] == 0
    assert total(terms, evaluate(terms, student, teacher, MASK)) == 0


def test_its_warnings_do_not_stop_a_strict_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled afresh, its source raises SyntaxWarnings, which `-W error` makes fatal."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "textbrewer"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        library.__wrapped__()
