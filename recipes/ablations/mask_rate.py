"""Which share of the tokens should continual pretraining mask? The paper masks 15 %.

    python recipes/ablations/mask_rate.py --seeds 1 2
    python recipes/ablations/mask_rate.py -- --preset mini

All variants are measured on the same held-out tokens, 15 % of them masked.
"""

import sys

from compact_biomed.cli.ablation import main
from compact_biomed.reproduce.declaration import Ablation

RATES = ("0.15", "0.2", "0.3")

ABLATION = Ablation(
    name="mask_rate",
    question="Which share of the tokens should continual pretraining mask?",
    variants={"biominilm_cl": {rate: ("--mask-probability", rate) for rate in RATES}},
)

if __name__ == "__main__":
    sys.exit(main(ABLATION, __file__))
