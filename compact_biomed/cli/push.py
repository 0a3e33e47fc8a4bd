"""`compact-biomed push`: its flags; the work is imported when it runs."""

import argparse
from pathlib import Path

from compact_biomed.cli.flags import strict

_EPILOG = """\
examples
  compact-biomed push kept/tiny-NCBI-disease-seed1 --repo OWNER/NAME --dry-run
  compact-biomed push tiny-int8 --repo OWNER/NAME --license apache-2.0 --language en
  compact-biomed push tiny-int8 --repo /mirror/models/tiny-int8

Checksums are checked first. Files that may hold text of a data set (errors.jsonl) stay here unless --include names
them. A new repository is private; hf auth login stores the token.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `push`."""
    parser = subparsers.add_parser(
        "push",
        help="publish a model's folder on a hub or in a local mirror",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="of evaluate --save, distill --save, export, or a release")
    add("--repo", required=True, metavar="R", help="OWNER/NAME on the hub, or a folder (begins with / or ./)")
    add("--dry-run", action="store_true", help="check, list files and sizes, write nothing")
    add("--license", metavar="ID", help="of the weights, for the card (default: what the card states)")
    add("--language", action="append", metavar="L", help="of the texts, for the card, such as en; may be repeated")
    add("--include", action="append", default=[], metavar="NAME", help="publish this file too; may be repeated")
    add("--public", action="store_true", help="make a new repository public")
    parser.set_defaults(run=strict(parser, _run))


def _run(options: argparse.Namespace) -> None:
    from compact_biomed.publish.push import push

    push(
        options.folder,
        options.repo,
        dry_run=options.dry_run,
        license=options.license,
        language=options.language,
        include=options.include,
        public=options.public,
    )
