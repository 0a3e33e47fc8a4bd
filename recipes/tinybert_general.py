"""A general TinyBERT, from which BioTinyBERT and TinyBioBERT start: sliced out of all-MiniLM-L6-v2 and distilled.

    python recipes/tinybert_general.py --preset mini               # the other recipes run it if it is missing
    python recipes/tinybert_general.py --preset mini --dry-run     # settings and cost

The paper starts BioTinyBERT from huawei-noah/TinyBERT_General_4L_312D, which was distilled from BERT-base on plain text
(TinyBERT, Jiao et al. 2020, section 3: "general distillation"). This recipe makes such a model from the one general
model that needs no hub, in two steps:

1. slicing (`compact_biomed/models/slicing.py`): 4 of 6 layers, 312 of 384 hidden units, 26 of 32 directions per head,
   1,200 of 1,536 feed-forward units;
2. distillation of every layer's states and attention maps, without labels:

    loss = sum of MSE(W h, H) over the embeddings' output and 4 layers + sum of KL(attention maps) over 4 layers

with one linear map W from width 312 to 384, which starts at its least squares and is not exported. No vocabulary head
takes part: all-MiniLM-L6-v2 has none. The text is a quarter of the training documents (--documents start), chosen by a
hash of the PMID; continual pretraining then reads the other three quarters, so that what it adds is not text that the
start had seen.
"""

import sys

from compact_biomed.cli.recipe import main
from compact_biomed.objectives.terms import EACH, EACH_STATE, LINEAR, MAPPED, Term
from compact_biomed.training.recipe import DistillationRecipe

RECIPE = DistillationRecipe(
    name="tinybert_general",
    model="biotinybert",
    teacher="biominilm_cl",  # of the smoke preset
    layer_map="spaced",
    terms=(
        Term(feature="hidden", loss="hidden_mse", layer_S=EACH_STATE, layer_T=MAPPED, weight=1.0, projection=LINEAR),
        Term(feature="attention", loss="attention_kl", layer_S=EACH, layer_T=MAPPED, weight=0.1),
    ),
    settings={"start": "sliced:teacher", "documents": "start", "weight_decay": 0.01},
    paper=None,
    mini={"teacher": "registry:all-minilm-l6-v2", "max_steps": 1_000, "warmup_steps": 100, "pseudo_positions": 0},
    note="all-MiniLM-L6-v2 is the teacher in BERT's place.",
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
