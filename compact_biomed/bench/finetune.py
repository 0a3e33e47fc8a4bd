"""`compact-biomed bench finetune`: fine-tuning for entities as `evaluate` does it, beside the plain way.

The plain way: transformers' model in fp32, batches in random order padded to the longest,
every embedding in the optimizer. Same start weights, same sentences, same order, same schedule;
in turns, so that a busy spell of the machine hits both. Each seed is trained both ways and both
models answer the same test set: what is fast must also be as good.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

from compact_biomed.console import quiet_transformers, say
from compact_biomed.flags import at_least_one, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `bench finetune`."""
    from compact_biomed.evaluation.command import seeds
    from compact_biomed.models.start import REGISTRY_MINILM

    add = parser.add_argument
    add("--model", default=REGISTRY_MINILM, metavar="M", help="default: %(default)s")
    add("--task", default="NCBI-disease", help="a set of entities (default: %(default)s)")
    add("--data", type=Path, metavar="DIR", help="folder of the benchmarks' files (default: COMPACT_BIOMED_DATA)")
    add("--examples", type=at_least_one, metavar="N", help="sentences to train on (default: all)")
    add("--epochs", type=at_least_one, metavar="N", help="default: those of the published protocol, 5")
    add("--learning-rate", type=positive, metavar="R", help="default: that of the published protocol")
    said = "a pair of trainings each (default: 1,2,3,4,5)"
    add("--seeds", type=seeds, default=[1, 2, 3, 4, 5], metavar="LIST", help=said)
    add("--records", type=Path, metavar="FILE", help="append the result to this JSON Lines file")


def run(options: argparse.Namespace) -> int:
    """Measure, print, record."""
    from compact_biomed.bench.finetune_pair import Pairs
    from compact_biomed.files import append_record
    from compact_biomed.origin import origin

    quiet_transformers()
    pairs = Pairs(options)
    say(f"{options.model} on {pairs.told}")
    pairs.warm_up()
    turns = []
    for seed in options.seeds:
        turns.append(pairs.turn(seed))
        say("  " + _told(turns[-1]))
    result = {**pairs.record(), **summary(turns), "turns": turns, "from": origin()}
    rates = f"plain {result['tokens_per_s_plain']:,.0f} tokens/s, ours {result['tokens_per_s']:,.0f}"
    say(f"training: {rates}, ratio {result['ratio']:.2f}; test set: ratio {result['ratio_of_answers']:.2f}")
    say(f"{result['metric']}: plain {_mean(turns, 'score_plain')}, ours {_mean(turns, 'score')}; {_difference(result)}")
    if options.records:
        append_record(options.records, result)
    return 0


def summary(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the turns, and the mean difference of the scores with its 95 % interval (paired t).

    Args:
        turns: of each seed what `Pairs.turn` gives.
    """
    from compact_biomed.report.statistics import paired_difference

    ours, plain = ([turn[name] for turn in turns] for name in ("score", "score_plain"))
    differences = [a - b for a, b in zip(ours, plain, strict=True)]
    interval = None
    if len(set(differences)) > 1:
        found = paired_difference(ours, plain)
        interval = [found.low, found.high]
    middle = {
        "ratio": [turn["seconds_plain"] / turn["seconds"] for turn in turns],
        "ratio_of_answers": [turn["answer_seconds_plain"] / turn["answer_seconds"] for turn in turns],
        "tokens_per_s": [turn["tokens"] / turn["seconds"] for turn in turns],
        "tokens_per_s_plain": [turn["tokens"] / turn["seconds_plain"] for turn in turns],
    }
    medians = {name: statistics.median(values) for name, values in middle.items()}
    return {**medians, "score_difference": statistics.fmean(differences), "score_difference_interval": interval}


def _told(turn: dict[str, Any]) -> str:
    return (
        f"seed {turn['seed']}: plain {turn['seconds_plain']:.1f} s, {turn['score_plain']:.2f}; "
        f"ours {turn['seconds']:.1f} s, {turn['score']:.2f}; ratio {turn['seconds_plain'] / turn['seconds']:.2f}"
    )


def _mean(turns: list[dict[str, Any]], name: str) -> str:
    from compact_biomed.report.render import score
    from compact_biomed.report.statistics import summarize

    return score(summarize([turn[name] for turn in turns]), "±")


def _difference(result: dict[str, Any]) -> str:
    interval = result["score_difference_interval"]
    bounds = f", 95 % interval {interval[0]:+.2f} to {interval[1]:+.2f}" if interval else ""
    return f"difference {result['score_difference']:+.2f}{bounds}"
