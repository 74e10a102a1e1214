"""Are probabilities calibrated: shares of positives per bin of probability, with their uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moderation.calibrators import Calibrator
from moderation.evaluation.probabilities import BoolArray, FloatArray
from moderation.evaluation.split_metrics import CalibrationChange, CalibrationErrors, DiagramPoints

N_BINS = 15
FloatValues = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ReliabilityBins:
    """The bins that contain an example, by rising probability. All arrays are `(n_filled_bins,)`.

    Args:
        position: int, which of the bins between 0 and 1, from 0.
        count: int, examples in it.
        probability: Their mean probability.
        share: Share of positives among them, which the probability should equal.
        low: Lower end of the share's 95 % interval.
        high: Upper end.
    """

    position: IntArray
    count: IntArray
    probability: FloatValues
    share: FloatValues
    low: FloatValues
    high: FloatValues


def reliability_bins(probabilities: FloatArray, positive: BoolArray, n_bins: int = N_BINS) -> ReliabilityBins:
    """Put one label's examples into the bins of `expected_calibration_error`: equal width, the last one closed.

    Args:
        probabilities: `(n_examples,)`, in [0, 1].
        positive: bool `(n_examples,)`.
        n_bins: Bins between 0 and 1.

    >>> bins = reliability_bins(np.float32([0.1, 0.1, 0.9, 1.0]), np.array([False, True, True, True]))
    >>> bins.count.tolist(), bins.share.tolist()
    ([2, 1, 1], [0.5, 1.0, 1.0])
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    bins = np.minimum((scores * n_bins).astype(np.int64), n_bins - 1)
    count = np.bincount(bins, minlength=n_bins)
    filled = np.flatnonzero(count)
    n = count[filled]
    n_positives = np.bincount(bins, weights=positive, minlength=n_bins)[filled]
    low, high = wilson_interval(n_positives, n)
    mean = np.bincount(bins, weights=scores, minlength=n_bins)[filled] / n
    return ReliabilityBins(filled, n, mean, n_positives / n, low, high)


def expected_calibration_error(probabilities: FloatArray, positive: npt.ArrayLike, n_bins: int = N_BINS) -> float:
    """Return the mean gap between probability and share of positives over bins of equal width.

    Naeini et al. 2015 (AAAI), Guo et al. 2017 (ICML, 15 bins), applied to the probability of the positive class. Bins
    of equal width, as in these papers: with rare labels, bins of equal mass would put all high probabilities, the
    ones that decide, into one. Bins are weighted by their examples, so empty ones do not count.

    Args:
        probabilities: `(n_examples,)`, in [0, 1].
        positive: `(n_examples,)`, 0/1 or bool.
        n_bins: Bins between 0 and 1.

    >>> expected_calibration_error(np.float32([0.25, 0.25, 0.25, 0.25]), [1, 0, 0, 0])
    0.0
    """
    bins = reliability_bins(probabilities, np.asarray(positive, dtype=bool), n_bins)
    return float(np.average(np.abs(bins.probability - bins.share), weights=bins.count))


def measure_calibration(probabilities: FloatArray, positive: BoolArray) -> CalibrationErrors:
    """Measure how far the probabilities of one label are from the truth.

    For log-loss, probabilities are kept at least one float32 step away from 0 and 1, as in scikit-learn.

    Args:
        probabilities: float32 `(n_examples,)`, in [0, 1].
        positive: bool `(n_examples,)`.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    step = float(np.finfo(np.float32).eps)
    of_truth = np.clip(np.where(positive, scores, 1 - scores), step, 1 - step)
    return CalibrationErrors(
        brier=float(np.mean((scores - positive) ** 2)),
        log_loss=float(-np.log(of_truth).mean()),
        ece=expected_calibration_error(probabilities, positive),
    )


def compare_calibration(
    before: FloatArray, after: FloatArray, targets: FloatArray, labels: Sequence[str], calibrators: Sequence[Calibrator]
) -> dict[str, CalibrationChange]:
    """Measure probabilities before and after calibration.

    Args:
        before: float32 `(n_examples, n_labels)`, only the sigmoid.
        after: Of the same shape, calibrated.
        targets: Of the same shape, 0 or 1, NaN where unknown.
        labels: Ordered labels.
        calibrators: One per label, in that order.

    Returns:
        Label -> what changed, in `labels` order.
    """
    compared = {}
    for i, label in enumerate(labels):
        known = ~np.isnan(targets[:, i])
        positive = targets[known, i] == 1
        bins = reliability_bins(before[known, i], positive)
        compared[label] = CalibrationChange(
            method=calibrators[i].method,
            before=measure_calibration(before[known, i], positive),
            after=measure_calibration(after[known, i], positive),
            bins=DiagramPoints(bins.probability.tolist(), bins.share.tolist(), bins.count.tolist()),
        )
    return compared


def auc_interval(auc: float, n_positives: int, n_negatives: int) -> tuple[float, float]:
    """Return the 95 % interval of a ROC-AUC from the figure and the counts alone (Hanley & McNeil 1982, Radiology 143).

    Args:
        auc: In [0, 1].
        n_positives: Examples with target 1, at least one.
        n_negatives: Likewise.

    >>> low, high = auc_interval(0.9, 100, 400)
    >>> round(low, 3), round(high, 3)
    (0.859, 0.941)
    """
    both, square = auc / (2 - auc), auc * auc
    variance = (
        auc * (1 - auc) + (n_positives - 1) * (both - square) + (n_negatives - 1) * (2 * square / (1 + auc) - square)
    )
    margin = 1.96 * float(np.sqrt(variance / (n_positives * n_negatives)))
    return max(0.0, auc - margin), min(1.0, auc + margin)


def wilson_interval(successes: npt.ArrayLike, n: npt.ArrayLike) -> tuple[FloatValues, FloatValues]:
    """Return the 95 % score interval of a share (Wilson 1927, JASA 22); it stays in [0, 1] and holds for small n.

    Args:
        successes: Counts, of any shape.
        n: Counts that these are out of, 1 or more.

    >>> low, high = wilson_interval(8, 10)
    >>> round(float(low), 2), round(float(high), 2)
    (0.49, 0.94)
    """
    total = np.asarray(n, dtype=np.float64)
    share = np.asarray(successes, dtype=np.float64) / total
    z = 1.959963984540054  # 97.5 % quantile of the normal distribution
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return np.clip(centre - half, 0, share), np.clip(centre + half, share, 1)
