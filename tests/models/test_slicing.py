"""Students sliced out of a wider model: nothing is lost where nothing is left out, and little where little is."""

import copy

import pytest
import torch
from small_models import VOCABULARY, random_batch, small_model
from torch import nn
from torch.nn import functional as F

from compact_biomed.errors import UserError
from compact_biomed.models import slicing
from compact_biomed.models.layer_outputs import Text
from compact_biomed.models.slicing import important_units, sliced_student

LENGTHS = [48, 40, 33, 48, 25, 45, 48, 30]
IDS, MASK, _ = random_batch(LENGTHS, max(LENGTHS))
TEXT = Text(IDS, MASK.bool())
OTHER = random_batch([40, 31, 22], 40)
SMALLER = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}


@pytest.fixture(scope="module")
def source() -> nn.Module:
    """A BERT of width 24 whose hidden states lie near a space of 10 dimensions, as a trained model's do."""
    model = small_model("bert", torch.float32).eval()
    generator = torch.Generator().manual_seed(4)
    embeddings = model.bert.embeddings
    with torch.no_grad():
        few = torch.randn(10, 24, generator=generator)
        table = torch.randn(len(embeddings.word_embeddings.weight), 10, generator=generator) @ few
        embeddings.word_embeddings.weight.copy_(table)
        for layer in model.bert.encoder.layer:
            for linear in (layer.attention.output.dense, layer.output.dense):
                onto = few.T @ torch.linalg.solve(few @ few.T, few)
                linear.weight.copy_(onto @ linear.weight * 4)
            layer.output.LayerNorm.weight.add_(torch.rand(24, generator=generator))
    return model


def smaller(source: nn.Module, **overrides):
    return type(source.config).from_dict(source.config.to_dict() | SMALLER | overrides)


