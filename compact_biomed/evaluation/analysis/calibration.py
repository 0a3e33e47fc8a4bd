"""Calibration: whether predictions with a score of 0.9 are right nine times out of ten."""

import numpy as np

BINS = 15


def calibration(scores: np.ndarray, right: np.ndarray, *, bins: int = BINS) -> dict[str, float | list]:
    """Return the expected calibration error of predictions (Guo et al. 2017), and what it is computed from.

    The scores are divided into bins of equal width, (0, 1/15], (1/15, 2/15], ...; the error is the mean over
    predictions of the difference between a bin's mean score and its share of right predictions.

    Args:
        scores: [predictions], from 0 to 1.
        right: [predictions].

    Returns:
        `predictions`, their number; `ece`, `mean_score` and `right` in percent; `bins`: for each bin its number of
        predictions, mean score and share of right ones in percent (0 where it is empty).
    """
    n = max(len(scores), 1)
    bin_of = np.clip(np.ceil(np.asarray(scores, float) * bins).astype(int) - 1, 0, bins - 1)
    numbers, score_sums, right_sums = (
        np.bincount(bin_of, weights=weights, minlength=bins) for weights in (None, scores, np.asarray(right, float))
    )
    filled = np.maximum(numbers, 1)
    means, shares = 100 * score_sums / filled, 100 * right_sums / filled
    rows = zip(numbers.tolist(), means.tolist(), shares.tolist(), strict=True)
    return {
        "predictions": len(scores),
        "ece": float((numbers * np.abs(means - shares)).sum() / n),
        "mean_score": float(100 * score_sums.sum() / n),
        "right": float(100 * right_sums.sum() / n),
        "bins": [[number, round(mean, 2), round(share, 2)] for number, mean, share in rows],
    }
