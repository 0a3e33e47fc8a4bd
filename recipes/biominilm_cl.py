"""BioMiniLM: all-MiniLM-L6-v2, pretrained further on PubMed: the mini teacher, in BioBERT's place.

    python recipes/biominilm_cl.py                   # quick
    python recipes/biominilm_cl.py --preset mini     # the teacher of the miniature students

The paper has no such model: its teacher is BioBERT v1.1/1.2, twice as deep and as wide, and
comes from a hub. This one needs nothing but a package index. Its "paper" preset is the
published schedule of continual pretraining on these six layers.

The start weights come without a vocabulary head: its transform is new, its decoder is tied
to the embeddings, its bias starts at the corpus' log-frequencies.
"""

import sys

from compact_biomed.cli.recipe import main
from compact_biomed.training.recipe import Recipe

RECIPE = Recipe(
    name="biominilm_cl",
    model="biominilm",
    paper={"start": "registry:all-minilm-l6-v2", "decoder_bias": True},
    mini={
        "start": "registry:all-minilm-l6-v2",
        "decoder_bias": True,
        "learning_rate": 5e-4,
        "max_steps": 10_200,  # ten passes over the sample, 72 M tokens: twice what its students read
        "warmup_steps": 1_020,
    },
    quick={"max_steps": 300, "warmup_steps": 30},
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
