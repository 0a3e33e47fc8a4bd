"""`recipes/pruning.py`: its flags, and from them the runs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compact_biomed.cli.evaluate import add_speed, speed_of
from compact_biomed.cli.flags import Parser, at_least_one, positive, refuse_unknown, seeds, underscored
from compact_biomed.errors import UsageError

if TYPE_CHECKING:
    from compact_biomed.compress.pruning.select import Pruning

REMOVABLE = ("weights", "heads", "units")
_FIRST = ("task", "seeds", "protocol", "learning_rate", "epochs", "max_train_examples")  # of the fine-tuning before


def main(description: str, arguments: Sequence[str] | None = None) -> int:
    """Run the recipe from the command line; return the exit status.

    Args:
        description: of the method, for `--help`.
        arguments: flags, with hyphens or underscores.
    """
    from compact_biomed.cli import guarded

    return guarded(lambda: _run(parser_of(description), arguments))


def parser_of(description: str) -> argparse.ArgumentParser:
    """The flags."""
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group(required=True).add_argument
    which(
        "--model", nargs="+", type=Path, metavar="DIR", help="fine-tuned models, kept by evaluate --save (one a seed)"
    )
    which("--start", metavar="M", help="a checkpoint that is fine-tuned first: folder, hub name or registry name")
    add("--task", metavar="NAME", help="for --start: the benchmark")
    add("--ner_dir", metavar="PATH", help="the entity set, if it is one of your own")
    add("--data", type=Path, metavar="DIR", help="folder of the benchmarks' files (default: COMPACT_BIOMED_DATA)")
    add("--records", type=Path, default=Path("runs/pruning.jsonl"), metavar="FILE", help="default: %(default)s")
    add("--save", type=Path, default=Path("runs/pruning"), metavar="DIR", help="default: %(default)s")
    add("--dry_run", action="store_true", help="tell what would be done, and stop")
    science = parser.add_argument_group("science (what is learned; all of it enters the record)")
    add = science.add_argument
    add("--remove", nargs="+", choices=REMOVABLE, default=REMOVABLE, metavar="R", help="default: weights heads units")
    add("--share", nargs="+", type=_share, default=(0.5,), metavar="S",
        help="how much of them (default: 0.5); 0 is the control, trained again without pruning")  # fmt: skip
    add("--importance", choices=("magnitude", "taylor"), help="of heads and units (default: taylor)")
    add("--scope", choices=("matrix", "model"), help="within which weights are compared (default: matrix)")
    first = parser.add_argument_group("science of --start's first fine-tuning (the one after pruning follows the same "
                                      "rules, those that the record of the first states)")  # fmt: skip
    add = first.add_argument
    add("--seeds", type=seeds, metavar="LIST", help="default: 1 (published: 42)")
    add("--protocol", choices=("standard", "published"), help="default: standard")
    add("--learning_rate", type=positive, metavar="X", help="in place of the protocol's")
    add("--epochs", type=at_least_one, metavar="N", help="in place of the protocol's")
    add("--max_train_examples", type=at_least_one, metavar="N", help="train on a part")
    add_speed(parser)
    return parser


def _share(text: str) -> float:
    if not 0 <= float(text) < 1:
        raise argparse.ArgumentTypeError(f"a share is at least 0 and below 1, not {text}")
    return float(text)


def _run(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    options, rest = parser.parse_known_args(underscored(sys.argv[1:] if arguments is None else arguments))
    refuse_unknown(rest, parser)
    _check(options)
    options.speed = speed_of(options)

    from compact_biomed.compress.pruning import method
    from compact_biomed.compress.pruning.method import open_source
    from compact_biomed.models.checkpoints import quiet_transformers
    from compact_biomed.records import Records

    quiet_transformers()
    ways = _ways(options)
    store = Records(options.records)
    folders = options.model or method.fine_tuned(options, store)
    if not folders:
        return 0
    sources = [open_source(folder, options.ner_dir) for folder in folders]
    method.plan(sources, ways)
    if options.dry_run:
        return 0
    store.require_writable()
    done = [method.carried_out(source, how, options, store) for source in sources for how in ways]
    method.summary(done, options.records)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Flags that have no effect are refused."""
    if options.importance and not {"heads", "units"} & set(options.remove):
        raise UsageError("weights go by magnitude", where="--importance", remedy="leave it out")
    if options.scope and "weights" not in options.remove:
        raise UsageError("no weights are removed", where="--scope", remedy="leave it out, or --remove weights")
    if options.start and (options.task is None) == (options.ner_dir is None):
        raise UsageError("one task is wanted", where="--start", remedy="give --task or --ner_dir")
    for flag in _FIRST if options.model else ():
        if getattr(options, flag) is not None:
            raise UsageError("the record beside the model says this", where=f"--{flag}", remedy="leave it out")


def _ways(options: argparse.Namespace) -> list["Pruning"]:
    from compact_biomed.compress.pruning.select import Pruning

    def way(removed: str, share: float) -> Pruning:
        if share == 0:
            return Pruning("nothing", 0.0, importance=None)
        if removed == "weights":
            return Pruning(removed, share, scope=options.scope or "matrix")
        return Pruning(removed, share, options.importance or "taylor")

    return list(dict.fromkeys(way(removed, share) for removed in options.remove for share in options.share))
