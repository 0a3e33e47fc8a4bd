"""Shares of work in threads: each is done exactly one time, whatever the number of threads."""

import os
import subprocess
import sys

import numpy as np
import pytest
from numba import njit

from compact_biomed.engine.compiled.parallel import available, in_threads

pytest.importorskip("torch")

SCRIPT = """
import sys
from compact_biomed.engine.compiled.parallel import available
assert available()
from test_parallel import count
print(count(4).tolist())
"""


@njit
def _count(done, weight, share, shares):
    for i in range(share, done.size, shares):
        done[i] += weight * (1 + share)


@njit(nogil=True)
def _call(done, weight, threads):
    in_threads(_count, (done, weight), threads)


def count(threads: int, n: int = 12) -> np.ndarray:
    """For each piece of work, the number of the share that did it, summed over how often it was done."""
    done = np.zeros(n, np.int64)
    _call(done, 1, threads)
    return done


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_each_share_is_done_once(threads: int) -> None:
    assert available()
    for _ in range(50):
        assert count(threads).tolist() == [1 + i % threads for i in range(12)]


@njit
def _fail(done, share, shares):
    done[share] = 1
    if share == 1:
        raise ValueError("reported as a failure of the whole")


@njit(nogil=True)
def _call_failing(done, threads):
    in_threads(_fail, (done,), threads)


def test_a_failure_in_a_thread_is_reported() -> None:
    done = np.zeros(3, np.int64)
    with pytest.raises(RuntimeError, match="in a thread"):
        _call_failing(done, 3)
    assert done.all()
    _call_failing(done, 1)


def test_with_fewer_threads_than_asked_for_all_is_done() -> None:
    folders = os.pathsep.join([os.path.dirname(__file__), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1", "PYTHONPATH": folders}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == str([1 + i % 4 for i in range(12)]), done.stderr


def test_it_may_be_called_from_several_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(count, [2] * 30))
    assert all(counts.tolist() == [1, 2] * 6 for counts in results)
