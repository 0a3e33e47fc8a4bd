"""BioMobileBERT: MobileBERT, pretrained further on PubMed by masked-language modeling.

    python recipes/biomobilebert_cl.py                   # quick: a few minutes on two cores
    python recipes/biomobilebert_cl.py --dry-run         # what it would do and cost
    python recipes/biomobilebert_cl.py --preset mini     # all of the sample: 5 passes, hours on two cores
    python recipes/biomobilebert_cl.py --preset paper    # the published run

Reproduces the row BioMobileBERT of the paper (published script for MobileBERT):
google/mobilebert-uncased, 200,000 steps of 192 documents of up to 256 tokens, 15 % masked,
Adam with learning rate 1e-4 after 10,000 steps of warm-up, weight decay 0.01.

Where it departs: masks are hashed from the document's PMID, which makes runs repeatable (same
rule, same distribution). The miniature (12 blocks, widths 384 and 96) starts from a general
MobileBERT distilled from all-MiniLM-L6-v2 (recipes/mobilebert_general.py), and reads the three
quarters of the documents that this start has not read. quick starts at random, with word
embeddings projected from all-MiniLM-L6-v2's.
"""

import sys

from compact_biomed.cli.recipe import main
from compact_biomed.training.recipe import Recipe

RECIPE = Recipe(
    name="biomobilebert_cl",
    model="biomobilebert",
    paper={"start": "google/mobilebert-uncased"},
    mini={
        "start": "recipe:mobilebert_general",
        "tokenizer": "registry:all-minilm-l6-v2",
        "documents": "rest",
        "decoder_bias": True,
        "learning_rate": 1e-3,
    },
    quick={"start": "random", "embeddings_from": "registry:all-minilm-l6-v2", "documents": "all"},
    note="In place of a general MobileBERT of this size, it starts from all-MiniLM-L6-v2's embeddings, and in mini "
    "also from its states.",
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
