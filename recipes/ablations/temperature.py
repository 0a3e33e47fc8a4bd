"""How soft should the teacher's targets be? DistilBioBERT at several temperatures; the paper's is 2.

    python recipes/ablations/temperature.py                        # quick
    python recipes/ablations/temperature.py -- --preset mini

The KL term is multiplied by the temperature squared, as in the paper, so that its gradient keeps its size.
"""

import sys

from compact_biomed.cli.ablation import main
from compact_biomed.reproduce.declaration import Ablation

ABLATION = Ablation(
    name="temperature",
    question="How soft should the teacher's targets be?",
    variants={"distilbiobert": {f"T = {t}": ("--temperature", t) for t in ("2", "1", "4", "8")}},
)

if __name__ == "__main__":
    sys.exit(main(ABLATION, __file__))
