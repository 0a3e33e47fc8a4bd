"""TinyBioBERT: 4 narrow layers, distilled from BioBERT through outputs, hidden states and attention maps.

    python recipes/tinybiobert.py                   # quick: trains the teacher too, if it does not exist yet
    python recipes/tinybiobert.py --dry-run         # settings and cost
    python recipes/tinybiobert.py --preset mini     # the whole sample, 5 passes: hours on two cores
    python recipes/tinybiobert.py --preset paper    # the published run

Reproduces the row TinyBioBERT of the paper (published script for TinyBioBERT):

    loss = cross-entropy with the teacher's soft labels + sum of MSE(attention maps) + sum of MSE(W h, H)

over the 4 layers (teacher layers 2, 5, 8, 11) and the 5 states (0, 3, 6, 9, 12), with one trained projection W from
width 312 to 768, which is not exported. There is no MLM term. The student starts at random and trains for 100,000 steps
of 192 documents, with learning rate 5e-4 after 10,000 steps of warm-up and weight decay 1e-4.

Departures: the default fidelity is "corrected" (no dropout in the teacher, maps before dropout, no padding in the
means); --fidelity published does as the script does, --raw-scores on compares scores, as TinyBERT's own script does.
In the miniature, BioMiniLM takes BioBERT's place, at half its depth and width. The student has the published size; it
starts, as BioTinyBERT does, from a general TinyBERT made from all-MiniLM-L6-v2 (recipes/tinybert_general.py), and reads
the three quarters of the documents that this start has not read. quick starts from the slice of all-MiniLM-L6-v2 alone.
"""

import sys

from compact_biomed.cli.recipe import main
from compact_biomed.objectives.terms import EACH, EACH_STATE, LINEAR, MAPPED, Term
from compact_biomed.training.recipe import DistillationRecipe

RECIPE = DistillationRecipe(
    name="tinybiobert",
    model="tinybiobert",
    teacher="biominilm_cl",
    layer_map="spaced",
    terms=(
        Term(feature="logits", loss="soft_cross_entropy", weight=1.0),
        Term(feature="attention", loss="attention_mse", layer_S=EACH, layer_T=MAPPED, weight=1.0),
        Term(feature="hidden", loss="hidden_mse", layer_S=EACH_STATE, layer_T=MAPPED, weight=1.0, projection=LINEAR),
    ),
    settings={"start": "random", "weight_decay": 1e-4},
    paper={"warmup_steps": 10_000},
    mini={
        "start": "recipe:tinybert_general",
        "documents": "rest",
        "decoder_bias": True,
        "learning_rate": 5e-4,
    },
    quick={"start": "sliced:registry:all-minilm-l6-v2", "documents": "all"},
    note="BioMiniLM, trained by recipes/biominilm_cl.py, is the teacher in BioBERT's place.",
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
