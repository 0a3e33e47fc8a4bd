"""Terms: what they refuse, and that sums over micro-batches give the mean of the step."""

import pytest
import torch
from term_outputs import HEADS, random_outputs
from transformers import AutoConfig

from compact_biomed.errors import UserError
from compact_biomed.objectives.evaluate import build_projections, check_fit, denominator, evaluate, total
from compact_biomed.objectives.terms import (
    EACH,
    EACH_STATE,
    LAST,
    MAPPED,
    RELATIONS,
    UPPER_MIDDLE,
    WITH_PADDING,
    Projection,
    Term,
    as_json,
    expand,
)

MASK = torch.arange(6) < torch.tensor([6, 3, 1])[:, None]
WIDTH, ROWS = 8, 5
TO_WIDTH = Projection("states", WIDTH, WIDTH)
TERMS = [
    Term("mlm_cross_entropy", 2.0),
    Term("soft_kl", 5.0, temperature=2.0),
    Term("soft_cross_entropy", 1.0),
    *(
        Term(kind, 0.5, 1, 2, TO_WIDTH if kind == "hidden_mse" else None, padding=padding)
        for kind in ("hidden_cosine", "hidden_mse", "attention_kl", "attention_mse", "attention_score_mse")
        for padding in ((False, True) if kind in WITH_PADDING else (False,))
    ),
    Term("value_relation_kl", 1.0, 1, 2),
    *(Term(loss, 1.0, 1, 2, heads=4) for loss in RELATIONS),
]


def ids(term: Term) -> str:
    return term.name + ", padding" * term.padding + (f", {term.heads} heads" if term.heads else "")


def both() -> tuple[dict, dict]:
    return (
        random_outputs(2, WIDTH, MASK, rows=ROWS, seed=1),
        random_outputs(3, WIDTH, MASK, rows=ROWS, seed=2),
    )


@pytest.mark.parametrize("term", TERMS, ids=ids)
def test_the_sum_over_its_denominator_is_the_mean(term: Term) -> None:
    student, teacher = both()
    projections = build_projections([term]).double()
    options = {"projections": projections}
    (summed,) = evaluate([term], student, teacher, MASK, reduction="sum", **options).values()
    (mean,) = evaluate([term], student, teacher, MASK, **options).values()
    count = denominator(term, MASK, rows=ROWS, heads=HEADS, width=WIDTH)
    assert mean.item() == pytest.approx(summed.item() / int(count), rel=1e-12)
    assert denominator(term, MASK.long(), rows=ROWS, heads=HEADS, width=WIDTH) == count


@pytest.mark.parametrize("term", TERMS, ids=ids)
def test_every_term_varies_and_has_a_gradient(term: Term) -> None:
    """Nothing is silently zero or constant."""
    student, teacher = both()
    compared = student[term.feature]
    leaf = compared if term.layer_S is None else compared[term.layer_S]
    projections = build_projections([term]).double()
    value = evaluate([term], student, teacher, MASK, projections=projections)[term.name]
    (gradient,) = torch.autograd.grad(value, leaf)
    assert value > 0
    assert gradient.abs().sum() > 0
    with torch.no_grad():
        leaf += torch.linspace(0, 1, leaf.numel(), dtype=leaf.dtype).view(leaf.shape)
    assert evaluate([term], student, teacher, MASK, projections=projections)[term.name] != value


def test_only_matched_layers_need_be_there() -> None:
    student, teacher = both()
    term = Term("attention_kl", 3.0, 1, 2)
    full = evaluate([term], student, teacher, MASK)
    sparse = evaluate(
        [term], {"attention": {1: student["attention"][1]}}, {"attention": {2: teacher["attention"][2]}}, MASK
    )
    assert full == sparse


def test_the_total_is_weighted() -> None:
    terms = [Term("soft_kl", 5.0), Term("mlm_cross_entropy", 2.0)]
    values = {"soft_kl": torch.tensor(3.0), "mlm_cross_entropy": torch.tensor(1.0)}
    assert total(terms, values) == 17


def test_projections_are_shared_by_name() -> None:
    one, other = Projection("one", 4, 8), Projection("other", 4, 8)
    terms = [Term("hidden_mse", 1.0, i, i, p) for i, p in enumerate((one, other, one))]
    built = build_projections(terms)
    assert {name: (p.in_features, p.out_features) for name, p in built.items()} == {"one": (4, 8), "other": (4, 8)}
    with pytest.raises(UserError, match="'one'"):
        build_projections([*terms, Term("hidden_mse", 1.0, 3, 3, Projection("one", 4, 9))])


def config(**overrides):
    sizes = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "vocab_size": 20}
    return AutoConfig.for_model("bert", **(sizes | overrides))


