"""The flags that describe a task of one's own; each is a keyword of `benchmarks.own.OwnData` of the same name.

`keywords_of` returns them with all other flags of a verb.
"""

import argparse
from typing import Any

from compact_biomed.benchmarks import OWN_KINDS

# Keyword -> what `add_argument` gets.
_FLAGS: dict[str, dict[str, Any]] = {
    "train": {"metavar": "PATH", "help": "a file, a folder that holds train, dev and test, or hub:OWNER/NAME"},
    "dev": {"metavar": "PATH", "help": "likewise (default: beside --train, or held out of it)"},
    "test": {"metavar": "PATH", "help": "likewise"},
    "kind": {"choices": OWN_KINDS, "help": "of task (default: detected, if the data are unambiguous)"},
    "format": {"metavar": "NAME", "help": "of the files (default: by name and content)"},
    "text_column": {"metavar": "NAME", "help": "default: text, sentence, abstract or such"},
    "pair_column": {"metavar": "NAME", "help": "column of the second text of a pair"},
    "label_column": {"metavar": "NAME", "help": "column of the label, or columns of 0 and 1, with commas"},
    "id_column": {"metavar": "NAME", "help": "column of the examples' names"},
    "document_column": {"metavar": "NAME", "help": "examples of one document are held out together"},
    "task_name": {"metavar": "NAME", "help": "in records and tables (default: that of the file or folder)"},
    "max_length": {"type": int, "metavar": "N", "help": "word pieces per example (default: 512, questions 384)"},
    "split_seed": {"type": int, "metavar": "N", "help": "of the draw that holds out dev or test (default: 0)"},
}
OWN_FLAGS = tuple(_FLAGS)
_OF_PARSER = ("verb", "run")  # what the command line adds


def add_own_data(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `own_data_of` reads."""
    group = parser.add_argument_group("data of your own (docs/own-data.md shows each format)")
    for name, options in _FLAGS.items():
        group.add_argument(f"--{name.replace('_', '-')}", **options)


def own_data_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the keywords of `benchmarks.own.OwnData` that the flags of `add_own_data` gave."""
    return {name: value for name in OWN_FLAGS if (value := getattr(options, name)) is not None}


def keywords_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return all flags of a verb as keywords of the same names, those of `own_data_of` as far as they were given."""
    others = {name: value for name, value in vars(options).items() if name not in (*OWN_FLAGS, *_OF_PARSER)}
    return others | own_data_of(options)
