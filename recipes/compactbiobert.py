"""CompactBioBERT: half of BioBERT's layers, distilled through outputs, every layer's states and attention maps.

    python recipes/compactbiobert.py                   # quick: trains the teacher too, if it does not exist yet
    python recipes/compactbiobert.py --dry-run         # settings and cost
    python recipes/compactbiobert.py --preset mini     # the whole sample, 5 passes: hours on two cores
    python recipes/compactbiobert.py --preset paper    # the published run

Reproduces the row CompactBioBERT of the paper (published script for CompactBioBERT):

    loss = 1 MLM + 5 KL(teacher || student) + 3 sum over layers (KL of attention maps + 1 - cosine of states)

Student layer i starts from, and is matched with, teacher layer 2i + 1. It trains for 100,000 steps of 192 documents of
up to 256 tokens, with learning rate 5e-4 after 5,000 steps of warm-up and weight decay 1e-4.

Departures: the default fidelity is "corrected": no dropout in the teacher, maps before dropout, the attention KL
averaged over rows (the script averages over cells, which divides it by the padded length), the vocabulary head copied.
--fidelity published does as the script does. In the miniature, BioMiniLM takes BioBERT's place, at half its depth and
width.
"""

import sys

from compact_biomed.cli.recipe import main
from compact_biomed.objectives.terms import EACH, MAPPED, Term
from compact_biomed.training.recipe import DistillationRecipe

RECIPE = DistillationRecipe(
    name="compactbiobert",
    model="compactbiobert",
    teacher="biominilm_cl",
    layer_map="odd",
    terms=(
        Term(feature="logits", loss="mlm_cross_entropy", weight=1.0),
        Term(feature="logits", loss="soft_kl", weight=5.0),
        Term(feature="attention", loss="attention_kl", layer_S=EACH, layer_T=MAPPED, weight=3.0),
        Term(feature="hidden", loss="hidden_cosine", layer_S=EACH, layer_T=MAPPED, weight=3.0),
    ),
    settings={"weight_decay": 1e-4},
    paper={"warmup_steps": 5_000},
    quick={"max_steps": 350},  # about ten minutes with the teacher's 300
    note="BioMiniLM, trained by recipes/biominilm_cl.py, is the teacher in BioBERT's place.",
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
