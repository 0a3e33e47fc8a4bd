"""`compact-biomed bench ACTION`: measure speed and size against the published or plain implementation."""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from compact_biomed.bench import VARIANTS
from compact_biomed.cli.flags import add_threads, at_least_one, positive, seeds, strict
from compact_biomed.console import say, size
from compact_biomed.training.recipe import PRESETS

_RECIPES = (
    *("biomobilebert_cl", "biodistilbert_cl", "biotinybert_cl", "biominilm_cl"),
    *("distilbiobert", "compactbiobert", "tinybiobert"),
)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `bench` and its actions."""
    bench = subparsers.add_parser("bench", help="measure speed and size against the published implementation")
    actions = bench.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, meaning, add_flags, run in (
        ("step", "time a training step, ours and as the published scripts take it", _add_step, _run_step),
        ("xml", "compare our MEDLINE reader with pubmed_parser: differences and speed", _add_xml, _run_xml),
        ("finetune", "time fine-tuning for entities, ours and the plain way", _add_finetune, _run_finetune),
        ("inference", "measure models at inference: size, memory, latency, throughput", _add_inference, _run_inference),
    ):
        parser = actions.add_parser(name, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.")
        add_flags(parser)
        parser.set_defaults(run=strict(parser, partial(_with_outputs, run)))


def _add_records(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=Path, metavar="FILE", help="append the result to this JSON Lines file")


def _with_outputs(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Run an action, after a check that its result can be written where the flags ask for it."""
    from compact_biomed.files import require_writable_at
    from compact_biomed.records import require_appendable

    if getattr(options, "records", None):
        require_appendable(options.records)
    if isinstance(getattr(options, "json", None), Path):
        require_writable_at(options.json)
    return run(options)


def _append(options: argparse.Namespace, results: Sequence[dict[str, Any]]) -> None:
    if options.records:
        from compact_biomed.records import append_record

        for result in results:
            append_record(options.records, result)


# ---- bench step