def states(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        outputs = model.eval()(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    return [state[mask.bool()] for state in outputs.hidden_states]


def is_hidden(name: str, axis: int, size: int) -> bool:
    """Whether an axis of a parameter runs over the hidden units, not over those of the heads."""
    of_heads = (axis == 0 and ".self." in name) or (axis == 1 and "attention.output.dense" in name)
    return size == 24 and not of_heads


def explained(student: nn.Module, source: nn.Module) -> float:
    """Share of the variance of the source's last states that a linear map from the student's explains, on new text."""
    fitted, tested = [
        (x[-1], y[-1]) for x, y in ((states(student, *b), states(source, *b)) for b in ((IDS, MASK), OTHER[:2]))
    ]
    x, y = (F.pad(z, (0, 1), value=1.0) for z in (fitted[0], tested[0]))
    solution = torch.linalg.lstsq(x, fitted[1]).solution
    return 1 - float((tested[1] - y @ solution).square().sum() / (tested[1] - fitted[1].mean(0)).square().sum())


def test_with_everything_kept_it_is_the_source(source: nn.Module) -> None:
    same = sliced_student(source, source.config, TEXT, layers=range(3))
    for ids, mask in ((IDS, MASK), OTHER[:2]):
        ours, theirs = (model.eval()(ids, attention_mask=mask).logits[mask.bool()] for model in (same, source))
        assert (ours - theirs).abs().max() < 1e-6 * max(1, float(theirs.detach().abs().max()))


def test_the_source_is_not_changed_and_shares_no_memory(source: nn.Module) -> None:
    before = copy.deepcopy(source.state_dict())
    student = sliced_student(source, smaller(source), TEXT, layers=(0, 2))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in source.state_dict().items())


def test_it_is_nearer_to_its_source_than_a_random_one(source: nn.Module) -> None:
    student = sliced_student(source, smaller(source), TEXT, layers=(0, 2))
    torch.manual_seed(0)
    random = type(student)(student.config)
    assert explained(student, source) > 0.8 > 0.5 > explained(random, source)


def test_of_units_that_say_the_same_one_is_enough(source: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """An oracle: in a model that has each of its units twice, LayerNorm is the same without the copies."""
    monkeypatch.setattr(slicing, "RIDGE", 1e-7)  # a prior that knows nothing of the copies weighs little
    half = torch.arange(24) % 12
    double = copy.deepcopy(source)
    with torch.no_grad():
        for name, parameter in double.named_parameters():
            for axis, size in enumerate(parameter.shape):
                if is_hidden(name, axis, size):
                    parameter.copy_(parameter.index_select(axis, half))
    assert sorted(half[important_units(double, TEXT, 12)].tolist()) == list(range(12))
    # Four heads of width 6 become two of width 6: the others are silent.
    with torch.no_grad():
        for layer in double.bert.encoder.layer:
            layer.attention.output.dense.weight[:, 12:] = 0
    config = smaller(source, hidden_size=12, num_attention_heads=2, intermediate_size=40, num_hidden_layers=3)
    student = sliced_student(double, config, TEXT, layers=range(3))
    units = important_units(double, TEXT, 12)
    ours, theirs = states(student, *OTHER[:2]), states(double, *OTHER[:2])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b[:, units], rtol=1e-3, atol=2e-3)


def test_the_same_hidden_units_everywhere(source: nn.Module) -> None:
    """Numbering the source's hidden units anew numbers nothing anew in the student but those units."""
    order = torch.randperm(24, generator=torch.Generator().manual_seed(2))
    renumbered = copy.deepcopy(source)
    with torch.no_grad():
        for name, parameter in renumbered.named_parameters():
            for axis, size in enumerate(parameter.shape):
                if (
                    size == 24
                    and not (axis == 0 and "self" in name)
                    and not (axis == 1 and "attention.output.dense" in name)
                ):
                    parameter.copy_(parameter.index_select(axis, order))
    ids, mask = OTHER[:2]
    torch.testing.assert_close(states(renumbered, ids, mask)[-1], states(source, ids, mask)[-1][:, order])
    units = important_units(source, TEXT, 16)
    assert set(order[important_units(renumbered, TEXT, 16)].tolist()) == set(units.tolist())
    first, second = (sliced_student(model, smaller(source), TEXT, layers=(0, 2)) for model in (source, renumbered))
    place = {int(unit): k for k, unit in enumerate(units)}
    moved = [place[int(order[k])] for k in important_units(renumbered, TEXT, 16)]
    torch.testing.assert_close(
        states(second, ids, mask)[-1], states(first, ids, mask)[-1][:, moved], rtol=1e-3, atol=1e-3
    )


def test_every_unit_keeps_its_mean_and_deviation(source: nn.Module) -> None:
    units = important_units(source, TEXT, 16)
    student = sliced_student(source, smaller(source), TEXT, layers=(0, 2))
    ours, theirs = states(student, IDS, MASK), states(source, IDS, MASK)
    for k, of in ((0, 0), (1, 1), (2, 3)):
        torch.testing.assert_close(ours[k].mean(0), theirs[of][:, units].mean(0), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(ours[k].std(0), theirs[of][:, units].std(0), rtol=1e-3, atol=1e-3)


def test_equal_arguments_give_equal_weights(source: nn.Module) -> None:
    torch.manual_seed(1)
    first = sliced_student(source, smaller(source), TEXT, layers=(0, 2))
    torch.manual_seed(2)
    second = sliced_student(source, smaller(source), TEXT, layers=(0, 2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_fewer_heads_are_the_most_important_ones(source: nn.Module) -> None:
    """Two silent heads of four can go: the attention's output stays what it was."""
    quiet = copy.deepcopy(source)
    with torch.no_grad():
        for layer, silent in zip(quiet.bert.encoder.layer, (slice(0, 12), slice(12, 24), slice(6, 18)), strict=True):
            layer.attention.output.dense.weight[:, silent] = 0
    config = smaller(source, hidden_size=12, num_attention_heads=2)
    student = sliced_student(quiet, config, TEXT, layers=(0, 2))
    assert student.config.num_attention_heads == 2 and explained(student, quiet) > 0.5


def test_padding_changes_nothing(source: nn.Module) -> None:
    wider = Text(F.pad(IDS, (0, 7), value=3), F.pad(TEXT.mask, (0, 7)))
    first, second = (sliced_student(source, smaller(source), text, layers=(0, 2)) for text in (TEXT, wider))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("overrides", "layers", "said"),
    [
        ({"hidden_size": 28}, (0, 2), "28 hidden units cannot be sliced out of 24"),
        ({"hidden_size": 16, "num_attention_heads": 8}, (0, 2), "8 attention heads .* 4"),
        ({"hidden_size": 16, "num_attention_heads": 2}, (0, 2), "8 units per head .* 6"),
        ({"hidden_size": 18}, (0, 2), "4 attention heads do not divide the width 18"),
        ({"intermediate_size": 50}, (0, 2), "50 feed-forward units .* 40"),
        ({"max_position_embeddings": 128}, (0, 2), "128 positions .* 64"),
        ({"vocab_size": 60}, (0, 2), f"60 entries.*{VOCABULARY}"),
        ({"hidden_act": "relu"}, (0, 2), "relu in the student, gelu"),
        ({}, (2, 0), "ascending"),
        ({}, (0, 3), "0 to 2"),
        ({}, (0,), "student of 2"),
    ],
)
def test_what_cannot_be_says_what_could(source: nn.Module, overrides: dict, layers: tuple, said: str) -> None:
    with pytest.raises(UserError, match=said):
        sliced_student(source, smaller(source, **overrides), TEXT, layers=layers)


def test_other_architectures_and_too_little_text(source: nn.Module) -> None:
    with pytest.raises(UserError, match="a distilbert cannot be sliced out of a bert"):
        sliced_student(source, small_model("distilbert").config, TEXT, layers=(0, 2))
    with pytest.raises(UserError, match="too few"):
        sliced_student(source, smaller(source), Text(IDS[:1, :5], TEXT.mask[:1, :5]), layers=(0, 2))
