"""TextBrewer as a language: what is read, what is refused, and that its traps stay shut."""

import sys
import warnings
from pathlib import Path

import pytest
import torch
from term_outputs import random_outputs

from compact_biomed.errors import UserError
from compact_biomed.objectives.evaluate import build_projections, evaluate, total
from compact_biomed.objectives.terms import FEATURES, RELATIONS, WITH_PADDING, Projection, Term
from compact_biomed.objectives.textbrewer import TextBrewerLoss, from_textbrewer, library, to_textbrewer

MASK = (torch.arange(5) < torch.tensor([5, 3])[:, None]).long()
ON_LOGITS = [Term("mlm_cross_entropy", 1.0), Term("soft_kl", 1.0)]
MATCHES = [kind for kind, feature in FEATURES.items() if feature != "logits"]
COSINE = {"layer_S": 1, "layer_T": 1, "feature": "hidden", "loss": "cb_hidden_cosine", "weight": 1}


def outputs(*, empty: bool = False) -> tuple[dict, dict]:
    return tuple(random_outputs(2, 8, MASK, rows=0 if empty else 4, seed=seed) for seed in (1, 2))


def test_terms_survive_the_way_to_textbrewer_and_back() -> None:
    terms = (
        Term("mlm_cross_entropy", 2.0),
        Term("soft_cross_entropy", 5.0, temperature=3.0),
        Term("attention_kl", 0.5, 0, 1, padding=True),
        Term("hidden_mse", 0.25, 1, 2, Projection("states", 4, 8)),
    )
    assert from_textbrewer(to_textbrewer(terms)) == terms
    assert from_textbrewer(to_textbrewer([*terms, Term("attention_mse", 0.0, 0, 1)])) == terms
    assert from_textbrewer(to_textbrewer([])) == ()


def test_textbrewer_has_one_term_on_soft_targets() -> None:
    with pytest.raises(UserError, match="two terms on soft targets"):
        to_textbrewer([Term("soft_kl", 1.0), Term("soft_cross_entropy", 1.0)])


@pytest.mark.parametrize(
    "term",
    [
        *(Term(loss, 1.5, 0, 1) for loss in MATCHES),
        *(Term(loss, 1.5, 0, 1, padding=True) for loss in WITH_PADDING),
        *(Term(loss, 1.5, 0, 1, heads=4) for loss in RELATIONS),
    ],
    ids=lambda term: f"{term.loss}, {'padding' * term.padding or term.heads}",
)
def test_every_loss_is_known_to_textbrewer(term: Term) -> None:
    assert from_textbrewer(to_textbrewer([term])) == (term,)
    student, teacher = outputs()
    value, values = TextBrewerLoss([term])(student, teacher, MASK)
    ours = evaluate([term], student, teacher, MASK)
    assert value.item() == pytest.approx(1.5 * ours[term.name].item(), rel=1e-12)
    assert values.keys() == ours.keys()


def test_more_relation_heads_than_textbrewer_has_names_for_are_refused() -> None:
    with pytest.raises(UserError, match=r"129 relation heads.*up to 128"):
        to_textbrewer([Term("key_relation_kl", 1.0, 0, 1, heads=129)])
    with pytest.raises(UserError, match="heads_0"):
        from_textbrewer([COSINE | {"loss": "cb_key_relation_kl_heads_0", "feature": "keys"}])


def test_projections_without_a_name_are_not_shared() -> None:
    entries = [COSINE | {"layer_S": i, "proj": ["linear", 4, 8]} for i in (0, 1)]
    terms = from_textbrewer(entries)
    assert [t.projection.name for t in terms] == ["hidden_cosine_0_1", "hidden_cosine_1_1"]
    assert len(build_projections(terms)) == 2
    assert [entry["proj"] for entry in entries] == [["linear", 4, 8]] * 2  # the caller's lists stay as they were


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
        from_textbrewer(library().DistillationConfig(**settings))
    for words in says:
        assert words in str(caught.value)


def test_it_leaves_no_folder_and_the_generator_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    terms = [Term("hidden_mse", 1.0, 0, 0, Projection("p", 8, 8))]
    projections = build_projections(terms).double()
    before = torch.get_rng_state()
    TextBrewerLoss(terms, projections)(*outputs(), MASK)
    assert torch.equal(torch.get_rng_state(), before)
    assert list(tmp_path.iterdir()) == []


def test_outputs_are_not_changed() -> None:
    student, teacher = outputs()
    keys, logits = set(student), student["logits"]
    TextBrewerLoss(ON_LOGITS)(student, teacher, MASK)
    assert set(student) == set(teacher) == keys
    assert student["logits"] is logits


def test_a_batch_without_labels_has_no_loss() -> None:
    student, teacher = outputs(empty=True)
    assert TextBrewerLoss(ON_LOGITS)(student, teacher, MASK)[0] == 0
    assert total(ON_LOGITS, evaluate(ON_LOGITS, student, teacher, MASK)) == 0


def test_its_warnings_do_not_stop_a_strict_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled afresh, its source raises SyntaxWarnings, which `-W error` makes fatal."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "textbrewer"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        library.__wrapped__()
