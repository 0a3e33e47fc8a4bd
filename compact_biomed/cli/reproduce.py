"""The command line of recipes/reproduce.py."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compact_biomed.cli.flags import Parser, names, positive

if TYPE_CHECKING:
    from compact_biomed.reproduce.processes import Launch

PRESETS = ("smoke", "quick", "mini")
_EPILOG = """\
examples
  python recipes/reproduce.py --dry-run                       the plan, what is left of it, what it costs
  python recipes/reproduce.py --preset mini --minutes 30      a slice; the same command goes on
  python recipes/reproduce.py --preset mini --only BioTinyBERT,NCBI-disease
  python recipes/reproduce.py --preset mini --claims          tables, figure, page and README again, from records
  python recipes/reproduce.py --preset mini --release DIR     a folder for each trained model, ready to be published

What is trained and measured is declared in recipes/reproduce.toml. Benchmarks are found by COMPACT_BIOMED_DATA.
"""


def main(recipes: Path, arguments: Sequence[str] | None = None, *, start: "Launch | None" = None) -> int:
    """Run it; return the exit status: 0 done or time is up, 1 something failed or a task is not here, 130 Ctrl-C.

    Args:
        recipes: folder of the recipes and of reproduce.toml.
        start: runs a command; by default `processes.launch`.
    """
    from compact_biomed.cli import guarded

    options = _parser().parse_args(arguments)
    return guarded(lambda: _run(recipes, options, start))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="reproduce.py", description="Train the family and its controls, measure them, and judge the claims.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--preset", choices=PRESETS, default="quick", help="default: quick")
    instead = parser.add_mutually_exclusive_group().add_argument
    instead("--dry-run", action="store_true", help="print the plan with its costs, and stop")
    instead("--claims", action="store_true", help="make tables, figure, page and README from the records, and stop")
    instead("--release", type=Path, metavar="DIR", help="make DIR/NAME of each trained model of the family, and stop")
    add("--minutes", type=positive, metavar="N", help="stop after about so long; the same command goes on")
    add("--only", type=names, default=(), metavar="LIST", help="models, tasks, pretraining, evaluation; with commas")
    add("--folder", type=Path, metavar="DIR", help="of the runs (default: runs/reproduce-PRESET)")
    add("--results", type=Path, metavar="DIR", help="of records and tables (default: see recipes/reproduce.toml)")
    return parser


def _run(recipes: Path, options: argparse.Namespace, start: "Launch | None") -> int:
    from compact_biomed.files import cache_folder
    from compact_biomed.reproduce import declaration, execute, plan, processes
    from compact_biomed.reproduce.costs import Costs
    from compact_biomed.reproduce.plan import Places
    from compact_biomed.reproduce.results import write_tables

    declared = declaration.load(recipes / "reproduce.toml", options.preset)
    folder = options.folder or Path("runs") / f"reproduce-{options.preset}"
    results = options.results or (declared.results if options.folder is None else None) or folder / "results"
    places = Places(recipes, folder, results, _readme(recipes, declared.results, results))
    if options.claims:
        write_tables(places)
        return 0
    made = plan.make(declared, places, options.only)
    if options.release:
        from compact_biomed.reproduce.release import release

        return release(made, options.release, options.only)
    costs = Costs(made.steps, cache_folder() / "reproduce-costs.json")
    execute.plan_of_steps(made, costs.of_what_is_left(made.chosen))
    if options.dry_run:
        return 0
    with processes.sole_user(folder) as lock:
        tally = execute.execute(made.chosen, start or processes.launch, minutes=options.minutes, lock=lock)
    execute.summary(made, tally)
    write_tables(places)
    if tally.interrupted:
        return 130
    return 1 if tally.failed or made.missing else 0


def _readme(recipes: Path, declared: Path | None, results: Path) -> Path | None:
    """The project's README, where the results are the project's own: those of another folder do not go into it."""
    root = recipes.parent
    own = declared is not None and results.resolve() == (root / declared).resolve()
    return root / "README.md" if own else None
