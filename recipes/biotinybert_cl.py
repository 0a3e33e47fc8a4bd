"""BioTinyBERT: TinyBERT, pretrained further on PubMed by masked-language modeling.

    python recipes/biotinybert_cl.py                   # quick
    python recipes/biotinybert_cl.py --preset paper

Reproduces the row BioTinyBERT of the paper: TinyBERT_General_4L_312D, 200,000
steps of 192 documents of up to 256 tokens, 15 % masked, learning rate 1e-4 after 10,000 steps
of warm-up, weight decay 0.01.

The miniature has the published size. It starts from a general TinyBERT made from all-MiniLM-L6-v2
(recipes/tinybert_general.py), and reads the three quarters of the documents that this start has not
read. quick starts from the slice of all-MiniLM-L6-v2 alone, without distillation.
"""

import sys

from compact_biomed.cli.recipe import main
from compact_biomed.training.recipe import Recipe

RECIPE = Recipe(
    name="biotinybert_cl",
    model="biotinybert",
    paper={"start": "huawei-noah/TinyBERT_General_4L_312D"},
    mini={
        "start": "recipe:tinybert_general",
        "tokenizer": "registry:all-minilm-l6-v2",
        "documents": "rest",
        "decoder_bias": True,
        "learning_rate": 5e-4,
    },
    quick={"start": "sliced:registry:all-minilm-l6-v2", "documents": "all"},
    note="In place of the published general TinyBERT, it starts from one that is made from all-MiniLM-L6-v2.",
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
