"""Does a constant learning rate with a short decay (WSD) beat a linear decay from the end of the warm-up?

    python recipes/ablations/schedule.py --seeds 1 2
    python recipes/ablations/schedule.py --recipes biotinybert_cl

The paper's schedule is linear. With WSD (warm-up, stable, decay) the end can be decided late: the stable phase can be
continued. Here the decay takes the last fifth of 500 steps.
"""

import sys

from compact_biomed.cli.ablation import main
from compact_biomed.reproduce.declaration import Ablation

STEPS = ("--max-steps", "500", "--warmup-steps", "50")
WSD = ("--lr-scheduler-type", "warmup_stable_decay", "--lr-scheduler-kwargs")
VARIANTS = {
    "linear": STEPS,
    "WSD, linear decay": (*STEPS, *WSD, '{"num_decay_steps": 100, "decay_type": "linear"}'),
    "WSD, 1-sqrt decay": (*STEPS, *WSD, '{"num_decay_steps": 100, "decay_type": "1-sqrt"}'),
}

ABLATION = Ablation(
    name="schedule",
    question="Does a constant learning rate with a short decay beat a linear decay from the end of the warm-up?",
    variants={recipe: VARIANTS for recipe in ("biominilm_cl", "biotinybert_cl")},
)

if __name__ == "__main__":
    sys.exit(main(ABLATION, __file__))
