"""Small models and sets of the evaluation tests serve here too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "evaluation"))
