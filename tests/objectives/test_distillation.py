"""The objective of distillation against the published formulas on transformers' own eager modules."""

import copy
from functools import partial

import pytest
import torch
from term_outputs import terms_of as recipe_terms
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForMaskedLM

from compact_biomed.engine.microbatch import Replicas, split
from compact_biomed.objectives.distillation import Distillation, Fidelity
from compact_biomed.objectives.terms import RELATIONS, Projection, Term

VOCABULARY, TEACHER_LAYERS = 41, 4
WIDTHS = {"distilbiobert": 16, "compactbiobert": 16, "tinybiobert": 8}
STUDENTS = pytest.mark.parametrize("name", WIDTHS)
PUBLISHED = Fidelity(keep_padding=True)


pytestmark = pytest.mark.usefixtures("one_thread")


def bert(layers: int, width: int, seed: int, *, dropout: float = 0.0, model_type: str = "bert", **options):
    sizes = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": 2, "intermediate_size": 20}
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    if model_type == "distilbert":
        rates = {"dropout": dropout, "attention_dropout": dropout}
    sizes |= {"vocab_size": VOCABULARY, "max_position_embeddings": 80}
    torch.manual_seed(seed)
    config = AutoConfig.for_model(model_type, **(sizes | rates | options))
    model = AutoModelForMaskedLM.from_config(config).double()
    with torch.no_grad():  # biases and norms are not left at 0 and 1, and maps are far from uniform
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def pair(name: str, *, dropout: float = 0.0):
    return bert(2, WIDTHS[name], 1, dropout=dropout), bert(TEACHER_LAYERS, 16, 2, dropout=dropout)


def terms_of(name: str, *, published: bool) -> list[Term]:
    quirk = {"compactbiobert": "cell_average", "tinybiobert": "padding_in_mse"}.get(name)
    changes = {quirk: True} if quirk and published else {}
    return recipe_terms(name, 2, TEACHER_LAYERS, (WIDTHS[name], 16), **changes)


def objective_of(
    name: str, *, published: bool = False, dropout: float = 0.0, fast: bool = True, backend="own", **fidelity
):
    """The objective, and a teacher that stays as it was."""
    student, teacher = pair(name, dropout=dropout)
    torch.manual_seed(3)  # of the projection
    objective = Distillation(
        student,
        copy.deepcopy(teacher),
        terms_of(name, published=published),
        fidelity=Fidelity(keep_padding=published, **fidelity),
        dtype=torch.float64,
        fast=fast,
        loss_backend=backend,
    )
    return objective.double().train(), teacher.eval()


def batch(lengths: tuple[int, ...] = (40, 13, 33, 5, 21, 38), width: int = 40) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, VOCABULARY, mask.shape, generator=generator) * mask
    chosen = (torch.rand(mask.shape, generator=generator) < 0.3) & mask.bool()
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.where(chosen, ids, -100)}


# ---- the formulas once more (paper, section on distillation; the published scripts)


def eager(model, data: dict[str, Tensor]):
    before = model.config._attn_implementation
    model.config._attn_implementation = "eager"
    inputs = {key: data[key] for key in ("input_ids", "attention_mask")}
    output = model(**inputs, output_attentions=True, output_hidden_states=True)
    model.config._attn_implementation = before
    rows = data["labels"] != -100
    return output.logits[rows], output.hidden_states, output.attentions


def naive(name: str, student, teacher, project, data: dict[str, Tensor], *, published: bool) -> Tensor:
    real, labels = data["attention_mask"] == 1, data["labels"][data["labels"] != -100]
    with torch.no_grad():
        logits_t, hidden_t, maps_t = eager(teacher, data)
    logits_s, hidden_s, maps_s = eager(student, data)
    mlm = F.cross_entropy(logits_s, labels)
    heads, tokens = maps_s[0].shape[1], int(real.sum())

    def kl(temperature: float) -> Tensor:
        logs = (F.log_softmax(x / temperature, -1) for x in (logits_s, logits_t))
        return F.kl_div(*logs, reduction="batchmean", log_target=True)

    def cosine(s: Tensor, t: Tensor) -> Tensor:
        return (1 - F.cosine_similarity(s[real], t[real], dim=-1)).mean()

    def map_kl(s: Tensor, t: Tensor) -> Tensor:
        s, t = (x.transpose(1, 2)[real] + 1e-12 for x in (s, t))
        cells = F.kl_div(s.log(), t, reduction="none")
        return cells.mean() if published else cells.sum() / (heads * tokens)

    def squares(s: Tensor, t: Tensor) -> Tensor:
        if published:
            return F.mse_loss(s, t)
        if s.dim() == 3:
            return F.mse_loss(s[real], t[real])
        both = (real[:, :, None] & real[:, None, :])[:, None].expand_as(s)
        return F.mse_loss(s[both], t[both])

    if name == "distilbiobert":
        return 2.0 * mlm + 5.0 * 4 * kl(2.0) + cosine(hidden_s[-1], hidden_t[-1])
    if name == "compactbiobert":
        attention = map_kl(maps_s[0], maps_t[1]) + map_kl(maps_s[1], maps_t[3])
        hidden = cosine(hidden_s[1], hidden_t[2]) + cosine(hidden_s[2], hidden_t[4])
        return mlm + 3.0 * (attention + hidden) + 5.0 * kl(1.0)
    soft = -(logits_t.softmax(-1) * logits_s.log_softmax(-1)).sum(-1).mean()
    maps = squares(maps_s[0], maps_t[1]) + squares(maps_s[1], maps_t[3])
    return soft + maps + sum(squares(project(hidden_s[i]), hidden_t[2 * i]) for i in range(3))


