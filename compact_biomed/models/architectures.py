"""The encoders of the paper and their miniatures, by name.

`paper` has the published architectures, with exactly the published numbers of parameters
(tests/models/test_architectures.py). `mini` has half the depth and half the width, but for the
4-layer models, which are small enough as published, and MobileBERT, whose inter-block width is
that of the model it starts from. `quick` is the same model trained for a few minutes; `smoke` is
for tests.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

SCALE_OF_PRESET = {"smoke": "smoke", "quick": "mini", "mini": "mini", "paper": "paper"}


@dataclass(frozen=True)
class Architecture:
    """A model type with the sizes of its configuration.

    Args:
        model_type: "bert", "distilbert" or "mobilebert".
        options: arguments of transformers' configuration class; all others keep their defaults,
            which are the published values.
    """

    model_type: str
    options: dict[str, Any]

    def config(self, vocab_size: int, **overrides: Any):
        """Return the transformers configuration with a vocabulary of this size."""
        return AutoConfig.for_model(self.model_type, **{"vocab_size": vocab_size, **self.options, **overrides})


def _bert(layers: int, hidden: int, heads: int, intermediate: int) -> Architecture:
    sizes = {"num_hidden_layers": layers, "hidden_size": hidden}
    return Architecture("bert", sizes | {"num_attention_heads": heads, "intermediate_size": intermediate})


def _distilbert(layers: int, hidden: int, heads: int, intermediate: int) -> Architecture:
    return Architecture("distilbert", {"n_layers": layers, "dim": hidden, "n_heads": heads, "hidden_dim": intermediate})


def _mobilebert(blocks: int, hidden: int, bottleneck: int, intermediate: int) -> Architecture:
    # classifier_activation adds a pooling matrix that the published count does not have.
    sizes = {"num_hidden_layers": blocks, "hidden_size": hidden, "embedding_size": bottleneck}
    widths = {"intra_bottleneck_size": bottleneck, "true_hidden_size": bottleneck, "intermediate_size": intermediate}
    return Architecture("mobilebert", sizes | widths | {"num_attention_heads": 4, "classifier_activation": False})


ARCHITECTURES: dict[str, dict[str, Architecture]] = {
    "biomobilebert": {
        "paper": _mobilebert(24, 512, 128, 512),
        # Inter-block width of all-MiniLM-L6-v2, whose six layers two blocks each are matched with.
        "mini": _mobilebert(12, 384, 96, 384),
        "smoke": _mobilebert(2, 32, 16, 32),
    },
    "biodistilbert": {
        "paper": _distilbert(6, 768, 12, 3072),
        "mini": _distilbert(3, 384, 12, 1536),
        "smoke": _distilbert(2, 32, 4, 64),
    },
    "biotinybert": {
        "paper": _bert(4, 312, 12, 1200),
        "mini": _bert(4, 312, 12, 1200),
        "smoke": _bert(2, 24, 4, 48),
    },
    # BioBERT, the teacher.
    "biobert": {
        "paper": _bert(12, 768, 12, 3072),
        "mini": _bert(6, 384, 12, 1536),
        "smoke": _bert(4, 32, 4, 64),
    },
    "distilbiobert": {
        "paper": _bert(6, 768, 12, 3072),
        "mini": _bert(3, 384, 12, 1536),
        "smoke": _bert(2, 32, 4, 64),
    },
    "compactbiobert": {
        "paper": _bert(6, 768, 12, 3072),
        "mini": _bert(3, 384, 12, 1536),
        "smoke": _bert(2, 32, 4, 64),
    },
    "tinybiobert": {
        "paper": _bert(4, 312, 12, 1200),
        "mini": _bert(4, 312, 12, 1200),
        "smoke": _bert(2, 24, 4, 48),
    },
    # TinyBioBERT's published sizes at every scale: relations need neither the teacher's width nor its layers.
    "relationbiobert": {
        "paper": _bert(4, 312, 12, 1200),
        "mini": _bert(4, 312, 12, 1200),
        "smoke": _bert(2, 24, 3, 48),
    },
    # The mini teacher, in place of BioBERT. The paper has no such model: its "paper" scale is
    # the published schedule on the same six layers.
    "biominilm": {
        "paper": _bert(6, 384, 12, 1536),
        "mini": _bert(6, 384, 12, 1536),
        "smoke": _bert(4, 32, 4, 64),
    },
}

PUBLISHED_PARAMETERS = {
    # encoder and pooler (or DistilBERT's 768 x 768 pre-classifier), no task layer; source:
    # trainable_params.yaml of nlpie-research/efficient-ml
    "biomobilebert": 24_581_888,
    "biodistilbert": 66_953_472,  # uncased
    "biotinybert": 14_350_248,
    "biobert": 108_310_272,  # these four cased
    "distilbiobert": 65_783_040,
    "compactbiobert": 65_783_040,
    "tinybiobert": 13_874_136,
}


def encoder_parameters(config) -> int:
    """Count parameters as the paper does: encoder, embeddings, and pooler or pre-classifier."""
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    count = sum(p.numel() for p in model.parameters())
    if config.model_type == "distilbert":
        count += config.dim * (config.dim + 1)  # the pre-classifier, which DistilBertModel does not hold
    return count
