"""The command line of `compact-biomed tables`."""

import argparse

import pytest

from compact_biomed.cli import tables
from compact_biomed.errors import UserError


def test_whatever_can_be_asked_can_be_made():
    assert list(tables._FORMATS) == list(tables.MAKERS)
    assert all(of in tables.MAKERS for owners in tables._BELONGS.values() for of in owners)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--format", "svg"], "`tables scores` has no such format"),
        (["compare", "--trace", "a,b"], "only applies to `tables scores`"),
        (["figures", "--teacher", "a"], "only applies to `tables compare or gap or page`"),
    ],
)
def test_a_flag_that_would_do_nothing_is_refused(asked, said, tmp_path):
    parser = argparse.ArgumentParser()
    tables.add_parser(parser.add_subparsers())
    options = parser.parse_args(["tables", *asked, "--records", str(tmp_path / "none.jsonl")])
    with pytest.raises(UserError, match=said):
        options.run(options, [])
