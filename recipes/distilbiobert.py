"""DistilBioBERT: half of BioBERT's layers, distilled through its outputs and its last hidden states.

    python recipes/distilbiobert.py                   # quick: the teacher too, if it does not exist yet
    python recipes/distilbiobert.py --dry-run         # what it would do and cost
    python recipes/distilbiobert.py --preset mini     # all of the sample, the models of results/
    python recipes/distilbiobert.py --preset paper    # the published run

Reproduces the row DistilBioBERT of the paper (section 3.2; published script for DistilBioBERT):

    loss = 2 MLM + 5 T^2 KL(teacher || student) at temperature T = 2 + 1 (1 - cosine of the last states)

The student starts from teacher layers 0, 2, 4, ... and the teacher's embeddings; 100,000 steps
of 192 documents of up to 256 tokens, learning rate 5e-4 after 5,000 steps of warm-up, no weight decay.

Where it departs: the default fidelity is "corrected" (no dropout in the teacher, the
student's vocabulary head copied, not random); --fidelity published does as the script does. In
the miniature BioMiniLM stands in BioBERT's place, at half its depth and width.
"""

import sys

from biominilm_cl import RECIPE as TEACHER

from compact_biomed.cli.recipe import main
from compact_biomed.training.recipe import DistillationRecipe

RECIPE = DistillationRecipe(
    name="distilbiobert",
    model="distilbiobert",
    teacher=TEACHER,
    loss="distilbiobert",
    paper={"layer_map": "even", "temperature": 2.0, "warmup_steps": 5_000, "weight_decay": 0.0},
    mini={"layer_map": "even", "temperature": 2.0, "weight_decay": 0.0},
    quick={"max_steps": 350},  # about ten minutes with the teacher's 300
    smoke={"layer_map": "even", "temperature": 2.0, "weight_decay": 0.0},
    note="BioMiniLM, made by recipes/biominilm_cl.py, is the teacher in BioBERT's place.",
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
