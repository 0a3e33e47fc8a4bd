"""Where should a student start? Teacher layers 2i, 2i + 1, DistilBERT's choice, or random; its head copied or not.

    python recipes/ablations/initialization.py                                  # quick
    python recipes/ablations/initialization.py --only even random -- --preset mini

DistilBioBERT's loss reads no layer map: only the start differs. Embeddings are copied in all but the random start.
"""

import sys

from compact_biomed.cli.ablation import main
from compact_biomed.reproduce.declaration import Ablation

HEAD_OFF = ("--copy-head", "off")
MAPS = ("even", "odd", "distilbert")

ABLATION = Ablation(
    name="initialization",
    question="Where should a student start?",
    variants={
        "distilbiobert": {
            **{name: ("--layer-map", name) for name in MAPS},
            **{f"{name}, new head": ("--layer-map", name, *HEAD_OFF) for name in MAPS},
            "random": ("--start", "random"),
        }
    },
)

if __name__ == "__main__":
    sys.exit(main(ABLATION, __file__))
