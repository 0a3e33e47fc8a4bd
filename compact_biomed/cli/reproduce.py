"""`compact-biomed reproduce`, and the command line of recipes/reproduce.py: they are the same."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compact_biomed.cli import guarded
from compact_biomed.cli.flags import Parser, add_threads, at_least_one, names, positive, seeds, strict
from compact_biomed.training.recipe import RECIPES

if TYPE_CHECKING:
    from compact_biomed.reproduce.processes import Launcher

PRESETS = ("smoke", "quick", "sketch", "short", "tasks", "mini")
_EPILOG = """\
examples
  %(prog)s --dry-run                       print the plan and the cost of the remaining steps
  %(prog)s --preset mini --minutes 120     work for two hours; run it again to continue
  %(prog)s --preset mini --only BioTinyBERT,NCBI-disease
  %(prog)s --preset mini --claims          remake tables, figure, page and README from records
  %(prog)s --preset mini --release DIR     write one folder per trained model, ready to publish

recipes/reproduce.toml declares what is trained and measured. COMPACT_BIOMED_DATA names the folder of the benchmarks.
"""


_ABOUT = "Train the family and its controls, evaluate them, and judge the paper's claims."
_LAYOUT = {"description": _ABOUT, "epilog": _EPILOG, "formatter_class": argparse.RawDescriptionHelpFormatter}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `reproduce`."""
    parser = subparsers.add_parser("reproduce", help="rebuild the paper's family and judge its claims", **_LAYOUT)
    _declare(parser)
    parser.set_defaults(run=strict(parser, lambda options: _run(RECIPES, options, None)))


def main(
    recipes: Path,
    arguments: Sequence[str] | None = None,
    *,
    start: "Launcher | None" = None,
    program: str = "python recipes/reproduce.py",
) -> int:
    """Run a reproduction and return the exit status.

    The status is 0 if all is done or the time is up, 1 if something failed or a task is not here, 130 after Ctrl-C.

    Args:
        recipes: folder of the recipes and of reproduce.toml.
        arguments: command line; `sys.argv` by default.
        start: runs a command; `processes.Launcher` by default.
        program: as it is called in the usage and its examples.
    """
    parser = Parser(prog=program, **_LAYOUT)
    _declare(parser)
    options = parser.parse_args(arguments)
    return guarded(lambda: _run(recipes, options, start))


def _declare(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--preset", choices=PRESETS, default="quick", help="scale (default: quick)")
    instead = parser.add_mutually_exclusive_group().add_argument
    instead("--dry-run", action="store_true", help="print the plan with its costs, and stop")
    instead("--claims", action="store_true", help="make tables, figure, page and README from the records, and stop")
    instead("--release", type=Path, metavar="DIR", help="write DIR/NAME per trained model of the family, and stop")
    add("--minutes", type=positive, metavar="N", help="stop after about N minutes; run the command again to continue")
    add("--continue-later", action="store_true", help="begin trainings that cannot end within --minutes, too")
    only_help = "models, tasks, or stages: pretraining, evaluation, compression"
    add("--only", type=names, default=(), metavar="LIST", help=only_help)
    add("--seeds", type=seeds, default=(), metavar="LIST", help="seeds of fine-tuning to run (default: all)")
    add(
        "--pretraining-seeds", type=seeds, default=(), metavar="LIST", help="seeds of pretraining to run (default: all)"
    )
    add("--folder", type=Path, metavar="DIR", help="folder of the runs (default: runs/reproduce-PRESET)")
    add(
        "--jobs",
        type=at_least_one,
        default=1,
        metavar="N",
        help="steps at a time, each on its share of the cores",
    )
    add_threads(parser)
    add("--results", type=Path, metavar="DIR", help="folder of records and tables (default: as in reproduce.toml)")


def _run(recipes: Path, options: argparse.Namespace, start: "Launcher | None") -> int:
    from compact_biomed.files import cache_folder
    from compact_biomed.records.files import require_appendable
    from compact_biomed.reproduce.costs import CostEstimator
    from compact_biomed.reproduce.declaration import load
    from compact_biomed.reproduce.execute import execute
    from compact_biomed.reproduce.plan import make_plan
    from compact_biomed.reproduce.printed import print_outcomes, print_plan, print_power_of_claims
    from compact_biomed.reproduce.processes import Launcher, sole_user
    from compact_biomed.reproduce.release import release
    from compact_biomed.reproduce.results import write_tables
    from compact_biomed.reproduce.steps import ReproductionPaths

    declared = load(recipes / "reproduce.toml", options.preset)
    folder = options.folder or Path("runs") / f"reproduce-{options.preset}"
    results = options.results or (declared.results if options.folder is None else None) or folder / "results"
    readme = _readme(recipes, declared.results, results)
    shown = declared.shown or results != declared.results
    paths = ReproductionPaths(recipes, folder, results, options.preset, readme, shown, declared.shown_tasks)
    if options.claims:
        write_tables(paths)
        return 0
    plan = make_plan(declared, paths, options.only, seeds=options.seeds, pretraining_seeds=options.pretraining_seeds)
    if options.release:
        return release(plan, options.release, options.only)
    estimator = CostEstimator(plan.steps, cache_folder() / "reproduce-costs.json")
    print_plan(plan, estimator.remaining(plan.chosen))
    if options.dry_run:
        print_power_of_claims(plan)
        return 0
    for records in (paths.pretraining, paths.evaluation):
        require_appendable(records)
    with sole_user(folder) as lock:
        outcomes = execute(
            plan.chosen,
            start or Launcher(),
            minutes=options.minutes,
            costs=estimator.remaining,
            continue_later=options.continue_later,
            jobs=options.jobs,
            lock=lock,
        )
    print_outcomes(plan, outcomes)
    write_tables(paths)
    if outcomes.interrupted:
        return 130
    return 1 if outcomes.failed or plan.missing else 0


def _readme(recipes: Path, declared: Path | None, results: Path) -> Path | None:
    """Return the project's README if the results are the project's own; those of another folder do not go into it."""
    root = recipes.parent
    is_own = declared is not None and results.resolve() == (root / declared).resolve()
    return root / "README.md" if is_own else None
