"""DistilBioBERT: half of BioBERT's layers, distilled through its outputs and its last hidden states.

    python recipes/distilbiobert.py                   # quick: trains the teacher too, if it does not exist yet
    python recipes/distilbiobert.py --dry-run         # settings and cost
    python recipes/distilbiobert.py --preset mini     # the whole sample, 5 passes: hours on two cores
    python recipes/distilbiobert.py --preset paper    # the published run

Reproduces the row DistilBioBERT of the paper (published script for DistilBioBERT):

    loss = 2 MLM + 5 T^2 KL(teacher || student) at temperature T = 2 + 1 (1 - cosine of the last states)

The student starts from teacher layers 0, 2, 4, ... and the teacher's embeddings. It trains for 100,000 steps of 192
documents of up to 256 tokens, with learning rate 5e-4 after 5,000 steps of warm-up and no weight decay.

Departures: the default fidelity is "corrected" (no dropout in the teacher; the student's vocabulary head is copied, not
random); --fidelity published does as the script does. In the miniature, BioMiniLM takes BioBERT's place, at half its
depth and width.
"""

import sys

from compact_biomed.cli.recipe import main
from compact_biomed.objectives.terms import LAST, Term
from compact_biomed.training.recipe import DistillationRecipe

TEMPERATURE = 2.0

RECIPE = DistillationRecipe(
    name="distilbiobert",
    model="distilbiobert",
    teacher="biominilm_cl",
    layer_map="even",
    terms=(
        Term(feature="logits", loss="mlm_cross_entropy", weight=2.0),
        Term(feature="logits", loss="soft_kl", weight=5.0 * TEMPERATURE**2, temperature=TEMPERATURE),
        Term(feature="hidden", loss="hidden_cosine", layer_S=LAST, layer_T=LAST, weight=1.0),
    ),
    settings={"weight_decay": 0.0},
    paper={"warmup_steps": 5_000},
    quick={"max_steps": 350},  # about ten minutes with the teacher's 300
    note="BioMiniLM, trained by recipes/biominilm_cl.py, is the teacher in BioBERT's place.",
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
