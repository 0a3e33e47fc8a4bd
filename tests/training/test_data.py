"""Which documents make up a step, and what a batch of them holds."""

import numpy as np
import pytest

from compact_biomed.objectives.mlm import Masking
from compact_biomed.training.data import Collator, StepSampler

MASKING = Masking(mask_id=4, special_ids=(0, 1, 2, 3, 4), vocab_size=100)


def places(batch_size: int, n_batches: int, **options: int) -> list[tuple[int, int]]:
    return [place for batch in StepSampler(37, batch_size, n_batches, seed=1, **options) for place in batch]


def test_every_pass_takes_every_document_once_in_another_order() -> None:
    taken = places(8, 20)
    assert len(taken) == 160
    passes = [[row for p, row in taken if p == n] for n in range(4)]
    assert [sorted(rows) for rows in passes] == [list(range(37))] * 4
    assert len({tuple(rows) for rows in passes}) == 4
    assert taken != [place for batch in StepSampler(37, 8, 20, seed=2) for place in batch]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 16])
def test_the_documents_of_a_step_do_not_depend_on_its_division(batch_size: int) -> None:
    assert places(batch_size, 160 // batch_size) == places(8, 20)


@pytest.mark.parametrize("start", [1, 7, 19, 20])
def test_a_later_start_goes_on_in_the_same_sequence(start: int) -> None:
    sampler = StepSampler(37, 8, 20, seed=1, start=start)
    assert [place for batch in sampler for place in batch] == places(8, 20)[8 * start :]
    assert len(sampler) == 20  # the trainer derives the number of steps from it


def test_no_batch_is_wider_than_the_model_reads() -> None:
    documents = [document(length, length) for length in (9, 37)]
    widths = [Collator(MASKING, 0, 40, widest)(documents)["input_ids"].shape[1] for widest in (None, 40, 64)]
    assert widths == [64, 40, 64]


def document(length: int, key: int, this_pass: int = 0) -> tuple[np.ndarray, int, int]:
    body = np.random.default_rng(key).integers(5, 100, length - 2)
    return np.array([2, *body, 3], np.uint16), key, this_pass


def test_a_batch_is_padded_masked_and_typed() -> None:
    documents = [document(40, 2**63 + 5), document(7, 6, 3), document(33, 7)]
    batch = Collator(MASKING, 0)(documents)
    assert {name: tuple(x.shape) for name, x in batch.items()} == dict.fromkeys(batch, (3, 64))
    assert all(x.dtype.is_signed and x.element_size() == 8 for x in batch.values())
    for row, (ids, key, this_pass) in enumerate(documents):
        n = len(ids)
        assert batch["attention_mask"][row].tolist() == [1] * n + [0] * (64 - n)
        assert not batch["input_ids"][row, n:].any()
        masked, labels = MASKING(ids[None].astype(np.int64), np.array([key], np.uint64), np.array([this_pass]))
        assert batch["input_ids"][row, :n].tolist() == masked[0].tolist()
        assert batch["labels"][row].tolist() == labels[0].tolist() + [-100] * (64 - n)


@pytest.mark.parametrize("company", [[], [50], [100]])
@pytest.mark.parametrize(
    ("length", "padded"), [(30, True), (32, True), (64, True), (99, True), (100, True), (128, False)]
)
def test_whether_padding_follows_does_not_depend_on_the_company(length: int, padded: bool, company: list[int]) -> None:
    """MobileBERT's last token sees what follows it."""
    batch = Collator(MASKING, 0, 128)([document(n, n) for n in (length, *company)])
    width = batch["attention_mask"].shape[1]
    assert (width > length) == padded
    assert width % 32 == 0 and width <= 128
