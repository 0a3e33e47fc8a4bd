"""Layer transfer against the formulas on transformers' own eager modules, document by document in float64."""

import numpy as np
import pytest
import torch
from small_tasks import VOCABULARY, random_task_batch, small_task_model
from torch.nn import functional as F

from compact_biomed.compression.distillation.method import Relations, StudentLearner, StudentObjective, Transfer
from compact_biomed.compression.distillation.transfer import LayerTeacher, LayerTransfer, TeacherInputs
from compact_biomed.engine.plan import ComputePlan
from compact_biomed.evaluation.learner import micro_batches
from compact_biomed.objectives.textbrewer import TextBrewerLoss

LENGTHS, WIDTH, ROWS = [20, 13, 5, 7], 24, 17
LAYERS, WEIGHT = (1, 2), 0.7  # of the teacher's four
STUDENTS = pytest.mark.parametrize("model_type", ["bert", "distilbert", "mobilebert"])
OF = pytest.mark.parametrize(
    "of", [("hidden",), ("attention",), ("relations",), ("attention", "hidden", "relations")], ids="-".join
)
# Width 24 (MobileBERT: 16) in 4 heads, width 40 in 4: vectors of 3 (2) and 5 in 8 relation heads.
RELATIONS = Relations(heads=8, layer_S=1, layer_T=2)
PROJECTIONS = {"query": ("query", "q_lin"), "key": ("key", "k_lin"), "value": ("value", "v_lin")}

pytestmark = pytest.mark.usefixtures("one_thread")


def teacher_model(**options):
    return small_task_model("bert", "token", **{"num_hidden_layers": 4, "hidden_size": 40, **options})


def layer_terms(of, student, teacher):
    widths = (student.config.hidden_size, teacher.config.hidden_size)
    return Transfer(of, LAYERS, widths, WEIGHT, RELATIONS if "relations" in of else None).terms()


def objective_of(student, teacher, of, *, fast: bool = True, teacher_fast: bool = True) -> StudentObjective:
    wanted = layer_terms(of, student, teacher)
    torch.manual_seed(4)  # of the projection
    layers = LayerTeacher(teacher, wanted, dtype=torch.float64, fast=teacher_fast)
    transfer = LayerTransfer(wanted, layers, student.config.num_attention_heads)
    return StudentObjective(student, "token", terms=(), transfer=transfer, dtype=torch.float64, fast=fast).eval()


def batch_of(model_type: str, transfer: LayerTransfer):
    """The teacher's ids are other numbers than the student's, as fine-tuning makes them; none has a label."""
    ids, mask, types, targets = random_task_batch(model_type, "token", LENGTHS, WIDTH)
    theirs = (ids * 7 + 11) % (VOCABULARY - 5) + 5
    their_types = random_task_batch("bert", "token", LENGTHS, WIDTH)[2]
    nothing = torch.zeros_like(mask, dtype=torch.bool)
    soft = torch.zeros(0, 3, dtype=torch.float64)
    inputs = TeacherInputs(theirs * mask, their_types, transfer.factors(LENGTHS, ROWS))
    return ids, mask, types, targets, nothing[:, 0], nothing, soft, inputs


def looked_into(model, length: int, ids, types):
    """States and maps of one document by eager modules; MobileBERT's last token sees the padding behind it."""
    model.set_attn_implementation("eager")
    types = {} if types is None else {"token_type_ids": types[None, : length + 1]}
    mask = (torch.arange(length + 1) < length).long()[None]
    inputs = {"input_ids": ids[None, : length + 1], "attention_mask": mask, **types}
    output = model(**inputs, output_hidden_states=True, output_attentions=True)
    return [x[0, :length] for x in output.hidden_states], [x[0, :, :length, :length] for x in output.attentions]


def projections_of(model, layer: int) -> dict[str, torch.nn.Module]:
    """The projections to queries, keys and values of a layer."""
    return {
        vectors: module
        for path, module in model.named_modules()
        for vectors, names in PROJECTIONS.items()
        if f".{layer}.attention." in path and path.endswith(names)
    }


def relations_of(model, layer: int, length: int, ids, types) -> list[torch.Tensor]:
    """Relations of queries, keys and values of one document [relation heads, length, length], from projections."""
    found: dict[str, torch.Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, x, vectors=vectors: found.update({vectors: x}))
        for vectors, module in projections_of(model, layer).items()
    ]
    looked_into(model, length, ids, types)
    for hook in hooks:
        hook.remove()
    by_head = [found[vectors][0, :length].view(length, RELATIONS.heads, -1).transpose(0, 1) for vectors in PROJECTIONS]
    return [(x @ x.mT / x.shape[-1] ** 0.5).softmax(-1) for x in by_head]


