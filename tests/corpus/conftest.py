"""A tokenizer for the corpus tests."""

import pytest
from corpus_inputs import build_tokenizer


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()
