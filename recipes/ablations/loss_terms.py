"""What is each term of a loss worth? Every student's loss, whole, and with each of its terms left out.

python recipes/ablations/loss_terms.py                                    # quick
python recipes/ablations/loss_terms.py --recipes tinybiobert -- --preset mini
"""

import sys

from compact_biomed.cli.ablation import main
from compact_biomed.reproduce.declaration import Ablation

TERMS = {
    "distilbiobert": ("mlm_cross_entropy", "soft_kl", "hidden_cosine"),
    "compactbiobert": ("mlm_cross_entropy", "soft_kl", "hidden_cosine", "attention_kl"),
    "tinybiobert": ("soft_cross_entropy", "hidden_mse", "attention_mse"),
}

ABLATION = Ablation(
    name="loss_terms",
    question="What is each term of a loss worth?",
    variants={
        recipe: {"whole": (), **{f"no {term}": ("--leave-out", term) for term in terms}}
        for recipe, terms in TERMS.items()
    },
)

if __name__ == "__main__":
    sys.exit(main(ABLATION, __file__))
