"""Which teacher layers should a student be matched with? CompactBioBERT's odd ones beside others.

    python recipes/ablations/layer_map.py                                  # quick
    python recipes/ablations/layer_map.py --only odd last -- --preset mini

The first five start from the layers that they are matched with; the "match alone" ones start at random, so that nothing
but the match differs among them.
"""

import sys

from compact_biomed.cli.ablation import main
from compact_biomed.reproduce.declaration import Ablation

MAPS = ("odd", "even", "distilbert", "first", "last")

ABLATION = Ablation(
    name="layer_map",
    question="Which teacher layers should a student be matched with?",
    variants={
        "compactbiobert": {
            **{name: ("--layer-map", name) for name in MAPS},
            **{f"{name}, match alone": ("--layer-map", name, "--start", "random") for name in MAPS},
        }
    },
)

if __name__ == "__main__":
    sys.exit(main(ABLATION, __file__))
