"""Layer maps: the published ones to the digit, and what does not fit."""

import pytest

from compact_biomed.errors import UserError
from compact_biomed.models.layer_maps import LAYER_MAPS, layer_map

EXPECTED = {
    # kind: (12 -> 6, 6 -> 3)
    "even": ((0, 2, 4, 6, 8, 10), (0, 2, 4)),
    "odd": ((1, 3, 5, 7, 9, 11), (1, 3, 5)),
    "distilbert": ((0, 2, 4, 7, 9, 11), (0, 3, 5)),
    "spaced": ((1, 3, 5, 7, 9, 11), (1, 3, 5)),
    "first": ((0, 1, 2, 3, 4, 5), (0, 1, 2)),
    "last": ((6, 7, 8, 9, 10, 11), (3, 4, 5)),
}


@pytest.mark.parametrize("kind", LAYER_MAPS)
def test_known_maps(kind: str) -> None:
    paper, mini = EXPECTED[kind]
    assert layer_map(kind, student_layers=6, teacher_layers=12) == paper
    assert layer_map(kind, student_layers=3, teacher_layers=6) == mini


def test_spaced_layers_are_those_of_tinybert() -> None:
    assert layer_map("spaced", student_layers=4, teacher_layers=12) == (2, 5, 8, 11)
    assert layer_map("spaced", student_layers=2, teacher_layers=6) == (2, 5)
    assert layer_map("spaced", student_layers=5, teacher_layers=12) == (1, 3, 6, 8, 11)


def test_lists() -> None:
    assert layer_map([5, 0, 3], student_layers=3, teacher_layers=6) == (5, 0, 3)
    assert layer_map("0, 3,5", student_layers=3, teacher_layers=6) == (0, 3, 5)


@pytest.mark.parametrize("teacher", [1, 2, 3, 5, 6, 12, 24])
@pytest.mark.parametrize("kind", ["distilbert", "spaced", "first", "last"])
def test_every_depth_up_to_the_teachers_is_served(kind: str, teacher: int) -> None:
    for student in range(1, teacher + 1):
        layers = layer_map(kind, student_layers=student, teacher_layers=teacher)
        assert list(layers) == sorted(set(layers))
        assert len(layers) == student
    assert layer_map(kind, student_layers=teacher, teacher_layers=teacher) == tuple(range(teacher))


@pytest.mark.parametrize(
    ("kind", "student", "says"),
    [
        ("odd", 4, ("1, 3, 5, 7", "student of 4", "0 to 5", "spaced", "first")),
        ("even", 4, ("0, 2, 4, 6", "distilbert")),
        ("spaced", 7, ("1 to 6",)),
        ("first", 0, ("1 to 6",)),
        ([0, 2, 6], 3, ("0, 2, 6", "0 to 5", "odd")),
        ([0, -1, 2], 3, ("-1",)),
        ([2, 2, 4], 3, ("different",)),
        ([0, 2], 3, ("lists 2", "student of 3")),
        ("middle", 3, ("'middle'", "even, odd")),
        ("0,x", 3, ("'0,x'",)),
    ],
)
def test_wrong_maps_say_what_fits(kind, student: int, says: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        layer_map(kind, student_layers=student, teacher_layers=6)
    for words in says:
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)
