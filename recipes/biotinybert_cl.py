"""BioTinyBERT: TinyBERT, pretrained further on PubMed by masked-language modeling.

    python recipes/biotinybert_cl.py                   # quick
    python recipes/biotinybert_cl.py --preset paper

Reproduces the row BioTinyBERT of the paper (section 3.1): TinyBERT_General_4L_312D, 200,000
steps of 192 documents of up to 256 tokens, 15 % masked, learning rate 1e-4 after 10,000 steps
of warm-up, weight decay 0.01.

The miniature (2 layers, width 156) has no published general model to start from; it starts
at random, with word embeddings projected from all-MiniLM-L6-v2's.
"""

import sys

from compact_biomed.cli.recipe import main
from compact_biomed.training.recipe import Recipe

RECIPE = Recipe(
    name="biotinybert_cl",
    model="biotinybert",
    paper={"start": "huawei-noah/TinyBERT_General_4L_312D"},
    mini={
        "start": "random",
        "tokenizer": "registry:all-minilm-l6-v2",
        "embeddings_from": "registry:all-minilm-l6-v2",
        "decoder_bias": True,
        "learning_rate": 1e-3,
    },
    note="No general TinyBERT of half size is published: this one starts from random layers.",
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
