"""`recipes/pruning.py`: its flags, and the runs that they ask for."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from compact_biomed.cli.data import add_own_data, own_data_of
from compact_biomed.cli.evaluate import add_speed, speed_of
from compact_biomed.cli.flags import Parser, at_least_one, check_first, positive, refuse_unknown, seeds
from compact_biomed.errors import UsageError, flag_of

_SCRIPT = "python recipes/pruning.py"
REMOVABLE = ("weights", "heads", "units")
# Flags of --start's fine-tuning; for --model the record states them.
_OF_START = ("task", "seeds", "protocol", "learning_rate", "epochs", "max_train_examples")


def main(description: str, arguments: Sequence[str] | None = None, *, program: str = _SCRIPT) -> int:
    """Run the recipe from the command line and return the exit status.

    Args:
        description: of the method, for `--help`.
        arguments: flags, with hyphens or underscores.
        program: as it is called in the usage and in the description's examples.
    """
    from compact_biomed.cli import guarded

    return guarded(lambda: _run(parser_of(description, program), arguments))


def parser_of(description: str, program: str = _SCRIPT) -> argparse.ArgumentParser:
    """Declare the flags."""
    parser = Parser(
        prog=program,
        description=description.replace(_SCRIPT, program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    models = parser.add_mutually_exclusive_group(required=True).add_argument
    models(
        "--model",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="fine-tuned models (one per seed) that `evaluate --save` wrote",
    )
    models("--start", metavar="M", help="a checkpoint to fine-tune first: folder, hub name or registry name")
    add("--task", metavar="NAME", help="for --start: the benchmark")
    add("--ner-dir", metavar="PATH", help="folder of an entity set of your own, in columns")
    add("--data", type=Path, metavar="DIR", help="folder of the benchmarks' files (default: COMPACT_BIOMED_DATA)")
    add("--records", type=Path, default=Path("runs/pruning.jsonl"), metavar="FILE", help="default: %(default)s")
    add("--save", type=Path, default=Path("runs/pruning"), metavar="DIR", help="default: %(default)s")
    add("--dry-run", action="store_true", help="print the plan without running it")
    add = parser.add_argument_group("hyperparameters (all of them enter the record)").add_argument
    add("--remove", nargs="+", choices=REMOVABLE, default=REMOVABLE, metavar="R", help="default: weights heads units")
    add(
        "--share",
        nargs="+",
        type=_share,
        default=(0.5,),
        metavar="S",
        help="shares to remove (default: 0.5); 0 is the control, fine-tuned again without pruning",
    )
    add("--importance", choices=("magnitude", "taylor"), help="importance measure of heads and units (default: taylor)")
    add(
        "--scope",
        choices=("matrix", "model"),
        help="compare weights within each matrix or in the whole model (default: matrix)",
    )
    add = parser.add_argument_group(
        "hyperparameters of --start's first fine-tuning (the fine-tuning after pruning repeats those of the record)"
    ).add_argument
    add("--seeds", type=seeds, metavar="LIST", help="default: 1 (published: 42)")
    add("--protocol", choices=("standard", "thorough", "published"), help="default: standard")
    add("--learning-rate", type=positive, metavar="X", help="instead of the protocol's")
    add("--epochs", type=at_least_one, metavar="N", help="instead of the protocol's")
    add("--max-train-examples", type=at_least_one, metavar="N", help="number of training examples (default: all)")
    add_own_data(parser)
    add_speed(parser)
    return parser


def _share(text: str) -> float:
    try:
        if 0 <= (share := float(text)) < 1:
            return share
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"a share is at least 0 and below 1, not {text!r}")


def _run(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    options, rest = parser.parse_known_args(arguments)
    refuse_unknown(rest, parser)
    _check(options)

    check_first([options.start, *(options.model or ())], files=[options.records], folders=[options.save])

    from compact_biomed.compression.pruning import recipe
    from compact_biomed.compression.pruning.method import open_fine_tuned
    from compact_biomed.evaluation.workspace import Workspace
    from compact_biomed.models.checkpoints import quiet_transformers
    from compact_biomed.records.store import Records

    quiet_transformers()
    prunings = _prunings(options)
    store = Records(options.records)  # so that a file of anything else is reported before the work
    workspace = Workspace(options.records, options.data, options.save, speed_of(options))
    folders = options.model or _fine_tune_first(options, workspace)
    if not folders:
        return 0
    sources = [open_fine_tuned(folder, options.ner_dir, **own_data_of(options)) for folder in folders]
    recipe.plan(sources, prunings)
    if options.dry_run:
        return 0
    store.require_writable()
    runs = [recipe.prune_and_fine_tune(workspace, source, how) for source in sources for how in prunings]
    recipe.summary(runs, options.records)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Reject flags that would have no effect."""
    if options.importance and not {"heads", "units"} & set(options.remove):
        raise UsageError("weights are removed by magnitude", where="--importance", remedy="leave it out")
    if options.scope and "weights" not in options.remove:
        raise UsageError("no weights are removed", where="--scope", remedy="leave it out, or --remove weights")
    if options.start and sum(each is not None for each in (options.task, options.ner_dir, options.train)) != 1:
        raise UsageError("exactly one task is needed", where="--start", remedy="give --task, --train or --ner-dir")
    for name in _OF_START if options.model else ():
        if getattr(options, name) is not None:
            raise UsageError("the model's record already defines this", where=flag_of(name), remedy="leave it out")


def _prunings(options: argparse.Namespace) -> list:
    """Return each way of pruning that the flags combine, without repetitions."""
    from compact_biomed.compression.pruning.select import Pruning

    def pruning(removed: str, share: float) -> Pruning:
        if share == 0:
            return Pruning("nothing", 0.0, importance=None)
        if removed == "weights":
            return Pruning(removed, share, scope=options.scope or "matrix")
        return Pruning(removed, share, options.importance or "taylor")

    return list(dict.fromkeys(pruning(removed, share) for removed in options.remove for share in options.share))


def _fine_tune_first(options: argparse.Namespace, workspace) -> list[Path]:
    from compact_biomed.benchmarks import tasks
    from compact_biomed.benchmarks.own import own_task
    from compact_biomed.compression.pruning.recipe import fine_tune_first
    from compact_biomed.evaluation.protocols import Overrides

    if options.train:
        task = own_task(**own_data_of(options))
    else:
        task = tasks.ner_task_from_folder(options.ner_dir) if options.ner_dir else tasks.task_named(options.task)
    return fine_tune_first(
        workspace,
        options.start,
        task,
        seeds=options.seeds,
        protocol=options.protocol or "standard",
        overrides=Overrides(options.learning_rate, options.epochs, options.max_train_examples),
        dry_run=options.dry_run,
    )
