"""Settings files: checked against their schema; errors name file, line and key."""

from pathlib import Path
from typing import Any, Required, TypedDict

import pytest

from compact_biomed.errors import UserError
from compact_biomed.settings import read_settings


class MatchKeys(TypedDict, total=False):
    layer: Required[int]
    weight: float


class KnownKeys(TypedDict, total=False):
    name: Required[str]
    sizes: list[int]
    exact: bool
    free: dict[str, Any]
    models: dict[str, MatchKeys]
    matches: list[MatchKeys]


TEXT = """\
# name = "a comment"
name = "one"
sizes = [1, 2]
exact = true
matches = [
  { layer = 1, weight = 1 },
  { layer = 2 },
]

[free]
sizes = "whatever"

[models]
"first-model" = { layer = 1 }

[models.second]
layer = 2
weight = 0.5
"""


def read(folder: Path, text: str) -> Any:
    path = folder / "settings.toml"
    path.write_text(text)
    return read_settings(path, KnownKeys)


def test_what_fits_is_returned_with_its_lines(tmp_path: Path) -> None:
    file = read(tmp_path, TEXT)
    assert file.content["models"]["second"] == {"layer": 2, "weight": 0.5} and file.content["sizes"] == [1, 2]
    path = tmp_path / "settings.toml"
    assert file.where() == f"{path}:1"
    assert file.where("name") == f"{path}:2: name"
    assert file.where("matches", 1, "layer") == f"{path}:7: matches.layer"
    assert file.where("models", "first-model") == f"{path}:14: models.first-model"
    assert file.where("models", "second", "weight") == f"{path}:18: models.second.weight"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sizes = [1, 2]", "sizes = [1, 2", "settings.toml:4: not TOML: "),
        ("exact = true", "exakt = true", "settings.toml:4: exakt: unknown key (did you mean 'exact'?)"),
        (
            "exact = true",
            "zzz = 1",
            "settings.toml:4: zzz: unknown key (use one of exact, free, matches, models, name, sizes)",
        ),
        ('name = "one"', "", "settings.toml:1: no name (add name, a string)"),
        ("weight = 0.5", "wait = 0.5", "settings.toml:18: models.second.wait: unknown key"),
        ("layer = 2\nweight", "weight", "settings.toml:16: models.second: no layer (add layer, a whole number)"),
        ("{ layer = 2 }", "{ weight = 2 }", "settings.toml:7: matches: no layer"),
        ("weight = 0.5", 'weight = "0.5"', "settings.toml:18: models.second.weight: must be a number, not '0.5'"),
        (
            "sizes = [1, 2]",
            "sizes = [1, true]",
            "settings.toml:3: sizes: must be a list of whole numbers, not [1, True]",
        ),
        ("exact = true", "exact = 1", "settings.toml:4: exact: must be true or false, not 1"),
        ('"first-model" = { layer = 1 }', 'first = "x"', "settings.toml:14: models.first: must be a table, not 'x'"),
        ("[free]", "[[free]]", "settings.toml:10: free: must be a table, not [{'sizes': 'whatever'}]"),
        ("  { layer = 2 },\n", "  2\n", "settings.toml:5: matches: must be a list of tables, not "),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert TEXT.count(old) == 1
    with pytest.raises(UserError) as caught:
        read(tmp_path, TEXT.replace(old, new))
    assert message in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.toml: no such file"):
        read_settings(tmp_path / "none.toml", KnownKeys)
