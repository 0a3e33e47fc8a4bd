"""Compiled multinomial draws are numpy's, number by number."""

import numpy as np
import pytest

from compact_biomed.engine import compiled
from compact_biomed.engine.compiled import cache
from compact_biomed.report import statistics


@pytest.mark.parametrize(
    "count",
    [
        [1],
        [2, 1],
        [1] * 300,
        [4000, 300, 40, *[1] * 200],  # the first three by another method than the rest
        [5, 4, 3, 2, 1] * 40,
        [60, 60],  # even shares, and expected numbers on both sides of the limit
        [1, 5000],
    ],
)
def test_they_are_numpys_and_leave_its_generator_where_numpy_does(count: list[int]) -> None:
    count = np.array(count)
    ours, numpys = (np.random.default_rng(7) for _ in "ab")
    for generator in (ours, numpys):
        generator.integers(0, 3, 7)  # leaves half a number behind, which must not be lost
    drawn = np.zeros((700, len(count)))
    cache.call(compiled.loops("multinomial").draw, (ours, count, drawn))
    assert np.array_equal(drawn, numpys.multinomial(count.sum(), count / count.sum(), size=700))
    assert ours.bit_generator.state == numpys.bit_generator.state


def test_intervals_do_not_depend_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    counts = [rng.integers(0, 40, (3, 500, 3))]
    sums = lambda rows: rows[..., 0] / rows.sum(-1)  # noqa: E731
    monkeypatch.setattr(statistics, "_WORTH_COMPILING", 0)
    fast = statistics.example_interval(counts, sums, resamples=300)
    monkeypatch.setenv(compiled.OFF, "1")
    assert statistics.example_interval(counts, sums, resamples=300) == fast
