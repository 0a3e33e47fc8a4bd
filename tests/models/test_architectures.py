"""The paper's models have the published sizes, to the unit."""

import pytest

from compact_biomed.models.architectures import ARCHITECTURES, PUBLISHED_PARAMETERS, SCALE_OF_PRESET, encoder_parameters

UNCASED, CASED = 30_522, 28_996
DISTILLED_FROM_CASED = ("biobert", "distilbiobert", "compactbiobert", "tinybiobert")


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_published_parameter_counts(name: str) -> None:
    config = ARCHITECTURES[name]["paper"].config(CASED if name in DISTILLED_FROM_CASED else UNCASED)
    assert encoder_parameters(config) == PUBLISHED_PARAMETERS[name]


def test_cased_biodistilbert_differs_by_the_rows_of_its_vocabulary() -> None:
    config = ARCHITECTURES["biodistilbert"]["paper"].config(CASED)
    assert encoder_parameters(config) == 66_953_472 - (UNCASED - CASED) * 768


def test_the_published_numbers_are_those_of_the_source() -> None:
    # trainable_params.yaml of nlpie-research/efficient-ml; typed here a second time, on purpose.
    published = {"biomobilebert": 24_581_888, "biodistilbert": 66_953_472, "biotinybert": 14_350_248}
    published |= {"biobert": 108_310_272, "distilbiobert": 65_783_040, "compactbiobert": 65_783_040}
    published |= {"tinybiobert": 13_874_136}
    assert published == PUBLISHED_PARAMETERS


# model: (layers, hidden, heads, feed-forward): half of the paper's depth and width, or the paper's size.
MINI = {
    "biomobilebert": (12, 384, 4, 384),
    "biodistilbert": (3, 384, 12, 1536),
    "biotinybert": (4, 312, 12, 1200),
    "biominilm": (6, 384, 12, 1536),
    "biobert": (6, 384, 12, 1536),
    "distilbiobert": (3, 384, 12, 1536),
    "compactbiobert": (3, 384, 12, 1536),
    "tinybiobert": (4, 312, 12, 1200),
}


def shape(config) -> tuple[int, int, int, int]:
    inner = config.hidden_dim if config.model_type == "distilbert" else config.intermediate_size
    return config.num_hidden_layers, config.hidden_size, config.num_attention_heads, inner


@pytest.mark.parametrize("name", MINI)
def test_mini_shapes(name: str) -> None:
    mini = ARCHITECTURES[name]["mini"].config(UNCASED)
    assert shape(mini) == MINI[name]
    if name == "biominilm":  # the mini teacher has no paper model
        return
    paper = shape(ARCHITECTURES[name]["paper"].config(UNCASED))
    layers, hidden, _, inner = shape(mini)
    if name in ("biotinybert", "tinybiobert"):
        assert shape(mini) == paper
    elif name != "biomobilebert":
        assert (2 * layers, 2 * hidden, 2 * inner) == (paper[0], paper[1], paper[3])


def test_mobilebert_keeps_its_structure_at_the_width_of_its_source() -> None:
    paper, mini = (ARCHITECTURES["biomobilebert"][scale].config(UNCASED) for scale in ("paper", "mini"))
    assert (paper.embedding_size, paper.true_hidden_size, paper.num_feedforward_networks) == (128, 128, 4)
    assert (mini.embedding_size, mini.true_hidden_size, mini.num_feedforward_networks) == (96, 96, 4)
    source = ARCHITECTURES["biominilm"]["mini"].config(UNCASED)
    assert (mini.hidden_size, mini.num_hidden_layers) == (source.hidden_size, 2 * source.num_hidden_layers)
    assert mini.hidden_size / mini.true_hidden_size == paper.hidden_size / paper.true_hidden_size
    for config in (paper, mini):
        assert config.trigram_input
        assert config.hidden_act == "relu"
        assert config.normalization_type == "no_norm"


def test_every_preset_has_an_architecture_of_every_model() -> None:
    for scales in ARCHITECTURES.values():
        assert set(SCALE_OF_PRESET.values()) == set(scales)
