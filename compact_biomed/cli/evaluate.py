"""`compact-biomed evaluate`: its flags. Each but --suite is a parameter of `finetune`, most with the same name."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compact_biomed.cli.data import add_own_data, keywords_of
from compact_biomed.cli.flags import (
    add_threads,
    at_least_one,
    at_least_ones,
    check_first,
    names,
    positive,
    positives,
    seeds,
    strict,
)
from compact_biomed.errors import UsageError, flag_of
from compact_biomed.machine import KERNEL_CHOICES, PRECISION_CHOICES, PerformanceSettings

_EPILOG = """\
examples
  compact-biomed evaluate --model runs/biominilm_cl-quick/model
  compact-biomed evaluate --model registry:all-minilm-l6-v2 --task NCBI-disease,GAD --data DIR --seeds 1,2,3
  compact-biomed evaluate --model M --train reviews.csv --seeds 1,2,3 --save kept
  compact-biomed evaluate --model M --train FOLDER --kind ner --seeds 1,2,3 --records records.jsonl
  compact-biomed evaluate --suite models.toml --minutes 60

A suite's file: tasks = ["NCBI-disease"], seeds = [1, 2, 3], protocol = "standard", and a table
[models] with lines NAME = "CHECKPOINT". Recorded runs are skipped: repeat the command to continue.
"""
_OF_SUITE = ("name", "task", "ner_dir", "train", "protocol", "seeds", "folds")  # flags that a suite's file replaces


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `evaluate`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="fine-tune and score encoders on the benchmarks",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", metavar="M", help="checkpoint: folder, hub name or registry:all-minilm-l6-v2")
    add("--name", help="name of the model in records (default: that of its folder)")
    add("--suite", type=Path, metavar="FILE", help="evaluate the models of a TOML file instead of --model")
    add("--task", type=names, metavar="LIST", help="names, with commas (default: MEDLINE-sections, needs no files)")
    ner_help = "a folder with train, devel and test of an entity set of your own; may be repeated"
    add("--ner-dir", action="append", metavar="PATH", help=ner_help)
    add("--data", type=Path, metavar="DIR", help="folder of the benchmarks' files (default: COMPACT_BIOMED_DATA)")
    add("--records", type=Path, default=Path("runs/evaluation.jsonl"), metavar="FILE", help="default: %(default)s")
    add("--save", type=Path, metavar="DIR", help="save the fine-tuned models there")
    add_license(add)
    add("--minutes", type=positive, metavar="N", help="start no run that is expected to end after N minutes")
    add_jobs(add)
    add_own_data(parser)
    add_progress(add)
    add = parser.add_argument_group("hyperparameters (they decide the result and enter the record)").add_argument
    add("--protocol", choices=("standard", "thorough", "published", "zero-shot"), help="default: standard")
    add("--seeds", type=seeds, metavar="LIST", help="default: 1 (published: 42)")
    add("--folds", type=at_least_ones, metavar="LIST", help="of cross-validation sets (default: all)")
    add("--learning-rate", type=positive, metavar="X", help="replaces the protocol's")
    add("--epochs", type=at_least_one, metavar="N", help="replaces the protocol's")
    add_search(add)
    add("--max-train-examples", type=at_least_one, metavar="N", help="train on a subset of this size")
    add("--layer-decay", type=positive, metavar="X", help="multiply the learning rate by X per layer below the top")
    average_help = "average the weights over the last fraction X of each epoch (0 to 1)"
    add("--average-last", type=positive, metavar="X", help=average_help)
    intermediate_help = "first train N epochs on the questions of other editions (BioASQ)"
    add("--intermediate-epochs", type=at_least_one, metavar="N", help=intermediate_help)
    add_speed(parser)
    parser.set_defaults(run=strict(parser, _run))


def add_license(add: Callable[..., Any]) -> None:
    """Add --license; `add` as for `add_search`."""
    add(
        "--license",
        metavar="ID",
        help="of the saved weights, for their cards, such as apache-2.0 (default: not stated)",
    )


def add_search(add: Callable[..., Any]) -> None:
    """Add the flags of batch size and search; `add` is `add_argument` of a parser or a group."""
    add("--batch-size", type=at_least_one, metavar="N", help="replaces the protocol's")
    rates_help = "with commas: candidates of the search on dev, in place of the protocol's"
    add("--learning-rates", type=positives, metavar="LIST", help=rates_help)
    add("--batch-sizes", type=at_least_ones, metavar="LIST", help="likewise; all pairs are tried")
    add("--max-epochs", type=at_least_one, metavar="N", help="replaces the protocol's; dev may choose fewer")


def add_progress(add: Callable[..., Any]) -> None:
    """Add --dry-run and --report-to; `add` as for `add_search`."""
    add("--dry-run", action="store_true", help="print what would be done and what it costs, and stop")
    trackers_help = "trackers, with commas: tensorboard, wandb, mlflow, trackio, ... (default: none)"
    add("--report-to", type=names, default=(), metavar="LIST", help=trackers_help)


def add_speed(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `speed_of` reads."""
    title = "performance settings (they change the result by rounding and by the draw of dropout only)"
    group = parser.add_argument_group(title)
    add = group.add_argument
    add("--precision", choices=PRECISION_CHOICES, default="auto")
    add("--kernels", choices=KERNEL_CHOICES, default="auto")
    replicas_help = "micro-batches computed at the same time (default: one per core)"
    add("--replicas", type=at_least_one, default=0, metavar="N", help=replicas_help)
    add_threads(group)


def add_jobs(add: Callable[..., Any]) -> None:
    """Add --jobs; `add` as for `add_search`."""
    add("--jobs", type=at_least_one, default=1, metavar="N", help="runs at a time, each on its share of the cores")


def speed_of(options: argparse.Namespace) -> PerformanceSettings:
    """Return the performance settings that the flags of `add_speed` ask for."""
    return PerformanceSettings(precision=options.precision, kernels=options.kernels, replicas=options.replicas)


def _run(options: argparse.Namespace) -> int:
    if (options.model is None) == (options.suite is None):
        raise UsageError("nothing to evaluate, or two things", where="--model", remedy="give --model or --suite")
    for name in _OF_SUITE if options.suite else ():
        if getattr(options, name) is not None:
            raise UsageError("the suite's file decides this", where=flag_of(name), remedy="edit the file")

    check_first([options.model], files=[options.records], folders=[options.save])
    from compact_biomed.evaluation import suite
    from compact_biomed.evaluation.api import finetune
    from compact_biomed.models.checkpoints import quiet_transformers

    quiet_transformers()
    given = keywords_of(options)
    given["tasks"], given["ner_dirs"] = given.pop("task"), given.pop("ner_dir") or ()
    given["protocol"] = options.protocol or "standard"
    if given.pop("suite"):
        content = suite.load(options.suite)
        given |= {name: getattr(content, name) for name in ("tasks", "protocol", "seeds", "folds")}
        given["model"] = content.models
    return 1 if finetune(**given).failed else 0
