"""A general MobileBERT, from which BioMobileBERT starts: distilled from all-MiniLM-L6-v2, state by state.

    python recipes/mobilebert_general.py --preset mini               # biomobilebert_cl runs it if it is missing
    python recipes/mobilebert_general.py --preset mini --dry-run     # settings and cost

The paper starts BioMobileBERT from google/mobilebert-uncased, which was made by matching each block's output with a
layer of a BERT of the same inter-block width (MobileBERT, Sun et al. 2020, section 3.4: "feature map transfer"). This
recipe makes such a model from the one general model that needs no hub. The miniature's inter-block width is that of
all-MiniLM-L6-v2, 384, so that states are compared without a projection, two blocks per layer:

    loss = sum of MSE(h, H) over the embeddings' output and blocks 2, 4, ..., 12 with layers 1, 2, ..., 6

Attention maps are not compared: 4 heads face 12. Blocks start at random; word embeddings start from the leading
principal directions of all-MiniLM-L6-v2's, 96 of 384, and the map from three words to a state is learned. No vocabulary
head takes part. The text is a quarter of the training documents (--documents start), chosen by a hash of the PMID;
continual pretraining then reads the other three quarters.
"""

import sys

from compact_biomed.cli.recipe import main
from compact_biomed.objectives.terms import EACH_STATE, MAPPED, Term
from compact_biomed.training.recipe import DistillationRecipe

RECIPE = DistillationRecipe(
    name="mobilebert_general",
    model="biomobilebert",
    teacher="biodistilbert_cl",  # of the smoke preset: as deep as that preset's MobileBERT
    terms=(Term(feature="hidden", loss="hidden_mse", layer_S=MAPPED, layer_T=EACH_STATE, weight=1.0),),
    settings={"start": "random", "documents": "start", "weight_decay": 0.01},
    paper=None,
    mini={
        "teacher": "registry:all-minilm-l6-v2",
        "embeddings_from": "registry:all-minilm-l6-v2",
        "max_steps": 2_500,
        "warmup_steps": 250,
        "learning_rate": 1e-3,
        "pseudo_positions": 0,
    },
    note="all-MiniLM-L6-v2 is the teacher in BERT's place.",
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
