"""Which learning rate does continual pretraining want at this scale? The paper's is 1e-4. Chosen on held-out text.

python recipes/ablations/learning_rate.py                            # quick
python recipes/ablations/learning_rate.py --recipes biominilm_cl -- --preset mini --max-steps 1000
"""

import sys

from compact_biomed.cli.ablation import main
from compact_biomed.reproduce.declaration import Ablation

RATES = ("1e-4", "2e-4", "5e-4", "1e-3", "2e-3")
RECIPES = ("biominilm_cl", "biodistilbert_cl", "biomobilebert_cl", "biotinybert_cl")

ABLATION = Ablation(
    name="learning_rate",
    question="Which learning rate does continual pretraining want at this scale?",
    variants={recipe: {rate: ("--learning-rate", rate) for rate in RATES} for recipe in RECIPES},
)

if __name__ == "__main__":
    sys.exit(main(ABLATION, __file__))