def _add_step(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    recipes = f"one of {', '.join(_RECIPES)} (default: %(default)s)"
    add("--recipe", choices=_RECIPES, default="biomobilebert_cl", metavar="NAME", help=recipes)
    add("--preset", choices=PRESETS, default="paper", help="scale of the model (default: paper)")
    add("--documents", type=at_least_one, default=48, metavar="N", help="batch size (default: 48, two devices of 24)")
    add(
        "--fidelity",
        choices=("corrected", "published"),
        default="corrected",
        help="loss of our distillation step: without or with the published quirks (default: corrected)",
    )
    add("--rounds", type=at_least_one, default=5, metavar="N", help="timed steps per implementation (default: 5)")
    add(
        "--micro-batch-tokens",
        type=int,
        default=0,
        metavar="N",
        help="padded tokens per micro-batch (default: chosen for the machine)",
    )
    add("--replicas", type=int, default=0, metavar="N", help="micro-batches in parallel (default: one per core)")
    add_threads(parser)
    add("--json", action="store_true", help="print the record as JSON on standard output")
    _add_records(parser)


def _run_step(options: argparse.Namespace) -> int:
    from compact_biomed.bench.step import StepBench, measure_step

    bench = StepBench(
        recipe=options.recipe,
        preset=options.preset,
        documents=options.documents,
        fidelity=options.fidelity,
        micro_batch_tokens=options.micro_batch_tokens,
        replicas=options.replicas,
    )
    result = measure_step(bench, options.rounds)
    _append(options, [result])
    say(f"\n{'':<12}{'speed':>16}{'peak memory':>14}")
    for side, suffix in (("published", "_published"), ("ours", "")):
        speed, memory = f"{result[f'tokens_per_s{suffix}']:,.0f} tokens/s", result[f"peak_memory_mb{suffix}"]
        say(f"{side:<12}{speed:>16}{size(memory * 1e6):>14}")
    say(f"{'ratio':<12}{result['ratio']:>16.2f}{result['peak_memory_ratio']:>14.2f}")
    say(f"\nThe ratio of the speeds is the median of {len(result['ratios'])} rounds.")
    say(f"Ours reaches {result['share_of_matmul_ceiling']:.0%} of the matmul ceiling of this machine.")
    say(
        f"The losses differ by {result['loss_difference_fp32']:.1e} in fp32 and by {result['loss_difference']:.1e} "
        f"in {result['precision']}."
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
    add(
        "--seeds",
        type=seeds,
        default=[1, 2, 3, 4, 5],
        metavar="LIST",
        help="one fine-tuning run per implementation and seed (default: 1,2,3,4,5)",
    )
    _add_records(parser)


def _run_finetune(options: argparse.Namespace) -> int:
    from compact_biomed.bench.finetune import measure_finetuning
    from compact_biomed.evaluation.protocols import Overrides
    from compact_biomed.report.render import plain
    from compact_biomed.report.statistics import summarize
    from compact_biomed.report.table import score

    overrides = Overrides(options.learning_rate, options.epochs, options.examples)
    result = measure_finetuning(options.model, options.task, options.seeds, data=options.data, overrides=overrides)
    _append(options, [result])
    say(f"\n{'':<8}{'training':>16}{result['metric']:>20}")
    for side, suffix in (("plain", "_plain"), ("ours", "")):
        speed = f"{result[f'tokens_per_s{suffix}']:,.0f} tokens/s"
        scores = plain(score(summarize([turn[f"score{suffix}"] for turn in result["turns"]])))
        say(f"{side:<8}{speed:>16}{scores:>20}")
    say(
        f"\nTraining is {result['ratio']:.2f} times as fast as the plain way, prediction on the test set "
        f"{result['ratio_of_answers']:.2f} times (ratio of the seconds, median over seeds)."
    )
    interval = result["score_difference_interval"]
    bounds = f" (95 % interval {interval[0]:+.2f} to {interval[1]:+.2f}, paired over seeds)" if interval else ""
    say(f"The mean difference of the scores is {result['score_difference']:+.2f}{bounds}.")
    return 0


# ---- bench inference


def _add_inference(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--models",
        nargs="+",
        required=True,
        metavar="M",
        help="checkpoints with a head, or SCALE:NAME for random weights (paper:tinybiobert); write NAME=M to choose "
        "the name in the records, by which `tables page` finds the model's scores",
    )
    add(
        "--variants",
        nargs="+",
        choices=VARIANTS,
        default=VARIANTS,
        metavar="V",
        help=f"of {', '.join(VARIANTS)} (default: all)",
    )
    add("--lengths", nargs="+", type=at_least_one, default=[128], metavar="N", help="tokens per input (default: 128)")
    add(
        "--batches",
        nargs="+",
        type=at_least_one,
        default=[1, 4, 16],
        metavar="N",
        help="inputs per call (default: 1 4 16)",
    )
    add("--threads", nargs="+", type=at_least_one, default=[1, 2], metavar="N", help="cores in use (default: 1 2)")
    add("--rounds", type=at_least_one, default=3, metavar="N", help="timed turns per variant (default: 3)")
    add("--seconds", type=float, default=0.5, metavar="S", help="minimum duration of a turn in seconds (default: 0.5)")
    _add_records(parser)


def _run_inference(options: argparse.Namespace) -> int:
    from compact_biomed.bench.inference import InferenceBench, measure_inference
    from compact_biomed.report.render import markdown
    from compact_biomed.report.speed import inference_table

    bench = InferenceBench(
        variants=options.variants,
        lengths=options.lengths,
        batches=options.batches,
        threads=options.threads,
        rounds=options.rounds,
        seconds=options.seconds,
    )
    results = measure_inference(dict(map(_named_model, options.models)), bench)
    _append(options, results)
    print(markdown(inference_table(results)), end="")
    return 0


def _named_model(text: str) -> tuple[str, str]:
    """Split NAME=M; an M without a name is called M."""
    name, equals, model = text.partition("=")
    return (name, model) if equals else (text, text)


# ---- bench xml


def _add_xml(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("files", nargs="*", type=Path, help="MEDLINE .xml.gz files (default: the two files of the registry's sample)")
    add("--rounds", type=at_least_one, default=3, metavar="N", help="timed turns per reader (default: 3)")
    add("--json", type=Path, metavar="FILE", help="write the record to this file")


def _run_xml(options: argparse.Namespace) -> int:
    from compact_biomed.bench.xml_readers import PARTS, compare_readers
    from compact_biomed.corpus.registry import medline_sample
    from compact_biomed.files import write_json

    record = compare_readers(options.files or medline_sample(), options.rounds)
    differences, memory = record["differences"], record["peak_memory_mb"]
    say(f"\n{differences['citations']:,} citations compared; {differences['pmids_differ']} PMIDs differ.")
    for part in PARTS:
        say(f"  {part}s: " + ", ".join(f"{cause} {n:,}" for cause, n in differences[part].items()))
    say(f"Unexplained differences: {differences['unexplained']}.")
    say(f"Our reader is {record['ratio']:.1f} times as fast.")
    say(f"Peak memory: ours {size(memory['ours'] * 1e6)}, pubmed_parser {size(memory['pubmed_parser'] * 1e6)}.")
    if options.json:
        write_json(options.json, record)
        say(f"Record: {options.json}")
    return 1 if differences["unexplained"] else 0
