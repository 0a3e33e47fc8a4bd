"""Students that start from a teacher: what is copied, what is random, what is rejected."""

import pytest
import torch
from small_models import VOCABULARY, random_batch, small_model

from compact_biomed.errors import UserError
from compact_biomed.models.students import check_heads, cut_student

IDS, MASK, _ = random_batch([9, 5], 9)


def config_of(teacher, **overrides):
    return type(teacher.config).from_dict(teacher.config.to_dict() | overrides)


def logits(model) -> torch.Tensor:
    return model.eval().double()(input_ids=IDS, attention_mask=MASK).logits[MASK.bool()]


def distilbert_config(layers: int):
    return small_model("distilbert", n_layers=layers).config


@pytest.mark.parametrize("kind", ["bert to bert", "bert to distilbert", "distilbert to distilbert"])
def test_all_layers_make_the_teacher_again(kind: str) -> None:
    teacher = small_model(kind.split()[0], torch.float32)
    config = distilbert_config(3) if kind.endswith("distilbert") else None
    torch.testing.assert_close(logits(cut_student(teacher, config, layers=(0, 1, 2))), logits(teacher))


def test_layers_are_where_the_map_puts_them() -> None:
    teacher = small_model("bert", torch.float32)
    student = cut_student(teacher, layers=(2, 0))
    assert student.config.num_hidden_layers == 2
    states = teacher.bert.embeddings(IDS)
    for layer in (2, 0):
        states = teacher.bert.encoder.layer[layer](states)
        states = states[0] if isinstance(states, tuple) else states
    torch.testing.assert_close(student.eval()(IDS).logits, teacher.cls(states))


def test_the_student_shares_no_memory_with_its_teacher() -> None:
    teacher = small_model("bert", torch.float32)
    before = {name: p.clone() for name, p in teacher.named_parameters()}
    with torch.no_grad():
        for p in cut_student(teacher, layers=(0, 2)).parameters():
            p.zero_()
    assert all(torch.equal(p, before[name]) for name, p in teacher.named_parameters())


def test_a_head_left_out_is_random_and_its_decoder_tied() -> None:
    """Quirk of the published scripts: only the decoder comes with the encoder."""
    teacher = small_model("bert", torch.float32)
    student = cut_student(teacher, layers=(0, 2), head=False)
    of_student, of_teacher = student.cls.predictions, teacher.cls.predictions
    assert not torch.isclose(of_student.transform.dense.weight, of_teacher.transform.dense.weight).any()
    assert (of_student.transform.dense.bias == 0).all()
    assert (of_student.bias == 0).all()
    assert of_student.decoder.weight is student.bert.embeddings.word_embeddings.weight
    assert torch.equal(of_student.decoder.weight, of_teacher.decoder.weight)


def test_embeddings_left_out_are_random_and_the_rest_is_copied() -> None:
    teacher = small_model("bert", torch.float32)
    student = cut_student(teacher, layers=(0, 2), embeddings=False)
    of_student, of_teacher = (m.bert.embeddings.word_embeddings.weight for m in (student, teacher))
    assert not torch.isclose(of_student, of_teacher).all(1).any()
    assert student.cls.predictions.decoder.weight is of_student
    transforms = [m.cls.predictions.transform.dense.weight for m in (student, teacher)]
    assert torch.equal(*transforms)


def test_a_random_student_has_any_width() -> None:
    teacher = small_model("bert")
    config = config_of(teacher, hidden_size=12, intermediate_size=20, num_hidden_layers=2)
    torch.manual_seed(3)
    first = cut_student(teacher, config, embeddings=False, head=False)
    torch.manual_seed(3)
    second = cut_student(teacher, config, embeddings=False, head=False)
    assert first.config.hidden_size == 12
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_decoders_of_their_own_are_copied_too() -> None:
    teacher = small_model("bert", torch.float32, tie_word_embeddings=False)
    with torch.no_grad():
        teacher.cls.predictions.decoder.weight.add_(1)
    torch.testing.assert_close(logits(cut_student(teacher, layers=(0, 1, 2))), logits(teacher))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"hidden_size": 16}, ("width", "16", "24")),
        ({"num_attention_heads": 6}, ("attention heads", "6", "4")),
        ({"num_attention_heads": 5}, ("5 attention heads", "24", "1, 2, 3")),
        ({"vocab_size": 60}, ("60", str(VOCABULARY), "tokenizer")),
        ({"intermediate_size": 20}, ("intermediate", "20 x 24", "40 x 24")),
        ({"max_position_embeddings": 32}, ("position_embeddings", "32 x 24", "64 x 24")),
        ({"hidden_act": "relu"}, ("activation", "relu", "gelu")),
        ({"num_hidden_layers": 3}, ("2 teacher layers", "student of 3")),
    ],
)
def test_what_does_not_fit_says_what_would(overrides: dict, says: tuple[str, ...]) -> None:
    teacher = small_model("bert", torch.float32)
    config = config_of(teacher, **({"num_hidden_layers": 2} | overrides))
    with pytest.raises(UserError) as caught:
        cut_student(teacher, config, layers=(0, 2))
    for words in says:
        assert words in str(caught.value)


def test_layers_the_teacher_lacks_are_refused() -> None:
    with pytest.raises(UserError, match="0 to 2"):
        cut_student(small_model("bert", torch.float32), layers=(0, 3))


def test_a_student_needs_a_depth() -> None:
    with pytest.raises(UserError, match="depth"):
        cut_student(small_model("bert", torch.float32), layers=())


def test_other_architectures_are_refused() -> None:
    with pytest.raises(UserError, match="bert cannot take parts of a mobilebert"):
        cut_student(small_model("mobilebert", torch.float32), small_model("bert").config, layers=(0, 1, 2))


def test_vocabularies_must_agree_even_at_random() -> None:
    teacher = small_model("bert")
    with pytest.raises(UserError, match="vocabulary"):
        cut_student(teacher, config_of(teacher, vocab_size=60), embeddings=False, head=False)


def test_published_widths_and_heads_divide() -> None:
    from compact_biomed.models.architectures import ARCHITECTURES

    for scales in ARCHITECTURES.values():
        for architecture in scales.values():
            check_heads(architecture.config(VOCABULARY))
