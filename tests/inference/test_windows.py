"""Windows: nothing lost or doubled at the seams, each token where it is farthest from an edge."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from compact_biomed.inference.words import in_order, windows


@pytest.mark.parametrize("n", [0, 1, 9, 10, 11, 17, 100, 101])
@pytest.mark.parametrize("overlap", [0, 1, 2, 3, 5])
def test_each_token_is_answered_once_where_it_is_deepest(n: int, overlap: int) -> None:
    cut = list(windows(range(n), 10, overlap))
    assert [token for w in cut for token in w.tokens[w.first : w.last]] == list(range(n))
    assert all(len(w.tokens) == 10 for w in cut[:-1])

    def depth(window, token: int) -> int:
        left = token - window.tokens[0] if window.tokens[0] > 0 else n
        right = window.tokens[-1] - token if window.tokens[-1] < n - 1 else n
        return min(left, right)

    for w in cut:
        for token in w.tokens[w.first : w.last]:
            assert depth(w, token) == max(depth(other, token) for other in cut if token in other.tokens)


def test_neighbors_share_the_overlap() -> None:
    first, second, last = windows(range(24), 10, 3)
    assert first.tokens[-3:] == second.tokens[:3] and second.tokens[-3:] == last.tokens[:3] and last.tokens[-1] == 23


def test_a_stream_is_computed_in_order_a_few_at_a_time() -> None:
    taken = []

    def items():
        for i in range(100):
            taken.append(i)
            yield i

    with ThreadPoolExecutor(2) as pool:
        for i, (item, square) in enumerate(in_order(lambda x: x * x, items(), pool, ahead=4)):
            assert (item, square) == (i, i * i) and len(taken) <= i + 4


def test_a_failure_reaches_the_caller() -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(ZeroDivisionError):
        list(in_order(lambda x: 1 / x, [1, 0, 1], pool, ahead=2))


def test_what_came_before_a_broken_item_is_answered_first() -> None:
    def items():
        yield from (1, 2, 3)
        raise ValueError("the fourth")

    answered = []
    with ThreadPoolExecutor(2) as pool, pytest.raises(ValueError, match="the fourth"):
        for _, square in in_order(lambda x: x * x, items(), pool, ahead=8):
            answered.append(square)
    assert answered == [1, 4, 9]
