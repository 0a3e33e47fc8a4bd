"""The masking rule: a pure function of (seed, pass over the corpus, document, position).

The 15 % / 80-10-10 rule of BERT (section 3.1 there; the published scripts use the same
through transformers' collator). Where a collator draws from a generator, the masks here
are hashed: they do not depend on the batch, the number of processes or the place where an
interrupted run resumed, and the held-out masks are the same on every machine.
"""

from dataclasses import dataclass

import numpy as np

from compact_biomed.objectives import IGNORED

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
    """Apply the finalizer of SplitMix64 (Steele, Lea and Flood 2014): 64 bits in, 64 well-mixed bits out."""
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def hashed_uniform(keys: np.ndarray, positions: np.ndarray, *salt: int) -> np.ndarray:
    """Return uniform numbers in [0, 1), one for each (key, position), determined by the salt.

    Args:
        keys: uint64, broadcastable with positions.
        positions: non-negative integers.
        salt: non-negative integers (seed, pass, purpose).
    """
    with np.errstate(over="ignore"):
        x = np.asarray(keys, np.uint64)
        for number in salt:
            x = _mix(x + np.uint64(number) * _GOLDEN + _GOLDEN)
        x = _mix(x + (np.asarray(positions, np.uint64) + np.uint64(1)) * _GOLDEN)
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class Masking:
    """The masking rule for one vocabulary.

    Args:
        mask_id: id of [MASK].
        special_ids: never masked ([CLS], [SEP], [PAD], [UNK], [MASK]; transformers' rule).
        vocab_size: random replacements are uniform over all ids, as published.
        probability: share of tokens that get a label.
        seed: of the run.
    """

    mask_id: int
    special_ids: tuple[int, ...]
    vocab_size: int
    probability: float = 0.15
    seed: int = 42

    def __call__(self, input_ids: np.ndarray, keys: np.ndarray, passes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mask a padded batch.

        Args:
            input_ids: int64 [batch, length]; padding is a special id.
            keys: uint64 [batch], the documents' keys.
            passes: [batch], how often each document has been seen before.

        Returns:
            (masked ids, labels), int64 [batch, length]; labels are -100 where no loss is taken.
        """
        positions = np.arange(input_ids.shape[1])[None, :]
        # The pass enters through the key so that it can differ within a batch.
        keys = (np.asarray(keys, np.uint64) + _mix(np.asarray(passes, np.uint64) + _GOLDEN))[:, None]
        chosen = hashed_uniform(keys, positions, self.seed, 0) < self.probability
        chosen &= ~np.isin(input_ids, self.special_ids)
        labels = np.where(chosen, input_ids, IGNORED)
        kind = hashed_uniform(keys, positions, self.seed, 1)
        other = (hashed_uniform(keys, positions, self.seed, 2) * self.vocab_size).astype(np.int64)
        masked = np.where(chosen & (kind < 0.8), self.mask_id, input_ids)
        masked = np.where(chosen & (kind >= 0.9), other, masked)
        return masked, labels