@pytest.mark.parametrize(
    ("term", "student", "says"),
    [
        (Term("attention_kl", 1.0, 2, 3), {}, ("no attention 2 in a student of 2 layers", "0 to 1")),
        (Term("attention_kl", 1.0, 1, 4), {}, ("no attention 4 in a teacher of 4 layers", "0 to 3")),
        (Term("hidden_cosine", 1.0, 3, 4), {}, ("no hidden 3 in a student", "0 to 2")),
        (Term("attention_mse", 1.0, 0, 0), {"num_attention_heads": 4}, ("4 heads", "2 of the teacher")),
        (Term("hidden_mse", 1.0, 0, 0), {"hidden_size": 6}, ("width 6", "projection 6 -> 8")),
        (Term("hidden_mse", 1.0, 0, 0, Projection("p", 4, 8)), {}, ("4 -> 8", "8 and 8")),
        (Term("soft_kl", 1.0), {"vocab_size": 19}, ("19", "20")),
        (Term("value_relation_kl", 1.0, 1, 3), {"num_attention_heads": 4}, ("4 heads", "relation heads")),
        (Term("key_relation_kl", 1.0, 1, 3, heads=3), {"hidden_size": 12}, ("3 relation heads", "12", "8", "1, 2, 4")),
        (Term("query_relation_kl", 1.0, 2, 3, heads=2), {}, ("no queries 2 in a student of 2 layers",)),
    ],
)
def test_terms_that_do_not_fit_say_what_would(term: Term, student: dict, says: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        check_fit([term], config(**student), config(num_hidden_layers=4))
    for words in says:
        assert words in str(caught.value)


def test_terms_that_fit() -> None:
    check_fit([Term("key_relation_kl", 1.0, 1, 1, heads=4)], config(hidden_size=12, num_attention_heads=3), config())
    terms = [
        Term("soft_kl", 1.0),
        Term("hidden_mse", 1.0, 2, 4, Projection("p", 6, 8)),
        Term("attention_kl", 1.0, 1, 3),
    ]
    check_fit(terms, config(hidden_size=6), config(num_hidden_layers=4))


@pytest.mark.parametrize(("loss", "heads"), [("attention_kl", 4), ("value_relation_kl", 0)])
def test_relation_heads_that_are_none(loss: str, heads: int) -> None:
    with pytest.raises(UserError, match=f"{loss} with {heads} relation heads"):
        Term(loss, 1.0, 0, 0, heads=heads)


def test_relation_heads_are_in_the_record_only_if_stated() -> None:
    """Records of terms that state none keep their key."""
    assert "heads" not in as_json(Term("value_relation_kl", 1.0, 0, 0))
    assert as_json(Term("value_relation_kl", 1.0, 0, 0, heads=24))["heads"] == 24


@pytest.mark.parametrize(
    ("loss", "layers", "teacher_layers", "pairs"),
    [
        ("value_relation_kl", (LAST, LAST), 6, [(1, 5)]),
        ("value_relation_kl", (LAST, UPPER_MIDDLE), 6, [(1, 4)]),
        ("value_relation_kl", (LAST, UPPER_MIDDLE), 12, [(1, 9)]),
        ("value_relation_kl", (LAST, UPPER_MIDDLE), 24, [(1, 19)]),
        ("value_relation_kl", (LAST, UPPER_MIDDLE), 1, [(1, 0)]),
        ("value_relation_kl", (LAST, 2), 6, [(1, 2)]),
        ("hidden_cosine", (LAST, UPPER_MIDDLE), 6, [(2, 5)]),
        ("hidden_cosine", (0, LAST), 6, [(0, 6)]),
        ("attention_kl", (EACH, MAPPED), 6, [(0, 2), (1, 5)]),
        ("hidden_mse", (EACH_STATE, MAPPED), 6, [(0, 0), (1, 3), (2, 6)]),
        # A student that is deeper than its teacher, or as deep.
        ("hidden_mse", (MAPPED, EACH_STATE), 1, [(0, 0), (2, 1)]),
        ("hidden_mse", (MAPPED, EACH), 1, [(2, 1)]),
        ("attention_kl", (MAPPED, EACH), 2, [(0, 0), (1, 1)]),
    ],
)
def test_symbolic_layers(loss: str, layers: tuple, teacher_layers: int, pairs: list) -> None:
    stated = [Term(loss, 1.0, *layers)]
    depths = {"student_layers": 2, "teacher_layers": teacher_layers}
    terms = expand(stated, **depths, widths=(8, 8), layers="spaced")
    assert [(term.layer_S, term.layer_T) for term in terms] == pairs


@pytest.mark.parametrize("layers", [(EACH, LAST), (LAST, MAPPED), (UPPER_MIDDLE, LAST), (None, LAST), (LAST, None)])
def test_layers_that_do_not_go_together(layers: tuple) -> None:
    with pytest.raises(UserError, match="do not go together"):
        expand(
            [Term("value_relation_kl", 1.0, *layers)], student_layers=2, teacher_layers=4, widths=(8, 8), layers="odd"
        )
