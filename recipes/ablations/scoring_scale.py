"""What does scoring on word-pieces change, as the published scripts do? From records of evaluations; nothing is run.

python recipes/ablations/scoring_scale.py --records results/sketch/evaluation.jsonl
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from compact_biomed.cli import guarded
from compact_biomed.cli.flags import Parser


def main(arguments: Sequence[str] | None = None, *, program: str | None = None) -> int:
    """Print the table."""
    parser = Parser(prog=program, description=__doc__.splitlines()[0])
    parser.add_argument("--records", nargs="+", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)

    from compact_biomed.records.lines import read_lines, score_lines
    from compact_biomed.report.render import markdown
    from compact_biomed.report.trainings import scales_table

    print(markdown(scales_table(score_lines(read_lines(options.records)))), end="")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
