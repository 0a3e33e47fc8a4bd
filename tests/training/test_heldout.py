"""The held-out test asks every model for the same tokens."""

import datasets
import numpy as np
import pytest

from compact_biomed.errors import UserError
from compact_biomed.objectives.mlm import Masking
from compact_biomed.training.heldout import HeldoutTest

PAD, MASK, SPECIAL, VOCABULARY = 0, 4, (0, 1, 2, 3, 4), 50


@pytest.fixture
def documents() -> datasets.Dataset:
    generator = np.random.default_rng(0)
    ids = [[2, *generator.integers(5, VOCABULARY, length), 3] for length in (200, 150, 90)]
    return datasets.Dataset.from_dict({"input_ids": ids, "key": [11, 12, 13]}).with_format("numpy")


def labels(documents: datasets.Dataset, *, probability: float, seed: int) -> np.ndarray:
    masking = Masking(MASK, SPECIAL, VOCABULARY, probability=probability, seed=seed)
    test = HeldoutTest(documents, masking, PAD, np.ones(VOCABULARY, np.int64), pseudo_positions=0)
    return np.concatenate([batch["labels"].numpy() for batch in test._batches()])


def test_runs_of_any_seed_and_mask_rate_are_measured_on_the_same_masked_tokens(documents: datasets.Dataset) -> None:
    usual = labels(documents, probability=0.15, seed=1)
    assert (usual >= 0).sum() / 440 == pytest.approx(0.15, abs=0.05)
    np.testing.assert_array_equal(usual, labels(documents, probability=0.3, seed=2))


def test_text_too_short_to_mask_a_token_is_refused() -> None:
    short = datasets.Dataset.from_dict({"input_ids": [[2, 9, 3], [2, 8, 3]], "key": [11, 12]}).with_format("numpy")
    masking = Masking(MASK, SPECIAL, VOCABULARY, probability=0.15, seed=1)
    for most, flag in ((None, "--heldout-fraction"), (1, "--heldout-documents")):
        test = HeldoutTest(short, masking, PAD, np.ones(VOCABULARY, np.int64), max_documents=most)
        with pytest.raises(UserError, match=rf"^a.txt: too little text .* no token is masked .*raise {flag}"):
            test.require_masked_tokens("a.txt")
