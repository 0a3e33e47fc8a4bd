"""What is a start worth to the 4-layer model? Random, sliced out of all-MiniLM-L6-v2, or sliced and distilled.

    python recipes/ablations/starts.py                                                   # quick
    python recipes/ablations/starts.py --seeds 1 -- --preset mini --max-steps 500 --warmup-steps 50

All variants are pretrained further on the same documents: the three quarters that the distilled start has not read.
Compare held-out MLM losses after equal tokens; the distilled start has read tokens of its own before (its recipe's).
The random starts keep the learning rate that suited them, 1e-3.
"""

import sys

from compact_biomed.cli.ablation import main
from compact_biomed.reproduce.declaration import Ablation

MINILM, REST = "registry:all-minilm-l6-v2", ("--documents", "rest")
RANDOM = ("--start", "random", "--learning-rate", "1e-3", *REST)

ABLATION = Ablation(
    name="starts",
    question="What is a start worth?",
    variants={
        "biotinybert_cl": {
            "random, projected embeddings": (*RANDOM, "--embeddings-from", MINILM),
            "random": RANDOM,
            "sliced": ("--start", f"sliced:{MINILM}", *REST),
            "sliced and distilled": ("--start", "recipe:tinybert_general", *REST),
        },
        "biomobilebert_cl": {
            "random, projected embeddings": (*RANDOM, "--embeddings-from", MINILM),
            "distilled": ("--start", "recipe:mobilebert_general", *REST),
        },
    },
)

if __name__ == "__main__":
    sys.exit(main(ABLATION, __file__))