def own_gradients(objective: Distillation) -> dict[str, Tensor]:
    named = {f"model.{n}": p for n, p in objective.model.named_parameters()}
    named |= {f"projections.{n}": p for n, p in objective.projections.named_parameters()}
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in named.items()}


def whole(objective: Distillation, data: dict[str, Tensor], counts: Tensor | None = None):
    objective.zero_grad(set_to_none=True)
    output = objective(*data.values(), objective.counts(data) if counts is None else counts)
    output.loss_sum.backward()
    return output, own_gradients(objective)


def assert_same_gradients(got, expected, tolerance: float = 1e-9) -> None:
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        assert float((got[name] - gradient).abs().max()) <= tolerance * max(float(gradient.abs().max()), 1.0), name


@STUDENTS
@pytest.mark.parametrize("published", [False, True], ids=["corrected", "published"])
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "modules"])
def test_it_is_the_published_formula(name: str, published: bool, fast: bool) -> None:
    """Values, and the gradient of every parameter and projection."""
    objective, teacher = objective_of(name, published=published, fast=fast)
    assert objective.fast == fast
    data = batch()
    output, got = whole(objective, data)
    objective.zero_grad(set_to_none=True)
    project = objective.projections["states"] if objective.projections else None
    expected = naive(name, objective.model, teacher, project, data, published=published)
    expected.backward()
    torch.testing.assert_close(output.loss_sum.detach(), expected.detach(), rtol=1e-9, atol=0)
    assert_same_gradients(got, own_gradients(objective))
    weighted = sum(term.weight * getattr(output, term.name) for term in objective.terms)
    torch.testing.assert_close(weighted, output.loss_sum.detach(), rtol=1e-12, atol=0)
    used = {n for n, g in got.items() if g.any()}
    # Only a head that no term reads, and BERT's unused key bias (softmax does not see it), may stay without.
    assert all("key.bias" in n for n in got.keys() - used), got.keys() - used


@STUDENTS
@pytest.mark.parametrize("published", [False, True], ids=["corrected", "published"])
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "modules"])
def test_micro_batches_add_up_to_the_batch(name: str, published: bool, fast: bool) -> None:
    objective, _ = objective_of(name, published=published, fast=fast)
    data = batch()
    counts = objective.counts(data)
    output, expected = whole(objective, data)
    assert objective.keep_padding == published
    for tokens, replicas in ((1, 1), (60, 2)):
        objective.zero_grad(set_to_none=True)
        parts = split(**data, tokens=tokens, keep_width=objective.keep_padding)
        assert len(parts) > 2
        micro_batches, scale = objective.with_divisor(parts, counts)
        engine = Replicas(objective, replicas if fast else 1)
        result = engine.backward(micro_batches, scale=scale, stream=(1, 2))
        engine.close()
        for got, wanted in zip(result, output, strict=True):
            assert got == pytest.approx(wanted.detach().item(), rel=1e-9)
        assert_same_gradients(own_gradients(objective), expected)


@STUDENTS
def test_every_term_varies_with_the_student_and_has_a_gradient(name: str) -> None:
    objective, _ = objective_of(name, published=True)
    data = batch()
    first = objective.values(*data.values())
    assert list(first) == [term.name for term in objective.terms]
    parameters = [p for p in objective.parameters() if p.requires_grad]
    for value in first.values():
        found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        assert value.detach() > 0
        assert sum(float(g.abs().sum()) for g in found if g is not None) > 0
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        for term, value in objective.values(*data.values()).items():
            assert abs(float(value) / float(first[term]) - 1) > 1e-6, term


