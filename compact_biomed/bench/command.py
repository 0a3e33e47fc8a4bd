"""`compact-biomed bench ...`: its actions."""

import argparse

from compact_biomed.flags import at_least_one, strict


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `bench`. The benches' modules import nothing heavy until they run."""
    bench = subparsers.add_parser("bench", help="how fast and how large, beside the published way")
    actions = bench.add_subparsers(dest="action", required=True, metavar="ACTION")
    step = actions.add_parser("step", help="a training step, ours and as the published scripts write it")
    xml = actions.add_parser("xml", help="our MEDLINE reader and pubmed_parser's: differences and speed")
    from compact_biomed.bench import step as step_module

    step_module.add_arguments(step)
    step.set_defaults(run=strict(step, step_module.run))
    from compact_biomed.bench import finetune as finetune_module

    finetune = actions.add_parser("finetune", help="fine-tuning for entities, ours and the plain way")
    finetune_module.add_arguments(finetune)
    finetune.set_defaults(run=strict(finetune, finetune_module.run))
    from compact_biomed.bench import inference as inference_module

    inference = actions.add_parser("inference", help="models that answer: size, memory, latency, throughput")
    inference_module.add_arguments(inference)
    inference.set_defaults(run=strict(inference, inference_module.run))
    _add_xml(xml)


def _add_xml(parser: argparse.ArgumentParser) -> None:
    from pathlib import Path

    parser.add_argument("files", nargs="*", type=Path, help="MEDLINE .xml.gz files (default: the registry's two)")
    parser.add_argument("--rounds", type=at_least_one, default=3, metavar="N", help="turns of each reader (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the record")

    def run(options: argparse.Namespace) -> int:
        from compact_biomed.bench import xml_readers

        return xml_readers.run(options)

    parser.set_defaults(run=strict(parser, run))
