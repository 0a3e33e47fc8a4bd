"""Numbers as flags take them, and the spelling of flags."""

import argparse

import pytest

from compact_biomed.cli.flags import at_least_one, hyphenated, positive, underscored


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


def test_spellings_are_changed_up_to_a_lone_hyphen_pair() -> None:
    """What follows it names the folder of an ablation."""
    given = ["--max_steps", "4", "--by_name=a_b", "--", "--max_steps", "4"]
    assert hyphenated(given) == ["--max-steps", "4", "--by-name=a_b", "--", "--max_steps", "4"]
    assert underscored(["--dry-run", "--", "--dry-run"]) == ["--dry_run", "--", "--dry-run"]
