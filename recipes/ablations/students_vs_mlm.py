"""Does a teacher help? Each distilled student beside the same student trained by MLM alone.

    python recipes/ablations/students_vs_mlm.py                        # three students, seeds 1 2 3, quick
    python recipes/ablations/students_vs_mlm.py --recipes distilbiobert --seeds 1 2 -- --max-steps 100

Same start, same documents in the same order, same masks, same number of tokens; only the terms
with a teacher are left out of the control (TinyBioBERT has no MLM term: its control gets one).
"""

import sys

from compact_biomed.cli.ablation import main
from compact_biomed.reproduce.declaration import Ablation

ABLATION = Ablation(
    name="students_vs_mlm",
    question="Does a teacher help?",
    variants={
        "distilbiobert": {"distilled": (), "mlm alone": ("--leave-out", "soft_kl", "hidden_cosine")},
        "compactbiobert": {"distilled": (), "mlm alone": ("--leave-out", "soft_kl", "hidden_cosine", "attention_kl")},
        "tinybiobert": {
            "distilled": (),
            "mlm alone": ("--loss", "distilbiobert", "--leave-out", "soft_kl", "hidden_cosine"),
        },
    },
)

if __name__ == "__main__":
    sys.exit(main(ABLATION, __file__))
