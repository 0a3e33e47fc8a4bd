"""The masking rule: its rates, and that it is a function of (seed, pass, document, position) alone."""

import numpy as np
import pytest

from compact_biomed.objectives import IGNORED
from compact_biomed.objectives.mlm import Masking, hashed_uniform

SPECIAL = (0, 1, 2, 3, 4)
MASK, VOCABULARY = 4, 1000
RULE = Masking(mask_id=MASK, special_ids=SPECIAL, vocab_size=VOCABULARY)
GOLDEN_UNIFORM = [0.8116605545027293, 0.4096979315180105, 0.7467072808684836]
GOLDEN_MASKS = {
    9: (4, 14),
    13: (18, 18),
    17: (4, 22),
    28: (4, 33),
    36: (41, 41),
    37: (4, 42),
    39: (4, 44),
}  # position: (id shown, label)


def documents(n: int, length: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(ids without special tokens, keys)"""
    generator = np.random.default_rng(seed)
    return generator.integers(5, VOCABULARY, (n, length)), generator.integers(0, 2**64, n, dtype=np.uint64)


def assert_rate(count: int, n: int, p: float) -> None:
    """Within five standard deviations of a binomial: a wrong rule fails, chance does not."""
    assert abs(count / n - p) < 5 * (p * (1 - p) / n) ** 0.5, (count / n, p)


def test_rates_of_the_rule() -> None:
    ids, keys = documents(4000, 250)
    masked, labels = RULE(ids, keys, np.zeros(4000))
    chosen = labels != IGNORED
    n = int(chosen.sum())
    assert_rate(n, ids.size, 0.15)
    assert (labels[chosen] == ids[chosen]).all()
    assert (masked[~chosen] == ids[~chosen]).all()
    # A random replacement is the token itself once in a vocabulary, and [MASK] just as often.
    assert_rate(int((masked[chosen] == MASK).sum()), n, 0.8 + 0.1 / VOCABULARY)
    assert_rate(int((masked[chosen] == ids[chosen]).sum()), n, 0.1 + 0.1 / VOCABULARY)
    # Uniform over all ids, special ones included, as published.
    others = masked[chosen & (masked != MASK) & (masked != ids)]
    assert_rate(len(others), n, 0.1 * (1 - 2 / VOCABULARY))
    counts = np.bincount(others, minlength=VOCABULARY)
    expected = len(others) / (VOCABULARY - 1)
    assert counts[:4].sum() > 0
    squares = ((np.delete(counts, MASK) - expected) ** 2 / expected).sum()  # chi squared, 998 degrees of freedom
    assert abs(squares - 998) < 5 * (2 * 998) ** 0.5
    # No place in a document is favored.
    for half in (chosen[:, :125], chosen[:, 125:]):
        assert_rate(int(half.sum()), half.size, 0.15)


@pytest.mark.parametrize("probability", [0.05, 0.4])
def test_other_probabilities(probability: float) -> None:
    ids, keys = documents(1000, 250)
    rule = Masking(MASK, SPECIAL, VOCABULARY, probability=probability)
    assert_rate(int((rule(ids, keys, np.zeros(1000))[1] != IGNORED).sum()), ids.size, probability)


def test_neighbors_are_chosen_independently() -> None:
    ids, keys = documents(4000, 250)
    chosen = RULE(ids, keys, np.zeros(4000))[1] != IGNORED
    assert_rate(int((chosen[:, 1:] & chosen[:, :-1]).sum()), chosen[:, 1:].size, 0.15**2)
    assert_rate(int((chosen[1:] & chosen[:-1]).sum()), chosen[1:].size, 0.15**2)
    # Keys that follow one another (PMIDs without a hash, say) are as good as random ones.
    ordered = RULE(ids, np.arange(4000), np.zeros(4000))[1] != IGNORED
    assert_rate(int((ordered[1:] & ordered[:-1]).sum()), ordered[1:].size, 0.15**2)


def test_special_tokens_are_never_masked() -> None:
    generator = np.random.default_rng(1)
    ids = generator.integers(0, 10, (1000, 100))  # half of them special
    masked, labels = RULE(ids, generator.integers(0, 2**64, 1000, dtype=np.uint64), np.zeros(1000))
    special = np.isin(ids, SPECIAL)
    assert (labels[special] == IGNORED).all()
    assert (masked[special] == ids[special]).all()
    assert_rate(int((labels != IGNORED).sum()), int((~special).sum()), 0.15)


def test_the_same_numbers_in_every_process_and_version() -> None:
    """Golden: a change of these makes old runs and held-out scores incomparable."""
    uniform = hashed_uniform(np.array([0, 1, 2**64 - 1], np.uint64), np.array([0, 7, 255]), 42, 0)
    assert uniform.tolist() == GOLDEN_UNIFORM
    masked, labels = RULE(np.arange(5, 45)[None, :], np.array([12345], np.uint64), np.array([3]))
    assert {
        int(i): (int(masked[0, i]), int(labels[0, i])) for i in np.flatnonzero(labels[0] != IGNORED)
    } == GOLDEN_MASKS


def test_independent_of_batch_and_padding() -> None:
    ids, keys = documents(50, 60)
    passes = np.arange(50) % 3
    masked, labels = RULE(ids, keys, passes)
    order = np.random.default_rng(2).permutation(50)
    padded = np.pad(ids, ((0, 0), (0, 36)))
    for part in np.array_split(order, [1, 7, 30]):
        got_masked, got_labels = RULE(padded[part], keys[part], passes[part])
        assert (got_masked[:, :60] == masked[part]).all()
        assert (got_labels[:, :60] == labels[part]).all()
        assert (got_labels[:, 60:] == IGNORED).all()


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Share of places chosen by both, of those chosen by the first."""
    return ((a != IGNORED) & (b != IGNORED)).sum() / (a != IGNORED).sum()


def test_every_pass_document_and_seed_has_its_own_masks() -> None:
    ids, keys = documents(400, 250)
    first = RULE(ids, keys, np.zeros(400))[1]
    others = {
        "pass 1": RULE(ids, keys, np.ones(400))[1],
        "pass 2": RULE(ids, keys, np.full(400, 2))[1],
        "seed": Masking(MASK, SPECIAL, VOCABULARY, seed=43)(ids, keys, np.zeros(400))[1],
        "documents": RULE(ids, keys + np.uint64(1), np.zeros(400))[1],
    }
    for name, other in others.items():
        assert abs(agreement(first, other) - 0.15) < 0.015, name


def test_what_is_chosen_says_nothing_about_how_it_is_replaced() -> None:
    """Three independent numbers a token: the first ones chosen are not always masked with [MASK]."""
    keys, positions = np.arange(2000, dtype=np.uint64)[:, None], np.arange(100)[None, :]
    draws = [hashed_uniform(keys, positions, 42, purpose).ravel() for purpose in range(3)]
    assert np.abs(np.corrcoef(draws) - np.eye(3)).max() < 5 / 200_000**0.5
