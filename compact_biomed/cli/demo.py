"""`compact-biomed demo`: its flags, and the server that it starts."""

import argparse

from compact_biomed.cli.flags import at_least_one, check_first, port, strict
from compact_biomed.console import say


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `demo`."""
    parser = subparsers.add_parser(
        "demo", help="serve a page on this machine: paste a text, see its entities, classes or answers"
    )
    add = parser.add_argument
    add("--model", required=True, metavar="M", help="fine-tuned checkpoint, or its export")
    add("--port", type=port, default=8000, metavar="N", help="default: %(default)s; 0 = a free one")
    add(
        "--threads",
        type=at_least_one,
        default=0,
        metavar="N",
        help="cores to use, each for a part of a text (default: all)",
    )
    parser.set_defaults(run=strict(parser, _run))


def _run(options: argparse.Namespace) -> None:
    check_first([options.model])

    from compact_biomed.inference.demo import serve
    from compact_biomed.inference.model import load
    from compact_biomed.models.checkpoints import quiet_transformers

    quiet_transformers()
    model = load(options.model, threads=options.threads)
    try:
        with serve(model, options.port) as server:
            say(f"http://{server.server_address[0]}:{server.server_address[1]}/  (stop with Ctrl-C)")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                say()
    finally:
        model.close()
