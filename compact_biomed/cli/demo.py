"""`compact-biomed demo`: its flags; the work is imported when it runs."""

import argparse

from compact_biomed.cli.flags import strict


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `demo`."""
    parser = subparsers.add_parser("demo", help="a page on this machine: paste a text, see its entities")
    add = parser.add_argument
    add("--model", required=True, metavar="M", help="checkpoint for entities, or its export")
    add("--port", type=int, default=8000, metavar="N", help="default: %(default)s; 0 = a free one")

    def run(options: argparse.Namespace) -> int:
        from compact_biomed.console import say
        from compact_biomed.inference.demo import serve
        from compact_biomed.inference.model import load
        from compact_biomed.models.checkpoints import quiet_transformers

        quiet_transformers()
        with serve(load(options.model), options.port) as server:
            say(f"http://{server.server_address[0]}:{server.server_address[1]}/  (Ctrl-C ends it)")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                say()
        return 0

    parser.set_defaults(run=strict(parser, run))
