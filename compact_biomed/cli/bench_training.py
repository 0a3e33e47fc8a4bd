"""`compact-biomed bench step`, `finetune`, `profile` and `gpu`: how fast training is, and what its time goes into."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compact_biomed.bench import RECIPES
from compact_biomed.cli.flags import add_threads, at_least_one, positive, seeds
from compact_biomed.console import say, size
from compact_biomed.errors import UsageError
from compact_biomed.training.recipe import PRESETS


def add_records(parser: argparse.ArgumentParser) -> None:
    """Add --records."""
    parser.add_argument("--records", type=Path, metavar="FILE", help="append the result to this JSON Lines file")


def append(options: argparse.Namespace, results: Sequence[dict[str, Any]]) -> None:
    """Append results to the file that --records names."""
    if options.records:
        from compact_biomed.records.files import append_record

        for result in results:
            append_record(options.records, result)


# ---- bench step


def _add_bench(parser: argparse.ArgumentParser, rounds: int, meaning: str) -> None:
    """Add the flags that say which step is measured."""
    add = parser.add_argument
    recipes = f"one of {', '.join(RECIPES)} (default: %(default)s)"
    add("--recipe", choices=RECIPES, default="biomobilebert_cl", metavar="NAME", help=recipes)
    add("--preset", choices=PRESETS, default="paper", help="scale of the model (default: paper)")
    add("--documents", type=at_least_one, default=48, metavar="N", help="batch size (default: 48, two devices of 24)")
    add(
        "--fidelity",
        choices=("corrected", "published"),
        default="corrected",
        help="loss of our distillation step: without or with the published quirks (default: corrected)",
    )
    add("--rounds", type=at_least_one, default=rounds, metavar="N", help=f"{meaning} (default: %(default)s)")
    add(
        "--micro-batch-tokens",
        type=int,
        default=0,
        metavar="N",
        help="padded tokens per micro-batch (default: chosen for the machine)",
    )
    add("--replicas", type=int, default=0, metavar="N", help="micro-batches in parallel (default: one per core)")
    add_threads(parser)
    add(
        "--peer-documents",
        type=at_least_one,
        default=0,
        metavar="N",
        help="documents per micro-batch of tuned transformers (default: the fastest of 8, 16 and 24; profile: 16)",
    )
    add("--json", action="store_true", help="print the record as JSON on standard output")
    add_records(parser)


def _bench(options: argparse.Namespace):
    from compact_biomed.bench.sides import StepBench

    return StepBench(
        recipe=options.recipe,
        preset=options.preset,
        documents=options.documents,
        fidelity=options.fidelity,
        micro_batch_tokens=options.micro_batch_tokens,
        replicas=options.replicas,
        peer_documents=options.peer_documents,
    )


def _add_step(parser: argparse.ArgumentParser) -> None:
    _add_bench(parser, 5, "timed steps per implementation")
    parser.add_argument(
        "--against",
        nargs="+",
        choices=("published", "tuned"),
        default=["published", "tuned"],
        metavar="SIDE",
        help="published, tuned, or both (default), which a record needs",
    )


def _run_step(options: argparse.Namespace) -> int:
    from compact_biomed.bench.sides import SIDES
    from compact_biomed.bench.step import measure_step

    sides = tuple(side for side in SIDES if side == "ours" or side in options.against)
    if options.records and sides != SIDES:
        raise UsageError("a record compares with both", where="--against", remedy="leave out --against, or --records")
    result = measure_step(_bench(options), options.rounds, sides)
    append(options, [result])
    ends = {"published": "_published", "tuned": "_tuned", "ours": ""}
    say(f"\n{'':<20}{'speed':>16}{'peak memory':>14}")
    for side in sides:
        name = "tuned transformers" if side == "tuned" else side
        speed = f"{result[f'tokens_per_s{ends[side]}']:,.0f} tokens/s"
        say(f"{name:<20}{speed:>16}{size(result[f'peak_memory_mb{ends[side]}'] * 1e6):>14}")
    for side, end in (("tuned", "_to_tuned"), ("published", "")):
        if side in sides:
            ratio, memory = result[f"ratio{end}"], result[f"peak_memory_ratio{end}"]
            say(f"{f'ratio to {side}':<20}{ratio:>16.2f}{memory:>14.2f}")
    say(f"\nThe ratios of the speeds are medians of {options.rounds} rounds.")
    if "tuned" in sides:
        from compact_biomed.bench.tuned import TunedSettings

        say(f"Tuned transformers: {TunedSettings(**result['tuned']).described()}.")
    say(f"Ours reaches {result['share_of_matmul_ceiling']:.0%} of the matmul ceiling of this machine.")
    if sides == SIDES:
        for name, end in (("published one", ""), ("one of tuned transformers", "_tuned")):
            say(
                f"The loss differs from the {name} by {result[f'loss_difference{end}_fp32']:.1e} in fp32 and by "
                f"{result[f'loss_difference{end}']:.1e} in {result['precision']}."
            )
    if options.json:
        print(json.dumps(result))
    return 0


# ---- bench finetune


def _add_finetune(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default="registry:all-minilm-l6-v2", metavar="M", help="start weights (default: %(default)s)")
    add("--task", default="NCBI-disease", help="an entity benchmark (default: %(default)s)")
    add("--data", type=Path, metavar="DIR", help="folder of the benchmarks' files (default: COMPACT_BIOMED_DATA)")
    add("--examples", type=at_least_one, metavar="N", help="sentences to train on (default: all)")
    add("--epochs", type=at_least_one, metavar="N", help="default: 5, as in the published protocol")
    add("--learning-rate", type=positive, metavar="R", help="default: that of the published protocol")
    add_threads(parser)
    add("--json", action="store_true", help="print the record as JSON on standard output")
    add(
        "--seeds",
        type=seeds,
        default=[1, 2, 3, 4, 5],
        metavar="LIST",
        help="one fine-tuning run per implementation and seed (default: 1,2,3,4,5)",
    )
    add_records(parser)


def _run_finetune(options: argparse.Namespace) -> int:
    from compact_biomed.bench.finetune import measure_finetuning
    from compact_biomed.evaluation.protocols import Overrides
    from compact_biomed.report.render import plain
    from compact_biomed.report.statistics import summarize
    from compact_biomed.report.table import score

    overrides = Overrides(options.learning_rate, options.epochs, options.examples)
    result = measure_finetuning(options.model, options.task, options.seeds, data=options.data, overrides=overrides)
    append(options, [result])
    say(f"\n{'':<20}{'training':>16}{result['metric']:>20}")
    for name, end in (("published", "_plain"), ("tuned transformers", "_tuned"), ("ours", "")):
        speed = f"{result[f'tokens_per_s{end}']:,.0f} tokens/s"
        scores = plain(score(summarize([turn[f"score{end}"] for turn in result["turns"]])))
        say(f"{name:<20}{speed:>16}{scores:>20}")
    say()
    for name, end in (("tuned transformers", "_to_tuned"), ("the published way", "")):
        interval = result[f"score_difference{end}_interval"]
        bounds = f" (95 % interval {interval[0]:+.2f} to {interval[1]:+.2f}, paired over seeds)" if interval else ""
        say(
            f"Training is {result[f'ratio{end}']:.2f} times as fast as {name}, prediction on the test set "
            f"{result[f'ratio_of_answers{end}']:.2f} times (ratio of the seconds, median over seeds)."
        )
        say(f"  The mean difference of the scores is {result[f'score_difference{end}']:+.2f}{bounds}.")
    say(f"Tuned transformers: {', '.join(result['tuned'].values())}. Published: fp32, batches in random order.")
    if options.json:
        print(json.dumps(result))
    return 0


# ---- bench profile


def _add_profile(parser: argparse.ArgumentParser) -> None:
    _add_bench(parser, 2, "profiled steps per implementation")
    parser.add_argument("--peer", action="store_true", help="profile tuned transformers too")


def _run_profile(options: argparse.Namespace) -> int:
    from compact_biomed.bench.step import measure_profile
    from compact_biomed.report.render import markdown
    from compact_biomed.report.speed import profile_table

    result = measure_profile(_bench(options), options.rounds, peer=options.peer)
    append(options, [result])
    say()
    if options.json:
        print(json.dumps(result))
    else:
        print(markdown(profile_table(result)), end="")
    for side, profile in result["profiles"].items():
        say(f"\nThe operations of {side} that take most, in ms per step:")
        for name, seconds in profile["operations"]:
            say(f"  {seconds * 1000:>10,.1f}  {name}")
    return 0


# ---- bench gpu


def _add_gpu(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--minutes", type=positive, default=8, metavar="M", help="time for the whole command (default: 8)")
    add(
        "--records", type=Path, metavar="FILE", help="append each result to this JSON Lines file as soon as it is there"
    )
    recipes = f"in this order, of {', '.join(RECIPES)} (default: all)"
    add("--recipes", nargs="+", choices=RECIPES, metavar="NAME", help=recipes)
    add("--documents", type=at_least_one, metavar="N", help="batch size (default: 192, the paper's)")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cpu tests the command with small models")
    add("--scale", choices=("paper", "smoke"), help="of the models (default: paper; with --device cpu: smoke)")
    add_threads(parser)
    add("--json", action="store_true", help="print the records as JSON Lines on standard output, not a table")


def _run_gpu(options: argparse.Namespace) -> int:
    from compact_biomed.bench.gpu import GpuBench, all_passed, measure_gpu
    from compact_biomed.report.render import markdown
    from compact_biomed.report.speed import gpu_table

    small = options.device == "cpu"
    bench = GpuBench(
        device=options.device,
        scale=options.scale or ("smoke" if small else "paper"),
        documents=options.documents or (8 if small else 192),
        minutes=options.minutes,
        recipes=tuple(options.recipes or RECIPES),
        seconds=0.1 if small else 2.0,
    )
    records = measure_gpu(bench, lambda record: append(options, [record]))
    if options.json:
        for record in records:
            print(json.dumps(record))
    elif records:
        print(markdown(gpu_table(records)), end="")
    return 0 if all_passed(records) else 1


ACTIONS = (
    ("step", "time a training step: ours, tuned transformers' and the published scripts'", _add_step, _run_step),
    (
        "finetune",
        "time fine-tuning for entities: ours, tuned transformers' and the plain way",
        _add_finetune,
        _run_finetune,
    ),
    ("profile", "show what the time of a training step goes into, by kind of work", _add_profile, _run_profile),
    ("gpu", "check and time all recipes on a GPU at the paper's size, within minutes", _add_gpu, _run_gpu),
)
"""Name, meaning, function that adds the flags, function that runs."""
