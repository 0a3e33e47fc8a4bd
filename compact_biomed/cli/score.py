"""`compact-biomed score`: its flags, and the score of the fine-tuning beside the new one."""

import argparse
from pathlib import Path

from compact_biomed.cli.data import add_own_data, own_data_of
from compact_biomed.cli.flags import add_threads, check_first, strict, threshold
from compact_biomed.console import say
from compact_biomed.machine import PRECISION_CHOICES

_EPILOG = """\
examples
  compact-biomed score --model tiny-int8 --records records.jsonl
  compact-biomed score --model kept/tiny-NCBI-disease-seed1 --precision fp32 --records records.jsonl
  compact-biomed score --model tiny-int8 --threshold dev --errors errors.jsonl
  compact-biomed score --model tiny-int8 --test clinic.conll --records records.jsonl
  compact-biomed tables compare --records records.jsonl --teacher "tiny fp32"

The task is the one that the model was fine-tuned on; nothing is trained. Its record says where data of your own are;
--train and the other flags are needed only if they moved. --test without --train names other data of the same kind,
which the model was not fine-tuned on (external validation).
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `score`."""
    parser = subparsers.add_parser(
        "score",
        help="score an exported or saved model, on its test set or on other data, without training",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", required=True, type=Path, metavar="DIR", help="saved by evaluate --save, or an export of that")
    add("--name", help="name of the model in the record (default: the model's name and the precision)")
    add("--data", type=Path, metavar="DIR", help="folder of the benchmarks' files (default: COMPACT_BIOMED_DATA)")
    add("--ner-dir", type=Path, metavar="PATH", help="folder of the entity set, if it moved since")
    add("--records", type=Path, default=Path("runs/evaluation.jsonl"), metavar="FILE", help="default: %(default)s")
    add("--errors", type=Path, metavar="FILE", help="write what is wrong there, one test example per line (JSON)")
    threshold_help = "show what thresholds change: dev for those that were chosen on dev, or a number from 0 to 1"
    add("--threshold", type=threshold, metavar="T", help=threshold_help)
    add("--precision", choices=PRECISION_CHOICES, default="auto", help="of a PyTorch model")
    add_own_data(parser)
    add_threads(parser)
    parser.set_defaults(run=strict(parser, _run))


def _run(options: argparse.Namespace) -> None:
    check_first([options.model], files=[options.records, options.errors])

    from compact_biomed.evaluation.analysis.printed import lines_of
    from compact_biomed.evaluation.saved import saved_record
    from compact_biomed.evaluation.scoring import words_cut_off
    from compact_biomed.inference.scored_on import SEEN
    from compact_biomed.inference.scoring import score
    from compact_biomed.machine import PRECISIONS
    from compact_biomed.models.checkpoints import quiet_transformers

    quiet_transformers()
    changes: list[str] = []
    record = score(
        options.model,
        options.records,
        data=options.data,
        ner_dir=options.ner_dir,
        name=options.name,
        precision=options.precision,
        errors=options.errors,
        threshold=options.threshold,
        report=changes.append,
        **own_data_of(options),
    )
    task, source = record["task"], saved_record(options.model)
    trained_in = source.get("how", {}).get("precision", "")
    say(f"{record['model']['name']} on {task['name']}, {task['examples']['test']:,} examples, nothing trained")
    say(f"  {task['metric']:<10} {record['score']:.2f} (this model, {record['how']['engine']})")
    ended = f"{source['score']:.2f} (at the end of its fine-tuning, {PRECISIONS.get(trained_in, trained_in)}"
    if "trained_on" in record:
        seen, of = task["repairs"].get(SEEN, 0), task["examples"]["test"]
        but = f", but for {seen:,} of the {of:,} examples" if seen else ""
        other = f"data it was not fine-tuned on{but}" if seen < of else "the very texts that it was fine-tuned on"
        say(f"  Scored on {other}.")
        say(f"  {'':<10} {ended}, on the test set of {source['task']['name']})")
    else:
        say(f"  {'':<10} {ended})")
        say("  One model has several scores: bf16 and fp32 round differently, int8 also quantizes.")
    if cut := words_cut_off(record["counts"]):
        say(f"  {cut}")
    say(f"  {'records':<10} {options.records}")
    if options.errors:
        say(f"  {'errors':<10} {options.errors}")
    for lines in (lines_of([record]), changes):
        if lines:
            say("\n" + "\n".join(lines))
    say(f"\nNext: compact-biomed tables --records {options.records}")
