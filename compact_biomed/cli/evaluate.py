"""`compact-biomed evaluate`: its flags; the work is imported when it runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from compact_biomed.cli.flags import at_least_one, names, numbers, positive, seeds, strict
from compact_biomed.errors import UsageError
from compact_biomed.machine import Speed

if TYPE_CHECKING:
    from compact_biomed.evaluation.finetune import Method
    from compact_biomed.evaluation.suite import Suite

_EPILOG = """\
examples
  compact-biomed evaluate --model runs/biominilm_cl-quick/model
  compact-biomed evaluate --model registry:all-minilm-l6-v2 --task NCBI-disease,GAD --data DIR --seeds 1,2,3
  compact-biomed evaluate --model M --ner-dir FOLDER --seeds 1,2,3 --records records.jsonl
  compact-biomed evaluate --suite models.toml --minutes 60

A suite's file: tasks = ["NCBI-disease"], seeds = [1, 2, 3], protocol = "standard", and a table
[models] with lines NAME = "CHECKPOINT". Runs that are recorded are skipped: the same command goes on.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `evaluate`."""
    parser = subparsers.add_parser(
        "evaluate", help="fine-tune and score encoders on the benchmarks", epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--model", metavar="M", help="checkpoint: folder, hub name or registry:all-minilm-l6-v2")
    add("--name", help="what records call the model (default: the name of its folder)")
    add("--suite", type=Path, metavar="FILE", help="several models, from a TOML file, in place of --model")
    add("--task", type=names, metavar="LIST", help="names, with commas (default: MEDLINE-sections, needs no files)")
    add(
        "--ner-dir",
        action="append",
        metavar="PATH",
        help="an entity set of your own: train, devel and test in a folder",
    )
    add("--data", type=Path, metavar="DIR", help="folder of the benchmarks' files (default: COMPACT_BIOMED_DATA)")
    add("--records", type=Path, default=Path("runs/evaluation.jsonl"), metavar="FILE", help="default: %(default)s")
    add("--save", type=Path, metavar="DIR", help="keep the fine-tuned models there")
    add("--minutes", type=positive, metavar="N", help="begin nothing that would end later")
    science = parser.add_argument_group("science (what is learned; all of it enters the record)")
    add = science.add_argument
    add("--protocol", choices=("standard", "published"), help="default: standard")
    add("--seeds", type=seeds, metavar="LIST", help="default: 1 (published: 42)")
    add("--folds", type=numbers, metavar="LIST", help="of cross-validation sets (default: all)")
    add("--learning-rate", type=positive, metavar="X", help="in place of the protocol's")
    add("--epochs", type=at_least_one, metavar="N", help="in place of the protocol's")
    add("--max-train-examples", type=at_least_one, metavar="N", help="train on a part")
    add_speed(parser)
    parser.set_defaults(run=strict(parser, _run))


def add_speed(parser: argparse.ArgumentParser) -> None:
    """The flags that `speed_of` reads."""
    add = parser.add_argument_group(
        "speed (how fast; the result is the same to rounding and to the draw of dropout)"
    ).add_argument
    add("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    add("--kernels", choices=("auto", "fast", "transformers"), default="auto")
    add("--replicas", type=at_least_one, default=0, metavar="N", help="micro-batches at a time (default: one a core)")


def speed_of(options: argparse.Namespace) -> Speed:
    """The speed settings that the flags of `add_speed` ask for."""
    return Speed(precision=options.precision, kernels=options.kernels, replicas=options.replicas)


def _run(options: argparse.Namespace) -> int:
    if (options.model is None) == (options.suite is None):
        raise UsageError("nothing to evaluate, or two things", where="--model", remedy="give --model or --suite")
    for flag in ("name", "task", "ner_dir", "protocol", "seeds", "folds") if options.suite else ():
        if getattr(options, flag) is not None:
            raise UsageError("the suite's file says this", where=f"--{flag.replace('_', '-')}", remedy="edit the file")

    from compact_biomed.evaluation import finetune, suite
    from compact_biomed.evaluation.protocols import Overrides
    from compact_biomed.models.checkpoints import quiet_transformers

    quiet_transformers()
    overrides = Overrides(options.learning_rate, options.epochs, options.max_train_examples)
    wanted = suite.load(options.suite, overrides) if options.suite else _suite_of(options, overrides)
    return carry_out(wanted, options, finetune.FROM_LABELS)


def carry_out(wanted: "Suite", options: argparse.Namespace, method: "Method") -> int:
    """Do the runs of a suite that are not recorded, and tell; returns the exit status.

    Args:
        options: with `records`, `data`, `save`, `minutes` and the flags of `add_speed`.
        method: how the models learn.
    """
    from compact_biomed.evaluation import suite
    from compact_biomed.evaluation.runs import Runner
    from compact_biomed.records import Records

    store = Records(options.records)
    store.require_writable()
    runner = Runner(store, data=options.data, speed=speed_of(options), save=options.save, method=method)
    jobs = wanted.jobs()
    suite.plan_of_runs(wanted, jobs)
    tally = suite.run(jobs, runner, minutes=options.minutes)
    suite.summary(tally, options.records)
    return 1 if tally.failed else 0


def _suite_of(options: argparse.Namespace, overrides):
    from compact_biomed.benchmarks import tasks
    from compact_biomed.evaluation.protocols import default_seeds
    from compact_biomed.evaluation.runs import model_name
    from compact_biomed.evaluation.suite import Suite

    named = [tasks.task_named(name) for name in options.task or ()]
    named += [tasks.ner_task_from_folder(folder) for folder in options.ner_dir or ()]
    protocol = options.protocol or "standard"
    asked = options.seeds or default_seeds(protocol)
    models = {options.name or model_name(options.model): options.model}
    if not named and options.task is not None:
        raise UsageError("no name of a task", where="--task", remedy=f"one of {', '.join(tasks.TASKS)}")
    named = named or [tasks.task_named("MEDLINE-sections")]
    return Suite(models, named, asked, protocol, options.folds, overrides).check("evaluate", UsageError)


numbers.__name__ = "list of numbers"  # argparse names the type in its message