@STUDENTS
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "modules"])
def test_the_teacher_is_out_of_reach(name: str, fast: bool) -> None:
    """Neither trained nor saved nor wrapped, and never in train mode."""
    objective, _ = objective_of(name, fast=fast, dropout=0.1)
    teacher = objective.teacher.model
    weights = list(teacher.parameters())
    assert not {id(p) for p in weights} & {id(p) for p in objective.parameters()}
    assert teacher not in list(objective.modules())
    assert not [key for key in objective.state_dict() if "teacher" in key]
    objective.train()
    Replicas(objective).backward([(*batch().values(), objective.counts(batch()))], scale=1.0, stream=(1,))
    assert not any(module.training for module in teacher.modules())
    assert all(p.grad is None and not p.requires_grad for p in weights)
    assert objective.model.training


def loss_of(objective: Distillation, key: int = 1) -> float:
    data = batch()
    parts = [(*data.values(), objective.counts(data))]
    return Replicas(objective).backward(parts, scale=1.0, stream=(key,)).loss_sum


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "modules"])
@pytest.mark.parametrize("on", [True, False])
def test_only_teacher_dropout_changes_the_teacher(fast: bool, on: bool) -> None:
    """The student has no dropout here: what differs between draws is the teacher."""
    student, teacher = bert(2, 16, 1), bert(TEACHER_LAYERS, 16, 2, dropout=0.2)
    terms = terms_of("compactbiobert", published=False)
    fidelity = Fidelity(teacher_dropout=on)
    objective = Distillation(student, teacher, terms, fidelity=fidelity, dtype=torch.float64, fast=fast).double()
    objective.train()
    assert loss_of(objective, 1) == loss_of(objective, 1)
    assert (loss_of(objective, 1) != loss_of(objective, 2)) == on
    objective.eval()
    assert loss_of(objective, 1) == loss_of(objective, 2)


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "modules"])
def test_maps_after_dropout_cost_the_logarithm_of_the_floor(fast: bool) -> None:
    """A dropped cell of the student is 0: the KL of maps is many times larger, as in the scripts."""
    values = {}
    for after in (False, True):
        objective, _ = objective_of("compactbiobert", fast=fast, dropout=0.1, maps_after_dropout=after)
        data = batch()
        parts = [(*data.values(), objective.counts(data))]
        values[after] = Replicas(objective).backward(parts, scale=1.0, stream=(1,)).attention_kl_0_1
        objective.eval()
        assert loss_of(objective) == pytest.approx(loss_of(objective_of("compactbiobert")[0].eval()), rel=1e-9)
    assert values[True] > values[False] + 0.5


@STUDENTS
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "modules"])
def test_a_batch_without_labels_is_finite(name: str, fast: bool) -> None:
    objective, _ = objective_of(name, fast=fast)
    data = batch()
    data["labels"] = torch.full_like(data["labels"], -100)
    output, got = whole(objective, data)
    assert all(torch.isfinite(x) for x in output)
    assert all(torch.isfinite(g).all() for g in got.values())
    for term in objective.terms:
        assert (getattr(output, term.name) == 0) == (term.feature == "logits")


@STUDENTS
def test_bfloat16_is_near(name: str) -> None:
    student, teacher = (model.float() for model in pair(name))
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        copies = copy.deepcopy(student), copy.deepcopy(teacher)
        torch.manual_seed(3)
        objective = Distillation(*copies, terms_of(name, published=False), dtype=dtype)
        results.append(whole(objective, batch()))
    (exact, _), (rounded, gradients) = results
    assert rounded.loss_sum.dtype == torch.float32
    assert rounded.loss_sum.item() == pytest.approx(exact.loss_sum.item(), rel=0.03)
    assert all(torch.isfinite(g).all() for g in gradients.values())


def test_one_architecture_without_fast_encoder_takes_both_to_the_modules() -> None:
    """Packed states of the one would not fit the padded states of the other."""
    student, teacher = bert(2, 16, 1), bert(TEACHER_LAYERS, 16, 2, model_type="roberta")
    terms = [Term("hidden_cosine", 1.0, 2, 4), Term("attention_kl", 1.0, 0, 1), Term("value_relation_kl", 1.0, 1, 3)]
    for models in ((student, teacher), (teacher, student)):
        turned = terms if models[0] is student else [Term(t.loss, 1.0, t.layer_T, t.layer_S) for t in terms]
        copies = [copy.deepcopy(model) for model in models]
        objective = Distillation(*copies, turned, dtype=torch.float64)
        assert not objective.fast
        output, got = whole(objective, batch())
        assert float(output.loss_sum.detach()) > 0
        assert any(g.any() for g in got.values())


