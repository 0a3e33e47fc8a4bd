"""`compact-biomed bench ...`: its actions."""

import argparse
from pathlib import Path
from typing import Any

from compact_biomed.bench import VARIANTS
from compact_biomed.cli.flags import at_least_one, positive, strict
from compact_biomed.console import say, size


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `bench`. The benches' modules import nothing heavy until they run."""
    bench = subparsers.add_parser("bench", help="how fast and how large, beside the published way")
    actions = bench.add_subparsers(dest="action", required=True, metavar="ACTION")
    step = actions.add_parser("step", help="a training step, ours and as the published scripts write it")
    xml = actions.add_parser("xml", help="our MEDLINE reader and pubmed_parser's: differences and speed")

    add_step(step)
    step.set_defaults(run=strict(step, run_step))
    finetune = actions.add_parser("finetune", help="fine-tuning for entities, ours and the plain way")
    add_finetune(finetune)
    finetune.set_defaults(run=strict(finetune, _run_finetune))
    inference = actions.add_parser("inference", help="models that answer: size, memory, latency, throughput")
    add_inference(inference)
    inference.set_defaults(run=strict(inference, _run_inference))
    _add_xml(xml)


def _run_finetune(options: argparse.Namespace) -> int:
    from compact_biomed.bench import finetune

    return finetune.run(options)


def _run_inference(options: argparse.Namespace) -> int:
    from compact_biomed.bench import inference

    return inference.run(options)


def _add_xml(parser: argparse.ArgumentParser) -> None:
    from pathlib import Path

    parser.add_argument("files", nargs="*", type=Path, help="MEDLINE .xml.gz files (default: the registry's two)")
    parser.add_argument("--rounds", type=at_least_one, default=3, metavar="N", help="turns of each reader (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the record")

    def run(options: argparse.Namespace) -> int:
        from compact_biomed.bench import xml_readers

        return xml_readers.run(options)

    parser.set_defaults(run=strict(parser, run))


def add_finetune(parser: argparse.ArgumentParser) -> None:
    """The flags of `bench finetune`."""
    from compact_biomed.cli.flags import seeds

    add = parser.add_argument
    add("--model", default="registry:all-minilm-l6-v2", metavar="M", help="default: %(default)s")
    add("--task", default="NCBI-disease", help="a set of entities (default: %(default)s)")
    add("--data", type=Path, metavar="DIR", help="folder of the benchmarks' files (default: COMPACT_BIOMED_DATA)")
    add("--examples", type=at_least_one, metavar="N", help="sentences to train on (default: all)")
    add("--epochs", type=at_least_one, metavar="N", help="default: those of the published protocol, 5")
    add("--learning-rate", type=positive, metavar="R", help="default: that of the published protocol")
    said = "a pair of trainings each (default: 1,2,3,4,5)"
    add("--seeds", type=seeds, default=[1, 2, 3, 4, 5], metavar="LIST", help=said)
    add("--records", type=Path, metavar="FILE", help="append the result to this JSON Lines file")


def add_inference(parser: argparse.ArgumentParser) -> None:
    """The flags of `bench inference`."""
    add = parser.add_argument
    add("--models", nargs="+", required=True, metavar="M",
        help="checkpoints with a head, or SCALE:NAME for random weights (paper:tinybiobert); NAME=M: its name in "
        "records, by which `tables page` finds its scores")  # fmt: skip
    add("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="V", help="default: all four")
    add("--lengths", nargs="+", type=at_least_one, default=[128], metavar="N", help="tokens of an input (default: 128)")
    add(
        "--batches",
        nargs="+",
        type=at_least_one,
        default=[1, 4, 16],
        metavar="N",
        help="inputs at once (default: 1 4 16)",
    )
    add("--threads", nargs="+", type=at_least_one, default=[1, 2], metavar="N", help="cores used (default: 1 2)")
    add("--rounds", type=at_least_one, default=3, metavar="N", help="turns of each (default 3)")
    add("--seconds", type=float, default=0.5, metavar="S", help="least time of a turn (default 0.5)")
    add("--records", type=Path, metavar="FILE", help="append the results to this JSON Lines file")


_RECIPES = (
    *("biomobilebert_cl", "biodistilbert_cl", "biotinybert_cl", "biominilm_cl"),
    *("distilbiobert", "compactbiobert", "tinybiobert"),
)


def add_step(parser: argparse.ArgumentParser) -> None:
    """The flags of `bench step`."""
    from compact_biomed.training.recipe import PRESETS

    add = parser.add_argument
    add("--recipe", choices=_RECIPES, default="biomobilebert_cl")
    add("--preset", choices=PRESETS, default="paper", help="scale of the model (default: paper)")
    add(
        "--documents",
        type=at_least_one,
        default=48,
        metavar="N",
        help="of the batch (default 48 = 2 devices of 24)",
    )
    add("--fidelity", choices=("corrected", "published"), default="corrected", help="of a distillation's own step")
    add("--rounds", type=at_least_one, default=5, metavar="N", help="pairs that are timed (default 5)")
    add("--micro-batch-tokens", type=int, default=0, metavar="N", help="padded tokens a micro-batch (default: chosen)")
    add("--replicas", type=int, default=0, metavar="N", help="micro-batches side by side (default: one for each core)")
    add("--json", action="store_true", help="print one JSON object on stdout")
    add("--records", type=Path, metavar="FILE", help="append the result to this JSON Lines file")
    add("--memory-of", choices=("ours", "published"), help=argparse.SUPPRESS)


def run_step(options: argparse.Namespace) -> int:
    """Measure, print, record."""
    if options.memory_of:
        print(_peak_memory_here(options))
        return 0
    from compact_biomed.bench.step import compare

    result = compare(options)
    if options.records:
        from compact_biomed.records import append_record

        append_record(options.records, result)
    _tell_step(result)
    if options.json:
        import json

        print(json.dumps(result))
    return 0


def _peak_memory_here(options: argparse.Namespace) -> int:
    from compact_biomed.bench.step import pair_for
    from compact_biomed.machine import own_peak_memory

    pair = pair_for(options, which=(options.memory_of,))
    step = pair.step_ours if options.memory_of == "ours" else pair.step_published
    step(), step()
    return own_peak_memory()


def _tell_step(result: dict[str, Any]) -> None:
    say(f"\n{'':<12}{'tokens/s':>10}{'peak memory':>14}")
    for name, suffix in (("published", "_published"), ("ours", "")):
        memory = size(result[f"peak_memory_mb{suffix}"] * 1e6)
        say(f"{name:<12}{result[f'tokens_per_s{suffix}']:>10,.0f}{memory:>14}")
    say(f"ratio {result['ratio']:.2f} (median of {len(result['ratios'])} pairs), "
        f"memory {result['peak_memory_ratio']:.2f}, {result['share_of_matmul_ceiling']:.0%} of the matmul ceiling; "
        f"losses differ by {result['loss_difference_fp32']:.1e} in fp32, {result['loss_difference']:.1e} in "
        f"{result['precision']}")  # fmt: skip
