"""Parsing of flags: unknown flags are rejected with a suggestion, and values are checked."""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from compact_biomed.errors import UsageError, hyphenated, nearest_flag
from compact_biomed.files import require_writable_at
from compact_biomed.machine import use_threads
from compact_biomed.settings import is_unicode

Verb = Callable[[argparse.Namespace, list[str]], int | None]  # (options, unknown arguments) -> exit status


class Parser(argparse.ArgumentParser):
    """A parser that takes flags with hyphens or underscores.

    It accepts no abbreviated flags: a new flag could change the meaning of an abbreviation.
    """

    def __init__(self, *arguments, allow_abbrev: bool = False, **options):
        super().__init__(*arguments, allow_abbrev=allow_abbrev, **options)

    def parse_known_args(self, args=None, namespace=None):
        """Parse arguments; reject those that no file written by this package, all of them UTF-8, could hold."""
        given = sys.argv[1:] if args is None else args
        for argument in given:
            if not is_unicode(argument):
                self.error(f"not UTF-8: {argument!a} (rename the file, or correct the encoding of the terminal)")
        return super().parse_known_args(hyphenated(given), namespace)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong as one line, without the usage, and exit with status 2."""
        line = " ".join(message.split())
        line = line if len(line) <= 500 else f"{line[:300]} ... {line[-150:]}"
        self.exit(2, f"error: {line} (see {self.prog} --help)\n")


def strict(parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], int | None]) -> Verb:
    """Return a function for `set_defaults(run=...)` that rejects unknown flags and then calls `work(options)`."""

    def run(options: argparse.Namespace, unknown: list[str]) -> int | None:
        refuse_unknown(unknown, parser)
        return work(options)

    return run


def refuse_unknown(unknown: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Reject unknown flags and suggest the closest one.

    Raises:
        UsageError: `unknown` is not empty; the message names its first argument.
    """
    if unknown:
        flags = [flag for action in parser._actions for flag in action.option_strings]
        near = nearest_flag(unknown[0].partition("=")[0], flags)
        remedy = f"did you mean {near}?" if near else "see --help"
        raise UsageError("unknown flag", where=unknown[0], remedy=remedy)


def check_first(
    checkpoints: Iterable[object] = (), *, files: Iterable[Path | None] = (), folders: Iterable[Path | None] = ()
) -> None:
    """Check what is named before the libraries of the work are loaded, which takes seconds.

    Args:
        checkpoints: names of models to read, where they are given.
        files, folders: to write, where they are given.

    Raises:
        UserError: a path where no checkpoint is.
        OSError: an output that cannot be written.
    """
    from compact_biomed.models.locate import check_name

    for name in filter(None, checkpoints):
        check_name(str(name))
    for path in filter(None, files):
        require_writable_at(path)
    for folder in filter(None, folders):
        try:
            require_writable_at(folder / "any")  # below it: a file is no folder
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder)) from error


def at_least_one(text: str) -> int:
    """Parse a count: 1, 2, ..."""
    try:
        if (number := int(text)) >= 1:
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"a whole number above 0, not {text!r}")


def positive(text: str) -> float:
    """Parse a finite number above 0."""
    try:
        if 0 < (number := float(text)) < float("inf"):
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"a number above 0, not {text!r}")


def port(text: str) -> int:
    """Parse the number of a port; 0 = a free one."""
    if text.isdecimal() and int(text) < 2**16:
        return int(text)
    raise argparse.ArgumentTypeError(f"a whole number from 0 to 65535, not {text!r}")


def threshold(text: str) -> float | str:
    """Parse the lowest score of predictions: "dev", or a number from 0 to 1."""
    try:
        if text == "dev" or 0 <= float(text) <= 1:
            return text if text == "dev" else float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"dev, or a number from 0 to 1, not {text!r}")


class _UseThreads(argparse.Action):
    """Limits the threads as soon as the flag is parsed: torch, loaded later, starts no more of them."""

    def __call__(self, parser: argparse.ArgumentParser, options: argparse.Namespace, value: int, *_: object) -> None:
        use_threads(value)


def add_threads(parser: Any) -> None:
    """Add --threads to a parser or a group. It is no option of the work, so it leaves nothing in the namespace."""
    options = {"type": at_least_one, "metavar": "N", "default": argparse.SUPPRESS}
    parser.add_argument("--threads", action=_UseThreads, help="cores to use (default: all)", **options)


# Parsers of lists: what is listed twice counts once.


def names(text: str) -> list[str]:
    """Parse a list of names: "a, b" -> ["a", "b"]."""
    return _parts(text)


def at_least_ones(text: str) -> list[int]:
    """Parse a list of counts: "8,16" -> [8, 16]."""
    return _list_of(at_least_one, text)


def positives(text: str) -> list[float]:
    """Parse a list of finite numbers above 0: "1e-5,3e-5" -> [1e-05, 3e-05]."""
    return _list_of(positive, text)


def seeds(text: str) -> list[int]:
    """Parse a list of seeds that torch and numpy accept: "1,2,3" -> [1, 2, 3]."""
    try:
        return _list_of(seed, text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; several have commas between them") from error


def seed(text: str) -> int:
    """Parse a seed that torch and numpy accept."""
    try:
        if 0 <= (number := int(text)) < 2**32:
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"seeds are whole numbers from 0 to 2^32 - 1, not {text!r}")


def _list_of(parse: Callable[[str], Any], text: str) -> list:
    if not (values := [parse(part) for part in _parts(text)]):
        raise argparse.ArgumentTypeError(f"numbers with commas between them, not {text!r}")
    return list(dict.fromkeys(values))


def _parts(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