# ---- relations alone: models of unequal widths, heads and types


RELATION_TERMS = [Term(loss, weight, 1, 2, heads=4) for weight, loss in enumerate(RELATIONS, 1)]
MOBILE = {"embedding_size": 8, "intra_bottleneck_size": 8, "true_hidden_size": 8, "hidden_size": 24}
RELATION_STUDENTS = {
    "bert": {"num_attention_heads": 1, "width": 12},
    "distilbert": {"num_attention_heads": 3, "width": 12},
    "mobilebert": {"num_attention_heads": 2, "width": 24, **MOBILE, "classifier_activation": False},
}


def relation_pair(model_type: str):
    options = {**RELATION_STUDENTS[model_type], "model_type": model_type}
    return bert(2, options.pop("width"), 1, **options), bert(TEACHER_LAYERS, 16, 2)


def relation_objective(model_type: str, *, fast: bool = True, backend: str = "own") -> tuple[Distillation, nn.Module]:
    student, teacher = relation_pair(model_type)
    options = {"dtype": torch.float64, "fast": fast, "loss_backend": backend}
    return Distillation(student, copy.deepcopy(teacher), RELATION_TERMS, **options).double().train(), teacher.eval()


def vectors_of(model, layer: int, data: dict[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values [batch, length, width] of a layer, from its projections."""
    names = {"distilbert": ("q_lin", "k_lin", "v_lin")}.get(model.config.model_type, ("query", "key", "value"))
    found, hooks = {}, []
    for path, module in model.named_modules():
        parts = path.split(".")
        if str(layer) in parts and parts[-1] in names:
            name = RELATIONS[names.index(parts[-1])]
            keep = partial(found.__setitem__, name)
            hooks.append(module.register_forward_hook(lambda _m, _i, output, keep=keep: keep(output)))
    model(input_ids=data["input_ids"], attention_mask=data["attention_mask"])
    for hook in hooks:
        hook.remove()
    return found


def relations_once_more(student, teacher, data: dict[str, Tensor], heads: int = 4) -> Tensor:
    """MiniLMv2 in ten lines, document by document."""
    ours, total = vectors_of(student, 1, data), 0
    with torch.no_grad():
        theirs = vectors_of(teacher, 2, data)
    for weight, name in enumerate(RELATIONS, 1):
        for s, t, real in zip(ours[name], theirs[name], data["attention_mask"].bool(), strict=True):
            relations = []
            for vectors in (s[real], t[real]):
                by_head = vectors.view(len(vectors), heads, -1).transpose(0, 1)
                relations.append((by_head @ by_head.mT / by_head.shape[-1] ** 0.5).softmax(-1))
            total += weight * (relations[1] * (relations[1] / relations[0]).log()).sum() / heads
    return total / data["attention_mask"].sum()


@pytest.mark.parametrize("model_type", RELATION_STUDENTS)
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "modules"])
@pytest.mark.parametrize("backend", ["own", "textbrewer"])
def test_relations_are_those_of_the_paper(model_type: str, fast: bool, backend: str) -> None:
    """Values and gradients, for widths 12 and 16 (MobileBERT: a bottleneck of 8), 1 to 3 attention heads and 2."""
    objective, teacher = relation_objective(model_type, fast=fast, backend=backend)
    assert objective.fast == fast and not objective.reads_logits
    data = batch()
    output, got = whole(objective, data)
    objective.zero_grad(set_to_none=True)
    expected = relations_once_more(objective.model, teacher, data)
    expected.backward()
    torch.testing.assert_close(output.loss_sum.detach(), expected.detach(), rtol=1e-9, atol=0)
    assert_same_gradients(got, own_gradients(objective))
    assert any(g.any() for name, g in got.items() if "embeddings" in name)


@pytest.mark.parametrize("model_type", RELATION_STUDENTS)
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "modules"])
def test_micro_batches_of_relations_add_up(model_type: str, fast: bool) -> None:
    objective, _ = relation_objective(model_type, fast=fast)
    data = batch()
    counts = objective.counts(data)
    assert counts.tolist() == [4 * 150] * 3  # relation heads x tokens
    output, expected = whole(objective, data)
    for tokens, replicas in ((1, 1), (60, 2)):
        objective.zero_grad(set_to_none=True)
        parts, scale = objective.with_divisor(split(**data, tokens=tokens), counts)
        engine = Replicas(objective, replicas if fast else 1)
        result = engine.backward(parts, scale=scale, stream=(1, 2))
        engine.close()
        for got, wanted in zip(result, output, strict=True):
            assert got == pytest.approx(wanted.detach().item(), rel=1e-9)
        assert_same_gradients(own_gradients(objective), expected)


def test_relations_need_no_label_and_no_layer_above_them(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, _ = relation_objective("bert")
    data, computed = batch(), []
    output, _ = whole(objective, data)
    layer = type(objective.masked_lm._encoder.layer)
    plain = layer.__call__
    monkeypatch.setattr(layer, "__call__", lambda *a: computed.append(1) or plain(*a))
    unlabeled, _ = whole(objective, data | {"labels": torch.full_like(data["labels"], -100)})
    assert unlabeled.loss_sum == output.loss_sum
    assert len(computed) == 2 + 3  # the student's layers, and the teacher's up to its layer 2


def test_two_maps_of_one_layer() -> None:
    """Dropped probabilities and raw scores side by side."""
    terms = [Term("attention_mse", 1.0, 0, 1), Term("attention_score_mse", 1.0, 0, 1)]
    fidelity = Fidelity(maps_after_dropout=True)
    losses = []
    for fast in (True, False):
        objective = Distillation(*pair("compactbiobert"), terms, fidelity=fidelity, dtype=torch.float64, fast=fast)
        losses.append(whole(objective, batch()))
    assert float(losses[0][0].attention_mse_0_1) > 0
    torch.testing.assert_close(losses[0][0].loss_sum, losses[1][0].loss_sum, rtol=1e-9, atol=0)
    assert_same_gradients(losses[0][1], losses[1][1])


def test_means_over_padding_need_the_padding() -> None:
    projection = Projection("states", 16, 16)
    for term in (
        Term("hidden_mse", 1.0, 0, 0, projection, padding=True),
        Term("attention_mse", 1.0, 0, 0, padding=True),
    ):
        with pytest.raises(ValueError, match="keep_padding"):
            Distillation(*pair("compactbiobert"), [term])
        Distillation(*pair("compactbiobert"), [term], fidelity=PUBLISHED)


@STUDENTS
@pytest.mark.parametrize("published", [False, True], ids=["corrected", "published"])
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "modules"])
def test_textbrewers_distiller_gives_a_step_the_same_loss_and_gradients(name: str, published: bool, fast: bool) -> None:
    """A whole step in micro-batches on two replicas, as the Trainer makes it."""
    steps = []
    for backend in ("own", "textbrewer"):
        objective, _ = objective_of(name, published=published, fast=fast, backend=backend)
        data = batch()
        parts = split(**data, tokens=100, replicas=2, keep_width=objective.keep_padding)
        assert len(parts) > 1
        parts, scale = objective.with_divisor(parts, objective.counts(data))
        engine = Replicas(objective, 2 if fast else 1)
        result = engine.backward(parts, scale=scale, stream=(1, 2))
        engine.close()
        gradients = {n: p.grad for n, p in objective.named_parameters() if p.grad is not None}
        steps.append((result, gradients))
    (own, own_gradients), (other, other_gradients) = steps
    torch.testing.assert_close(torch.as_tensor(other.loss_sum), torch.as_tensor(own.loss_sum), rtol=1e-9, atol=1e-12)
    assert own_gradients.keys() == other_gradients.keys()
    for parameter, gradient in own_gradients.items():
        torch.testing.assert_close(other_gradients[parameter], gradient, rtol=1e-7, atol=1e-10, msg=parameter)
    assert any(gradient.any() for gradient in own_gradients.values())


@pytest.mark.parametrize("fast", [True, False])
def test_fitted_projections_are_least_squares(fast: bool) -> None:
    objective, teacher = objective_of("tinybiobert", fast=fast, dropout=0.1)
    data = batch()
    objective.fit_projections(data["input_ids"], data["attention_mask"])
    assert objective.training
    values = objective.eval().values(**data)
    fitted = sum(float(value.detach()) for name, value in values.items() if name.startswith("hidden_mse"))
    real, pairs = data["attention_mask"] == 1, ((0, 0), (1, 2), (2, 4))
    with torch.no_grad():
        ours, theirs = (eager(model.eval(), data)[1] for model in (objective.model, teacher))
    x = F.pad(torch.cat([ours[s][real] for s, _ in pairs]), (0, 1), value=1.0)
    y = torch.cat([theirs[t][real] for _, t in pairs])
    least = float((y - x @ torch.linalg.lstsq(x, y).solution).square().sum())
    assert least <= fitted < 1.01 * least
