"""No flag is ignored: what no parser took is refused, with the nearest that there is."""

import argparse
import difflib
from collections.abc import Callable, Sequence

from compact_biomed.errors import UsageError


class Parser(argparse.ArgumentParser):
    """Takes whole flags alone, as do its verbs: what a shortened one means would change with the next new flag."""

    def __init__(self, *arguments, allow_abbrev: bool = False, **options):
        super().__init__(*arguments, allow_abbrev=allow_abbrev, **options)


Verb = Callable[[argparse.Namespace, list[str]], int | None]  # (options, what was not taken) -> exit status


def refuse_unknown(rest: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Raise a `UsageError` for the first argument that no parser took, with the nearest flag."""
    if rest:
        flags = [flag for action in parser._actions for flag in action.option_strings]
        near = difflib.get_close_matches(rest[0].partition("=")[0], flags, n=1, cutoff=0.4)
        raise UsageError("unknown flag", where=rest[0], remedy=f"did you mean {near[0]}?" if near else "see --help")


def strict(parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], int | None]) -> Verb:
    """What a verb's parser runs: `work` on its options, unless a flag is unknown."""

    def run(options: argparse.Namespace, rest: list[str]) -> int | None:
        refuse_unknown(rest, parser)
        return work(options)

    return run


def at_least_one(text: str) -> int:
    """argparse's type of a count: 1, 2, ..."""
    try:
        if (number := int(text)) >= 1:
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"a whole number above 0, not {text!r}")


def positive(text: str) -> float:
    """argparse's type of a finite number above 0."""
    try:
        if 0 < (number := float(text)) < float("inf"):
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"a number above 0, not {text!r}")


def names(text: str) -> list[str]:
    """ "a, b" -> ["a", "b"]."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers(text: str) -> list[int]:
    """ "1,2,3" -> [1, 2, 3]."""
    return [int(number) for number in text.split(",") if number.strip()]


def seeds(text: str) -> list[int]:
    """`numbers` that torch and numpy take for seeds, at least one."""
    found = numbers(text)
    if not found or not all(0 <= seed < 2**32 for seed in found):
        raise argparse.ArgumentTypeError(f"seeds are whole numbers from 0 to 2^32 - 1, not {text!r}")
    return found


def underscored(arguments: Sequence[str]) -> list[str]:
    """`--dry-run` and `--dry_run` are the same flag, as for transformers' own."""
    result = []
    for argument in arguments:
        if argument.startswith("--"):
            flag, equals, value = argument.partition("=")
            argument = "--" + flag[2:].replace("-", "_") + equals + value
        result.append(argument)
    return result
