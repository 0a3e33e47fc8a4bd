"""CompactBioBERT: half of BioBERT's layers, distilled through outputs, every layer's states and attention maps.

    python recipes/compactbiobert.py                   # quick: the teacher too, if it does not exist yet
    python recipes/compactbiobert.py --dry-run         # what it would do and cost
    python recipes/compactbiobert.py --preset mini     # all of the sample, the models of results/
    python recipes/compactbiobert.py --preset paper    # the published run

Reproduces the row CompactBioBERT of the paper (section 3.2; published script for CompactBioBERT):

    loss = 1 MLM + 5 KL(teacher || student) + 3 sum over layers (KL of attention maps + 1 - cosine of states)

Student layer i starts from, and is matched with, teacher layer 2i + 1; 100,000 steps of 192
documents of up to 256 tokens, learning rate 5e-4 after 5,000 steps of warm-up, weight decay 1e-4.

Where it departs: the default fidelity is "corrected": no dropout in the teacher, maps before
dropout, the attention KL averaged over rows (the script averages over cells, which divides it by
the padded length), the vocabulary head copied. --fidelity published does as the script does.
In the miniature BioMiniLM stands in BioBERT's place, at half its depth and width.
"""

import sys

from biominilm_cl import RECIPE as TEACHER

from compact_biomed.cli.recipe import main
from compact_biomed.training.recipe import DistillationRecipe

RECIPE = DistillationRecipe(
    name="compactbiobert",
    model="compactbiobert",
    teacher=TEACHER,
    loss="compactbiobert",
    paper={"layer_map": "odd", "warmup_steps": 5_000, "weight_decay": 1e-4},
    mini={"layer_map": "odd", "weight_decay": 1e-4},
    quick={"max_steps": 350},  # about ten minutes with the teacher's 300
    smoke={"layer_map": "odd", "weight_decay": 1e-4},
    note="BioMiniLM, made by recipes/biominilm_cl.py, is the teacher in BioBERT's place.",
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
