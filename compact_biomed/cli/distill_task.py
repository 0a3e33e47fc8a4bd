"""`compact-biomed train distill --task`: its flags, and from them the runs."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compact_biomed.cli.evaluate import add_speed, speed_of
from compact_biomed.cli.flags import Parser, at_least_one, positive, refuse_unknown, seeds
from compact_biomed.compress.distillation import LAYER_MAP, REST, TEMPERATURE
from compact_biomed.errors import UsageError
from compact_biomed.models.layer_maps import LAYER_MAPS

if TYPE_CHECKING:
    from compact_biomed.benchmarks.tasks import Task

TRANSFERS = ("hidden", "attention", "none")
_EPILOG = """\
examples
  compact-biomed evaluate --model BIG --task NCBI-disease --data DIR --save kept
  compact-biomed train distill --task NCBI-disease --data DIR --teacher kept/BIG-NCBI-disease-seed1 \\
      --student 3 --unlabelled sentences.txt --seeds 1,2,3 --save kept
  compact-biomed train distill --task NCBI-disease --data DIR --teacher kept/BIG-NCBI-disease-seed1 \\
      --student 3 --unlabelled sentences.txt --transfer hidden attention
  compact-biomed evaluate --model STUDENT --task NCBI-disease --data DIR --seeds 1,2,3     (the control)

Runs that are recorded are skipped: the same command goes on.
"""


def parser_of(program: str) -> argparse.ArgumentParser:
    """The flags; each may be written with hyphens too."""
    parser = Parser(
        prog=program, description="A small model for one task, from a fine-tuned teacher.", epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--task", metavar="NAME", help="a benchmark, as in evaluate")
    add("--ner_dir", metavar="PATH", help="in its place an entity set of your own: train, devel and test in a folder")
    add("--data", type=Path, metavar="DIR", help="folder of the benchmarks' files (default: COMPACT_BIOMED_DATA)")
    add("--teacher", required=True, metavar="DIR", help="a fine-tuned model, kept by evaluate --save")
    add("--student", required=True, metavar="S", help="a checkpoint, or how many layers to cut out of the teacher")
    add("--name", help="what records call the student (default: the name of its folder)")
    add("--records", type=Path, default=Path("runs/task_distillation.jsonl"), metavar="FILE",
        help="default: %(default)s")  # fmt: skip
    add("--save", type=Path, metavar="DIR", help="keep the students there")
    add("--minutes", type=positive, metavar="N", help="begin nothing that would end later")
    science = parser.add_argument_group("science (what is learned; all of it enters the record)")
    add = science.add_argument
    add("--unlabelled", nargs="+", default=[], metavar="FILE",
        help='text that only the teacher labels: one sentence a line, or JSON lines with "text"; '
        f'"{REST}" = the training examples that --max_train_examples leaves')  # fmt: skip
    add("--temperature", type=positive, metavar="T", help=f"of the soft labels (default: {TEMPERATURE:g})")
    add("--soft_weight", type=float, default=1.0, metavar="W", help="beside 1 for hard labels (default: %(default)g)")
    add(
        "--transfer",
        nargs="+",
        choices=TRANSFERS,
        default=["none"],
        metavar="WHAT",
        help="hidden (states), attention (maps), both or none: compared layer by layer in each step (default: none)",
    )
    add("--layer_map", metavar="MAP", help=f"teacher layer of each student layer: {', '.join(LAYER_MAPS)}, or a list "
        f"such as 1,3,5 (default: {LAYER_MAP})")  # fmt: skip
    add("--transfer_weight", type=positive, default=None, metavar="W", help="of each layer's term (default: 1)")
    add("--protocol", choices=("standard", "published"), default="standard", help="default: %(default)s")
    add("--seeds", type=seeds, default=[1], metavar="LIST", help="default: 1")
    add("--fold", type=at_least_one, metavar="N", help="of a cross-validation set: the one of the teacher")
    add("--learning_rate", type=positive, metavar="X", help="in place of the protocol's")
    add("--epochs", type=at_least_one, metavar="N", help="in place of the protocol's")
    add("--max_train_examples", type=at_least_one, metavar="N", help="labelled examples, if not all")
    add_speed(parser)
    return parser


def run(arguments: Sequence[str], *, program: str) -> int:
    """Parse and do.

    Args:
        arguments: flags with underscores.

    Returns:
        Exit status: 1 if a run failed.
    """
    parser = parser_of(program)
    options, rest = parser.parse_known_args(arguments)
    refuse_unknown(rest, parser)
    options.transfer = _transfer(options)
    _check(options)

    from compact_biomed.compress.distillation.prepare import prepared
    from compact_biomed.evaluation.api import carry_out
    from compact_biomed.evaluation.protocols import Overrides
    from compact_biomed.evaluation.suite import Suite
    from compact_biomed.models.checkpoints import quiet_transformers

    quiet_transformers()
    overrides = Overrides(options.learning_rate, options.epochs, options.max_train_examples)
    task = _task(options)
    student, method = prepared(options, task, overrides, speed_of(options))
    folds = None if options.fold is None else [options.fold]
    wanted = Suite(student, [task], options.seeds, options.protocol, folds, overrides)
    where = {"records": options.records, "data": options.data, "save": options.save}
    result = carry_out(wanted, method, **where, minutes=options.minutes, speed=speed_of(options))
    return 1 if result.failed else 0


def _check(options: argparse.Namespace) -> None:
    if (options.task is None) == (options.ner_dir is None):
        raise UsageError("one task is wanted", where="--task", remedy="give --task or --ner_dir")
    if not (math.isfinite(options.soft_weight) and options.soft_weight >= 0):
        raise UsageError(f"--soft_weight {options.soft_weight:g} must be finite and not below 0")
    if options.soft_weight == 0:
        for flag in ("temperature",) if options.transfer else ("unlabelled", "temperature"):
            if getattr(options, flag):
                raise UsageError(f"--{flag} has no effect with --soft_weight 0", remedy="leave it out")
    if REST in options.unlabelled and options.max_train_examples is None:
        raise UsageError(
            "every training example is labelled", where=f"--unlabelled {REST}", remedy="give --max_train_examples"
        )


def _transfer(options: argparse.Namespace) -> list[str]:
    """What `--transfer` asks for; empty for none."""
    wanted = sorted(set(options.transfer) - {"none"})
    if wanted and "none" in options.transfer:
        raise UsageError("none beside another", where="--transfer", remedy=f"some of {', '.join(TRANSFERS)}")
    for flag in () if wanted else ("layer_map", "transfer_weight"):
        if getattr(options, flag) is not None:
            raise UsageError(f"--{flag} has no effect without --transfer", remedy="--transfer hidden, say")
    return wanted


def _task(options: argparse.Namespace) -> "Task":
    from compact_biomed.benchmarks import tasks

    task = tasks.ner_task_from_folder(options.ner_dir) if options.ner_dir else tasks.task_named(options.task)
    if bool(task.folds) != (options.fold is not None):
        said = f"{task.name} has {f'{task.folds} folds' if task.folds else 'no folds'}"
        raise UsageError(said, where="--fold", remedy="name the teacher's" if task.folds else "leave it out")
    if task.kind == "regression" and options.temperature is not None:
        raise UsageError("--temperature has no effect on numbers", remedy="leave it out")
    return task
