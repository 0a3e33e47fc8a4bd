"""The command line: `compact-biomed VERB ...`.

Each verb's flags are declared by `<package>/command.py`, which imports nothing heavy;
the work is imported when the verb runs, so that `--help` answers at once.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from compact_biomed import __version__
from compact_biomed.cli.flags import Parser
from compact_biomed.errors import UsageError, UserError, from_os_error

VERBS = ("corpus", "train", "evaluate", "tables", "export", "score", "predict", "demo", "bench")
_MODULES = {
    "corpus": "compact_biomed.cli.corpus",
    "train": "compact_biomed.cli.train",
    "evaluate": "compact_biomed.cli.evaluate",
    "export": "compact_biomed.cli.export",
    "score": "compact_biomed.cli.score",
    "predict": "compact_biomed.cli.predict",
    "demo": "compact_biomed.cli.demo",
    "bench": "compact_biomed.cli.bench",
    "tables": "compact_biomed.cli.tables",
}


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="compact-biomed",
        description="Compact biomedical encoders: text in, a small encoder out, and a table that says how good it is.",
        epilog="Exit status: 0 done; 1 cannot be done, or a part of it failed; 2 the flags are wrong by themselves; "
        "130 stopped by Ctrl-C. What is wrong, and what to do, is one line on standard error.",
    )
    parser.add_argument("--version", action="version", version=f"compact-biomed {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        import_module(_MODULES[verb]).add_parser(verbs)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit status (as the parser's epilog says)."""
    return guarded(lambda: _dispatch(arguments))


def guarded(work: Callable[[], int | None]) -> int:
    """Run `work`; turn what a user can mend into one line on stderr and an exit status."""
    try:
        return work() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C; where finished work was kept, the same command goes on from it", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `compact-biomed ... | head`
        sys.stderr.close()
        return 141
    except OSError as error:
        known = from_os_error(error)
        if known is None:
            raise
        print(f"error: {known}", file=sys.stderr)
        return 1


def _dispatch(arguments: Sequence[str] | None) -> int | None:
    options, rest = build_parser().parse_known_args(arguments)
    return options.run(options, rest)


if __name__ == "__main__":
    sys.exit(main())
