"""Numbers as flags take them, and the spelling of flags."""

import argparse
import re

import pytest

from compact_biomed.cli import ablation, build_parser, distill, prune, recipe
from compact_biomed.cli.flags import Parser, at_least_one, names, positive, positives, seeds
from compact_biomed.errors import hyphenated
from compact_biomed.training.recipe import load_recipe, load_script

SOFT_WEIGHT = ("--soft-weight", "--soft_weight")


def test_counts_and_positive_numbers() -> None:
    assert [at_least_one(text) for text in ("1", "12")] == [1, 12]
    assert [positive(text) for text in ("0.5", "3e-4", "7")] == [0.5, 3e-4, 7.0]


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "many", ""])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="a whole number above 0, not") as error:
        at_least_one(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "warm", ""])
def test_what_is_no_positive_number(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="a number above 0, not"):
        positive(text)


def test_lists_hold_each_value_once() -> None:
    assert seeds(" 3, 1,3,01,") == [3, 1] and positives("1e-4,3e-4,0.0001") == [1e-4, 3e-4]
    assert names("HoC, GAD,HoC") == ["HoC", "GAD"]


@pytest.mark.parametrize("text", ["x", "1-5", "-1", "1,x", "1 2", "4294967296", "1.0"])
def test_what_is_no_seed_is_told_what_is_one(text: str) -> None:
    message = "seeds are whole numbers from 0 to .*, not .*; several have commas between them"
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        seeds(text)
    with pytest.raises(argparse.ArgumentTypeError, match="numbers with commas between them, not ','"):
        seeds(",")


def test_flags_are_hyphenated_up_to_a_lone_hyphen_pair() -> None:
    """What follows it names the folder of an ablation."""
    given = ["--max_steps", "4", "--by_name=a_b", "--", "--max_steps", "4"]
    assert hyphenated(given) == ["--max-steps", "4", "--by-name=a_b", "--", "--max_steps", "4"]


def parsers() -> list[argparse.ArgumentParser]:
    """All parsers of the command line, those of scripts included."""
    verbs = build_parser()._subparsers._group_actions[0].choices.values()
    nested = [p for verb in verbs if verb._subparsers for p in verb._subparsers._group_actions[0].choices.values()]
    recipes = [recipe.parser_of(load_recipe(name)) for name in ("biotinybert_cl", "tinybiobert")]
    own = [recipe.parser_of(None), recipe.parser_of(None, distillation=True), distill.parser_of("distill")]
    script = load_script("ablations/temperature")
    return [*verbs, *nested, *recipes, *own, prune.parser_of("about"), ablation._parser(script.ABLATION, None)]


def test_every_help_spells_flags_with_hyphens_and_every_parser_takes_both() -> None:
    for parser in parsers():
        assert isinstance(parser, Parser)
        assert not [flag for action in parser._actions for flag in action.option_strings if "_" in flag]
        assert not re.findall(r"--\w*_\w+", parser.format_help())
    both = [distill.parser_of("p").parse_args(["--teacher", "t", "--student", "2", flag, "2"]) for flag in SOFT_WEIGHT]
    assert both[0] == both[1] and both[0].soft_weight == 2
