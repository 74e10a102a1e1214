"""95 % intervals of shares, of ratios of counts, and of means over texts."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from moderation.evaluation.reliability import wilson_interval
from moderation.evaluation.resampling import percentile_interval
from moderation.evaluation.split_metrics import Interval


def wilson(n_right: int, n: int) -> Interval | None:
    """Interval of a share, from `evaluation.reliability.wilson_interval`; None without a case.

    >>> [round(bound, 3) for bound in wilson(9, 10)]
    [0.596, 0.982]
    """
    if not n:
        return None
    low, high = wilson_interval(n_right, n)
    return float(low), float(high)


def of_counts(
    counts: Sequence[int],
    measure: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]],
    *,
    samples: int,
    seed: int,
) -> Interval | None:
    """Bootstrap interval of a number that depends only on how many texts fall into each cell.

    Resampling n texts is the same as drawing the counts from a multinomial distribution, which is fast.

    Args:
        counts: Texts in each cell, `(n_cells,)`.
        measure: Counts `(samples, n_cells)` -> the number of each sample, `(samples,)`; NaN where undefined.
        samples: Resamples; 0: None.
        seed: Of the draws.
    """
    n = sum(counts)
    if not samples or not n:
        return None
    drawn = np.random.default_rng(seed).multinomial(n, np.asarray(counts) / n, size=samples)
    with np.errstate(divide="ignore", invalid="ignore"):
        return percentile_interval(measure(drawn))


def of_mean(values: npt.NDArray[np.float64], *, samples: int, seed: int) -> Interval | None:
    """Bootstrap interval of the mean of one value per text, float64 `(n_texts,)`; None without samples."""
    if not samples or not len(values):
        return None
    rng = np.random.default_rng(seed)
    means = [float(values[rng.integers(len(values), size=len(values))].mean()) for _ in range(samples)]
    return percentile_interval(means)
