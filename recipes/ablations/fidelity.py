"""What do the published scripts' quirks cost? Each student corrected, as published, and with each quirk alone.

python recipes/ablations/fidelity.py                                      # quick
python recipes/ablations/fidelity.py --only corrected published -- --preset mini
"""

import sys

from compact_biomed.cli.ablation import main
from compact_biomed.reproduce.declaration import Ablation

QUIRKS = {
    "distilbiobert": {"teacher_dropout": "on", "copy_head": "off"},
    "compactbiobert": {"teacher_dropout": "on", "maps_after_dropout": "on", "cell_average": "on", "copy_head": "off"},
    "tinybiobert": {"teacher_dropout": "on", "maps_after_dropout": "on", "padding_in_mse": "on"},
}

ABLATION = Ablation(
    name="fidelity",
    question="What do the published scripts' quirks cost?",
    variants={
        recipe: {
            "corrected": (),
            "published": ("--fidelity", "published"),
            **{f"{name} {value}": (f"--{name}", value) for name, value in quirks.items()},
        }
        for recipe, quirks in QUIRKS.items()
    },
)

if __name__ == "__main__":
    sys.exit(main(ABLATION, __file__))
