"""The text, key and side of the split of a document."""

import hashlib

import numpy as np
import pytest

from compact_biomed.corpus.document import Deletion, Document, heldout_mask, is_heldout


@pytest.mark.parametrize(
    ("title", "abstract", "text"),
    [
        ("[On frogs].", "They hop.", "On frogs. They hop."),
        ("Effect of [3H]water [author's reply]", "", "Effect of 3Hwater author's reply"),
        ("", "Only an abstract [1].", "Only an abstract [1]."),
        ("[]", "Rest.", "Rest."),
        ("", "", ""),
    ],
)
def test_text_is_title_without_brackets_and_abstract(title: str, abstract: str, text: str) -> None:
    assert Document(title, abstract).text == text


def test_key_is_the_head_of_the_hash_that_the_documentation_names() -> None:
    expected = int(hashlib.sha256(b"pmid:12345").hexdigest()[:16], 16)
    assert Document("a", "b", pmid=12345).key == expected
    assert Document("other", "", pmid=12345, version=3).key == expected
    assert Deletion(12345, 2).key == expected
    assert Document("", "some text").key == int(hashlib.sha256(b"text:some text").hexdigest()[:16], 16)


def test_split_is_stable_nested_and_of_the_right_size() -> None:
    keys = [Document("", "", pmid=number).key for number in range(20_000)]
    small = [is_heldout(key, 0.02) for key in keys]
    large = [is_heldout(key, 0.1) for key in keys]
    assert all(b for a, b in zip(small, large, strict=True) if a)  # a larger share only adds
    assert abs(sum(small) / len(keys) - 0.02) < 0.004
    assert heldout_mask(np.array(keys, np.uint64), 0.02).tolist() == small
    # Written down, so that a change of the split cannot go unnoticed.
    assert [number for number in range(400) if small[number]] == GOLDEN
    assert not any(is_heldout(key, 0.0) for key in keys[:100])


GOLDEN = [
    number for number in range(400) if int(hashlib.sha256(f"pmid:{number}".encode()).hexdigest()[:16], 16) < 2**64 // 50
]


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_share_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        is_heldout(1, fraction)
