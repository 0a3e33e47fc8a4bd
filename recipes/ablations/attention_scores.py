"""Should attention be compared as probabilities or as raw scores? TinyBioBERT's attention term both ways.

    python recipes/ablations/attention_scores.py                        # quick
    python recipes/ablations/attention_scores.py -- --preset mini

The paper's script compares probabilities, TinyBERT's own raw scores.
"""

import sys

from compact_biomed.cli.ablation import main
from compact_biomed.reproduce.declaration import Ablation

ABLATION = Ablation(
    name="attention_scores",
    question="Should attention be compared as probabilities or as raw scores?",
    variants={"tinybiobert": {"probabilities": (), "raw scores": ("--raw-scores", "on")}},
)

if __name__ == "__main__":
    sys.exit(main(ABLATION, __file__))