def naive(student, teacher, projection, of, ids, mask, types, theirs: TeacherInputs) -> torch.Tensor:
    """The sum over layers of means over tokens."""
    cosines, divergences, unrelated = [], [], []
    for i, length in enumerate(LENGTHS):
        states, maps = looked_into(student, length, ids[i], None if types is None else types[i])
        with torch.no_grad():
            their_states, their_maps = looked_into(teacher, length, theirs.input_ids[i], theirs.token_type_ids[i])
        for s, t in enumerate(LAYERS):
            if "hidden" in of:
                cosine = F.cosine_similarity(projection(states[s + 1]), their_states[t + 1], dim=-1)
                cosines.append((1 - cosine).sum())
            p, q = their_maps[t], maps[s]
            divergences.append((p * (p / q).log()).sum() / len(p))
        ours = relations_of(student, RELATIONS.layer_S, length, ids[i], None if types is None else types[i])
        with torch.no_grad():
            taught = relations_of(teacher, RELATIONS.layer_T, length, theirs.input_ids[i], theirs.token_type_ids[i])
        unrelated += [(p * (p / q).log()).sum() / len(p) for p, q in zip(taught, ours, strict=True)]
    values = {"hidden": sum(cosines), "attention": sum(divergences), "relations": sum(unrelated)}
    return sum(WEIGHT * values[each] / sum(LENGTHS) for each in of)


def reset(*models) -> None:
    for model in models:
        model.set_attn_implementation("sdpa")


def assert_same_gradients(found, expected: dict) -> None:
    for name, parameter in found:
        torch.testing.assert_close(parameter.grad, expected.get(name), rtol=1e-7, atol=1e-10, msg=name)


@STUDENTS
@OF
@pytest.mark.parametrize(("fast", "teacher_fast"), [(True, True), (False, False), (True, False)])
def test_value_and_gradients_are_those_of_the_formulas(model_type: str, of, fast: bool, teacher_fast: bool) -> None:
    student, teacher = small_task_model(model_type, "token"), teacher_model()
    objective = objective_of(student, teacher, of, fast=fast, teacher_fast=teacher_fast)
    batch = batch_of(model_type, objective.transfer)
    projection = objective.transfer.projections["states"] if "hidden" in of else torch.nn.Identity()
    expected = naive(student, teacher, projection, of, *batch[:3], batch[-1])
    reset(student, teacher)
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}
    objective.zero_grad()
    output = objective(*batch)
    (output.loss_sum / ROWS).backward()
    torch.testing.assert_close(output.loss_sum / ROWS, expected, rtol=1e-9, atol=1e-9)
    # Only the head has no part in it; it is not in the graph of one of the two, and zero in the other.
    trained = [(name, p) for name, p in objective.named_parameters() if name in gradients]
    assert len(trained) > 10 and ("transfer.projections.states.weight" in gradients) == ("hidden" in of)
    assert_same_gradients(trained, gradients)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not any("teacher" in name for name, _ in objective.named_parameters())


def test_relations_alone_need_no_layer_map() -> None:
    transfer = Transfer(("relations",), (), (24, 40), relations=Relations(8, 1, 3))
    assert [(t.layer_S, t.layer_T, t.heads) for t in transfer.terms()] == [(1, 3, 8)] * 3
    assert "relations" not in Transfer(("hidden",), (0, 1), (8, 8)).settings()  # older runs keep their key


def test_equal_widths_need_no_projection() -> None:
    student, teacher = small_task_model("bert", "token"), teacher_model(hidden_size=24)
    objective = objective_of(student, teacher, ("hidden",))
    assert not list(objective.transfer.parameters())
    batch = batch_of("bert", objective.transfer)
    expected = naive(student, teacher, torch.nn.Identity(), ("hidden",), *batch[:3], batch[-1])
    torch.testing.assert_close(objective(*batch).loss_sum / ROWS, expected, rtol=1e-9, atol=1e-9)


