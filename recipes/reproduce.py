"""The whole reproduction: every model and control, fine-tuned on benchmarks, and the paper's claims judged by it.

    python recipes/reproduce.py --dry-run                     # the plan and its cost
    python recipes/reproduce.py --preset mini --minutes 60    # an hour of it; the same command goes on

What it trains and measures is declared beside, in reproduce.toml.
"""

import sys
from pathlib import Path

from compact_biomed.cli.reproduce import main

if __name__ == "__main__":
    sys.exit(main(Path(__file__).parent))
