"""RelationBioBERT: 4 narrow layers that learn how their teacher relates words, and nothing else. Beyond the paper.

    python recipes/relationbiobert.py                   # quick: trains the teacher too, if it does not exist yet
    python recipes/relationbiobert.py --dry-run         # settings and cost
    python recipes/relationbiobert.py --preset mini     # the whole sample, 5 passes: hours on two cores
    python recipes/relationbiobert.py --relation-layer upper-middle --relation-heads 12

The paper distills by states and attention maps, layer by layer. MiniLMv2 (Wang et al. 2021) compares two layers only,
by relations: softmax(X X^T / sqrt(width)) over the tokens of a document, for X the queries, the keys and the values:

    loss = KL(query relations) + KL(key relations) + KL(value relations)

between the student's last layer and the teacher's last (MiniLMv2's choice for teachers of 12 layers; for 24 layers it
takes one of the upper middle). The vectors of all attention heads are cut anew into 24 relation heads. So the student
needs no layer map, no projection, and neither the teacher's width nor its heads. It has TinyBioBERT's published sizes,
4 layers of width 312: the two differ by their loss.

As in MiniLMv2 there is no MLM term. No word is masked, as none will be when the encoder is used. Two parts of the
student learn nothing: the vocabulary head, which is not saved (the result is an encoder), and what follows queries,
keys and values in the last layer, which stays as it starts until it is fine-tuned. Held-out text measures the three
terms in place of the MLM loss.

The schedule is that of the paper's students. In the miniature, BioMiniLM takes BioBERT's place, and the student starts
as TinyBioBERT does, on the same documents.
"""

import sys

from compact_biomed.cli.recipe import main
from compact_biomed.objectives.terms import LAST, Term
from compact_biomed.training.recipe import DistillationRecipe

RECIPE = DistillationRecipe(
    name="relationbiobert",
    model="relationbiobert",
    teacher="biominilm_cl",
    terms=(
        Term(feature="queries", loss="query_relation_kl", layer_S=LAST, layer_T=LAST, heads=24, weight=1.0),
        Term(feature="keys", loss="key_relation_kl", layer_S=LAST, layer_T=LAST, heads=24, weight=1.0),
        Term(feature="values", loss="value_relation_kl", layer_S=LAST, layer_T=LAST, heads=24, weight=1.0),
    ),
    settings={"start": "random", "weight_decay": 0.01, "mask_probability": 0.0},
    paper={"warmup_steps": 5_000},
    mini={"start": "recipe:tinybert_general", "documents": "rest", "learning_rate": 5e-4},
    quick={"start": "sliced:registry:all-minilm-l6-v2", "documents": "all"},
    smoke={"relation_heads": 8},
    note="BioMiniLM, trained by recipes/biominilm_cl.py, is the teacher in BioBERT's place.",
)

if __name__ == "__main__":
    sys.exit(main(RECIPE))