def test_micro_batches_add_up_and_padding_changes_nothing() -> None:
    student, teacher = small_task_model("bert", "token"), teacher_model()
    objective = objective_of(student, teacher, ("attention", "hidden"))
    ids, mask, types, targets, labeled, soft_positions, soft, theirs = batch_of("bert", objective.transfer)
    whole = objective(ids, mask, types, targets, labeled, soft_positions, soft, theirs).loss_sum
    apart = []
    for i, length in enumerate(LENGTHS):
        one = slice(i, i + 1), slice(length)
        inputs = TeacherInputs(theirs.input_ids[one], theirs.token_type_ids[one], theirs.factors)
        apart.append(
            objective(ids[one], None, types[one], targets[one], labeled[one[0]], soft_positions[one], soft, inputs)
        )
    torch.testing.assert_close(sum(part.loss_sum for part in apart), whole, rtol=1e-9, atol=1e-9)


def test_textbrewer_computes_the_same() -> None:
    student, teacher = small_task_model("bert", "token"), teacher_model()
    objective = objective_of(student, teacher, ("attention", "hidden"))
    ids, mask, types, *_, theirs = batch = batch_of("bert", objective.transfer)
    transfer = objective.transfer
    _, ours = objective.with_taps(ids, mask, types, mask.bool(), transfer.taps)
    taught = transfer.teacher(theirs.input_ids, mask, theirs.token_type_ids)
    real = mask.bool()

    def whole(states):  # TextBrewer wants states as they stand in the batch, and probabilities
        return states.new_zeros(*mask.shape, states.shape[-1]).index_put(real.nonzero(as_tuple=True), states)

    outputs = [
        {
            "hidden": {n: whole(x) for n, x in tapped["hidden"].items()},
            "attention": {n: x.softmax(-1) for n, x in tapped["scores"].items()},
        }
        for tapped in (ours, taught)
    ]
    terms = layer_terms(transfer_of(transfer), student, teacher)
    expected, _ = TextBrewerLoss(terms, transfer.projections)(*outputs, mask)
    torch.testing.assert_close(objective(*batch).loss_sum / ROWS, expected, rtol=1e-6, atol=1e-9)


def transfer_of(transfer: LayerTransfer) -> tuple[str, ...]:
    return tuple(sorted({term.feature for term in transfer.terms}))


def test_the_teacher_is_computed_as_deep_as_a_term_looks_and_its_weights_are_cast_once() -> None:
    teacher = teacher_model()
    wanted = objective_of(small_task_model("bert", "token"), teacher, ("attention",)).transfer.terms
    layers = LayerTeacher(teacher, wanted, dtype=torch.bfloat16, fast=True)
    assert len(layers._encoder.prefixes) == max(LAYERS) + 1 < teacher.config.num_hidden_layers
    assert {tensor.dtype for tensor in layers._weights.values()} == {torch.bfloat16}
    assert not any(".3." in name or "pooler" in name for name in layers._weights)
    ids, mask, types, _ = random_task_batch("bert", "token", LENGTHS, WIDTH)
    tapped = layers(ids, mask, types)
    assert tapped["scores"].keys() == set(LAYERS) and not tapped["hidden"]
    assert not any(tensor.requires_grad for tensor in tapped["scores"].values())


def test_the_teacher_reads_its_own_ids_and_types_whatever_the_student_is() -> None:
    student, teacher = small_task_model("distilbert", "sequence"), teacher_model()
    wanted = objective_of(student, teacher, ("hidden",)).transfer.terms
    layers = LayerTeacher(teacher, wanted, dtype=torch.float64, fast=True)
    learner = StudentLearner(
        student, "sequence", ComputePlan(torch.float64, True, 1, 4096, 0.0, "test"), wanted, layers
    )
    shared = {
        "labels": 1,
        "labeled": True,
        "soft_positions": np.arange(0),
        "soft_logits": np.zeros((0, 3), np.float16),
        "rows": 1,
    }
    features = [
        {"input_ids": [1, 2], "teacher_ids": [7, 8], "token_type_ids": [0, 1], **shared},
        {"input_ids": [3, 1, 2], "teacher_ids": [9, 7, 8], "token_type_ids": [0, 0, 1], **shared},
    ]
    parts = micro_batches(features, pad_id=0, head="sequence", types=False, tokens=4096)
    (part,) = learner.objective_inputs(features, parts)
    assert part.token_type_ids is None and part.input_ids[:, :3].tolist() == [[3, 1, 2], [1, 2, 0]]
    assert part.teacher_inputs.input_ids[:, :3].tolist() == [[9, 7, 8], [7, 8, 0]]
    assert part.teacher_inputs.token_type_ids[:, :3].tolist() == [[0, 0, 1], [0, 1, 0]]
    assert part.teacher_inputs.factors.tolist() == [2 / 5, 2 / 5]  # two documents, five tokens
    learner.close()
