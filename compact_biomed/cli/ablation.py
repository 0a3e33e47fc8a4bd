"""The command line of the scripts in recipes/ablations/."""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compact_biomed.cli import guarded
from compact_biomed.cli.flags import Parser, add_threads, seed
from compact_biomed.console import say
from compact_biomed.reproduce.declaration import Ablation

if TYPE_CHECKING:
    from compact_biomed.reproduce.processes import Launcher


def main(
    ablation: Ablation,
    script: str,
    arguments: Sequence[str] | None = None,
    *,
    start: "Launcher | None" = None,
    program: str | None = None,
) -> int:
    """Run the missing trainings of an ablation and print its table; return the exit status.

    Args:
        script: path of the ablation's script; the recipes are in the parent of its folder.
        arguments: command line; `sys.argv` by default.
        start: runs a command; `processes.Launcher` by default.
        program: as it is called in the usage; by default the script.
    """
    options = _parser(ablation, program).parse_args(arguments)
    recipes = Path(os.path.relpath(script)).parents[1]
    return guarded(lambda: _run(ablation, recipes, options, start))


def _parser(ablation: Ablation, program: str | None) -> argparse.ArgumentParser:
    variants = dict.fromkeys(name for of_recipe in ablation.variants.values() for name in of_recipe)
    parser = Parser(
        prog=program or f"{ablation.name}.py",
        description=f"{ablation.question} Variants: {', '.join(variants)}.",
        epilog="Flags after -- are passed to every run, for instance: -- --preset mini --max-steps 1000",
    )
    add = parser.add_argument
    recipes = list(ablation.variants)
    add("--recipes", nargs="+", choices=recipes, default=recipes, help="recipes to run (default: all)")
    add("--only", nargs="+", choices=tuple(variants), metavar="VARIANT", help="run these variants only")
    add("--seeds", nargs="+", type=seed, default=[1, 2, 3], metavar="SEED", help="default: 1 2 3")
    default = Path("runs/ablations") / ablation.name
    add("--folder", type=Path, default=default, metavar="DIR", help="parent folder of the runs (default: %(default)s)")
    add("--records", type=Path, metavar="FILE", help="one JSON line per run (default: records.jsonl beside the runs)")
    add_threads(parser)
    add("flags", nargs="*", metavar="-- FLAGS", help="flags of every run")
    return parser


def _run(ablation: Ablation, recipes: Path, options: argparse.Namespace, start: "Launcher | None") -> int:
    from compact_biomed.records.files import require_appendable
    from compact_biomed.records.lines import read_lines
    from compact_biomed.report.render import markdown_document
    from compact_biomed.report.trainings import ablation_tables
    from compact_biomed.reproduce.ablation import ablation_runs, run_ablation
    from compact_biomed.reproduce.processes import Launcher

    # Runs with other flags are other runs, so they get another folder; its name does not depend on their spelling.
    flags = [flag.replace("-", "_").replace("__", "--", 1) if flag.startswith("--") else flag for flag in options.flags]
    folder = options.folder / (re.sub(r"[^\w.]+", "-", " ".join(flags)).strip("-") or "quick")
    records = options.records or folder / "records.jsonl"
    require_appendable(records)
    runs = ablation_runs(
        ablation, folder, recipes=options.recipes, seeds=options.seeds, variants=options.only or (), flags=options.flags
    )
    failed, interrupted = run_ablation(ablation, runs, records, recipes=recipes, start=start or Launcher())
    if failed:
        say(f"\nFailed runs: {'; '.join(map(str, failed))}. Run the same command again to retry them.")
    if records.is_file():
        print(markdown_document(ablation_tables(read_lines([records]))), end="")
    if interrupted:
        say("Stopped. Run the same command again to continue.")
        return 130
    return 1 if failed else 0
