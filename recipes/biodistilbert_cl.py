"""BioDistilBERT: DistilBERT, pretrained further on PubMed by masked-language modeling.

    python recipes/biodistilbert_cl.py                                  # quick
    python recipes/biodistilbert_cl.py --preset paper --variant cased   # or uncased

Reproduces the rows BioDistilBERT of the paper: distilbert-base-cased and
-uncased, 200,000 steps of 192 documents of up to 256 tokens, 15 % masked, learning rate 1e-4
after 10,000 steps of warm-up, weight decay 0.01. A script is published for the cased model
only; the uncased one takes the same settings.

The miniature starts from every second layer (0, 2, 4) of all-MiniLM-L6-v2, as DistilBERT
itself started from BERT's; it is uncased, as those weights are.
"""

import sys

from compact_biomed.cli.recipe import main
from compact_biomed.training.recipe import Recipe

RECIPE = Recipe(
    name="biodistilbert_cl",
    model="biodistilbert",
    paper={},
    variants={
        "uncased": {"start": "distilbert-base-uncased"},
        "cased": {"start": "distilbert-base-cased"},
    },
    mini={
        "start": "registry:all-minilm-l6-v2",
        "layers_from": (0, 2, 4),
        "decoder_bias": True,
        "learning_rate": 5e-4,
    },
    note="In place of a DistilBERT of half size, this one starts from three layers of all-MiniLM-L6-v2.",
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
