"""The documents of each optimizer step, and the padded, masked batches that are made of them.

Step s of a run takes documents [s * batch, (s + 1) * batch) of an endless sequence of
shuffled passes over the corpus. That depends on the seed alone: not on the number of
processes, on gradient accumulation, nor on where an interrupted run resumes.
"""

from collections.abc import Iterator, Sequence

import datasets
import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from compact_biomed.errors import UserError
from compact_biomed.objectives.mlm import Masking, hashed_uniform

_PAD_TO = 32

# Which training documents a run reads: the share of their hashed keys, from and to. Start weights are made on one part
# and pretrained further on the rest, so that what pretraining adds is not mixed with what the start has read.
SHARES = {"all": (0.0, 1.0), "start": (0.0, 0.25), "rest": (0.25, 1.0)}
_SHARE_SALT = 1802


def documents_of(split: "datasets.Dataset", share: str) -> "datasets.Dataset":
    """Return the documents of a share, in their order. Which ones depends on their keys alone.

    Args:
        split: a tokenized split.
        share: a key of `SHARES`.

    Raises:
        UserError: no document belongs to it.
    """
    if share == "all":
        return split
    keys = split.with_format("numpy", columns=["key"])[:]["key"]
    low, high = SHARES[share]
    hashes = hashed_uniform(keys, np.zeros(len(keys), np.int64), _SHARE_SALT)
    rows = np.flatnonzero((low <= hashes) & (hashes < high))
    if not len(rows):
        raise UserError(
            f"none of {len(keys)} documents belongs to the share {share!r}",
            where="--documents",
            remedy="use more text, or all documents",
        )
    return split.select(rows)


class StepSampler(Sampler[list[tuple[int, int]]]):
    """The device batches of a whole run, in order, as lists of (pass, row).

    With several processes accelerate deals the batches out in turn, so that together they
    take the same documents in a step as one process would.

    Args:
        n_documents: in the corpus.
        batch_size: documents per device batch.
        n_batches: device batches in the run, over all processes.
        seed: of the shuffling.
        start: device batches to leave out (they were trained on before an interruption).
    """

    drop_last = True  # read by accelerate: there is no smaller last batch

    def __init__(self, n_documents: int, batch_size: int, n_batches: int, *, seed: int, start: int = 0):
        self.n_documents, self.batch_size, self.n_batches = n_documents, batch_size, n_batches
        self.seed, self.start = seed, start

    def __len__(self) -> int:
        # The whole run, also after an interruption: the trainer derives the number of steps from it.
        return self.n_batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        current, order = -1, np.empty(0, np.int64)
        for batch in range(self.start, self.n_batches):
            rows = []
            for place in range(batch * self.batch_size, (batch + 1) * self.batch_size):
                this_pass, index = divmod(place, self.n_documents)
                if this_pass != current:
                    current = this_pass
                    order = np.random.default_rng([self.seed, current]).permutation(self.n_documents)
                rows.append((this_pass, int(order[index])))
            yield rows


class Documents(Dataset):
    """A tokenized split that is read one batch of (pass, row) at a time."""

    def __init__(self, split: "datasets.Dataset"):
        self.split = split.with_format("numpy", columns=["input_ids", "key"])

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, rows_and_passes: Sequence[tuple[int, int]]) -> list[tuple[np.ndarray, int, int]]:
        rows = self.split[[row for _, row in rows_and_passes]]
        passes = [this_pass for this_pass, _ in rows_and_passes]
        return list(zip(rows["input_ids"], rows["key"], passes, strict=True))

    def __getitem__(self, place: tuple[int, int]) -> tuple[np.ndarray, int, int]:
        return self.__getitems__([place])[0]


class Collator:
    """(ids, key, pass) documents -> a padded, masked batch: input_ids, attention_mask, labels [batch, length].

    The length is that of the longest document, rounded up to a multiple of 32.

    Args:
        masking: the rule.
        pad_id: id of [PAD].
        max_length: most tokens of a document in the corpus. All shorter ones then have a
            [PAD] behind them, whatever batch they are in: MobileBERT's last token sees it.
        widest: longest input of the model, None = no limit.
    """

    def __init__(self, masking: Masking, pad_id: int, max_length: int | None = None, widest: int | None = None):
        self.masking, self.pad_id, self.max_length, self.widest = masking, pad_id, max_length, widest

    def __call__(self, documents: Sequence[tuple[np.ndarray, int, int]]) -> dict[str, torch.Tensor]:
        lengths = np.array([len(ids) for ids, _, _ in documents])
        longest = int(lengths.max())
        if self.max_length is not None:
            longest = min(longest + 1, max(longest, self.max_length))
        width = -(-longest // _PAD_TO) * _PAD_TO
        width = max(longest, min(width, self.widest or width))
        input_ids = np.full((len(documents), width), self.pad_id, np.int64)
        for row, (ids, _, _) in zip(input_ids, documents, strict=True):
            row[: len(ids)] = ids
        keys = np.array([key for _, key, _ in documents], np.uint64)
        masked, labels = self.masking(input_ids, keys, np.array([p for _, _, p in documents]))
        present = np.arange(width)[None, :] < lengths[:, None]
        labels = np.where(present, labels, -100)
        return {
            "input_ids": torch.from_numpy(np.where(present, masked, self.pad_id)),
            "attention_mask": torch.from_numpy(present.astype(np.int64)),
            "labels": torch.from_numpy(labels),
        }
