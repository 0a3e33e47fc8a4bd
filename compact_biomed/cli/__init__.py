"""The command line: `compact-biomed VERB ...`.

Each verb's module in this package declares its flags and imports nothing heavy. The work is imported when
the verb runs, so that `--help` answers at once.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from compact_biomed import __version__
from compact_biomed.cli.flags import Parser
from compact_biomed.console import LINES_OF, number_lines
from compact_biomed.errors import UsageError, UserError, from_os_error
from compact_biomed.interruption import Terminated

# In the order of --help; each is a module of this package.
VERBS = (
    *("corpus", "recipe", "train", "evaluate", "distill", "tables", "export", "score", "predict", "demo", "push"),
    *("bench", "reproduce"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit status, as described at the end of `--help`."""
    return guarded(lambda: _run_verb(arguments))


def guarded(work: Callable[[], int | None]) -> int:
    """Run `work` and return its exit status; print errors that the user can fix as one line on stderr.

    Errors of the program itself keep their traceback.
    """
    _accept_all_characters()
    if (number := os.environ.get(LINES_OF, "")).isdecimal():
        number_lines(int(number))
    try:
        return work() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt as error:
        return _stopped(by_sigterm=isinstance(error, Terminated))
    except BrokenPipeError:  # `compact-biomed ... | head`
        sys.stderr.close()
        return 141
    except OSError as error:
        user_error = from_os_error(error)
        if user_error is None:
            raise
        print(f"error: {user_error}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # Ctrl-C while a library made a class, as Python wraps it
            return _stopped()
        raise


def _stopped(*, by_sigterm: bool = False) -> int:
    by = "SIGTERM" if by_sigterm else "Ctrl-C"
    print(f"\nstopped by {by}; run the same command again to resume from the finished work", file=sys.stderr)
    return Terminated.STATUS if by_sigterm else 130


def _accept_all_characters() -> None:
    """Let standard output take any text: files and pipes get UTF-8, a terminal of another encoding question marks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        if sys.stdout.isatty():
            sys.stdout.reconfigure(errors="replace")
        else:
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    parser = Parser(
        prog="compact-biomed",
        description="Train, compress and evaluate compact biomedical text encoders.",
        epilog="Exit status: 0 success; 1 the work, or a part of it, failed; 2 wrong flags; 130 stopped by Ctrl-C; "
        "after SIGTERM 143, of a training that was saved 130. An error is one line on standard error that says what is "
        "wrong and how to fix it.",
    )
    parser.add_argument("--version", action="version", version=f"compact-biomed {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        import_module(f"{__name__}.{verb}").add_parser(verbs)
    return parser


def _run_verb(arguments: Sequence[str] | None) -> int | None:
    options, unknown = build_parser().parse_known_args(arguments)
    return options.run(options, unknown)
