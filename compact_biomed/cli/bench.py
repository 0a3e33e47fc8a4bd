"""`compact-biomed bench ACTION`: measure speed and size against the published or plain implementation."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from compact_biomed.bench import VARIANTS
from compact_biomed.cli import bench_training
from compact_biomed.cli.bench_training import add_records, append
from compact_biomed.cli.flags import at_least_one, check_first, strict
from compact_biomed.console import say, size


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `bench` and its actions."""
    bench = subparsers.add_parser("bench", help="measure speed and size against the published implementation")
    actions = bench.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, meaning, add_flags, run in (
        *bench_training.ACTIONS,
        ("xml", "compare our MEDLINE reader with pubmed_parser: differences and speed", _add_xml, _run_xml),
        ("inference", "measure models at inference: size, memory, latency, throughput", _add_inference, _run_inference),
    ):
        parser = actions.add_parser(name, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.")
        add_flags(parser)
        parser.set_defaults(run=strict(parser, partial(_with_outputs, run)))


def _with_outputs(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Run an action, after a check that its result can be written where the flags ask for it."""
    from compact_biomed.files import require_writable_at
    from compact_biomed.records.files import require_appendable

    if getattr(options, "records", None):
        require_appendable(options.records)
    if isinstance(getattr(options, "json", None), Path):
        require_writable_at(options.json)
    return run(options)


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
    add_records(parser)


def _run_inference(options: argparse.Namespace) -> int:
    models = dict(map(_named_model, options.models))
    check_first(model for model in models.values() if ":" not in model)

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
    results = measure_inference(models, bench)
    append(options, results)
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
