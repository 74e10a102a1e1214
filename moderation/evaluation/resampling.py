"""Examples resampled for intervals, and assigned to folds.

Bootstrap intervals of ROC-AUC, average precision and F1 sort once, then only count with other weights.

A resample of n examples is the same examples with counts as weights (how often each was drawn). The order by
probability stays, so a resample costs one gather and one cumulative sum instead of a sort.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moderation.evaluation.objectives import fbeta
from moderation.evaluation.probabilities import BoolArray, FloatArray
from moderation.evaluation.split_metrics import Interval

MEASURES = ("roc_auc", "average_precision", "f1")

IntArray = npt.NDArray[np.int64]
FloatValues = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """The examples of one label from the highest probability down, with everything that does not depend on weights.

    Args:
        order: int `(n_known,)`, rows whose target is known, by falling probability.
        positives: int `(n_positives,)`, positions in that order with target 1.
        first: int `(n_positives,)`, position where the run of equal probabilities around each positive starts.
        end: int `(n_positives,)`, position after that run.
        flagged: bool `(n_known,)`, whether the example at each position is flagged.
    """

    order: IntArray
    positives: IntArray
    first: IntArray
    end: IntArray
    flagged: BoolArray

    @classmethod
    def of(cls, probabilities: FloatArray, targets: FloatArray, flagged: BoolArray) -> "Ranking":
        """Sort the examples of one label; all arrays are `(n_examples,)`, targets NaN where unknown."""
        known = np.flatnonzero(~np.isnan(targets))
        order = known[np.argsort(-probabilities[known], kind="stable")]
        falling = -probabilities[order]
        positives = np.flatnonzero(targets[order] == 1)
        return cls(
            order=order,
            positives=positives,
            first=np.searchsorted(falling, falling[positives], side="left"),
            end=np.searchsorted(falling, falling[positives], side="right"),
            flagged=flagged[order],
        )

    def measure(self, weights: npt.NDArray[Any]) -> tuple[float, float, float]:
        """Return ROC-AUC, average precision and F1 of the decisions under weights.

        ROC-AUC is the share of (positive, negative) pairs in the right order, equal
        probabilities counting half (Hanley & McNeil 1982); average precision is the mean over positives of the
        precision down to their probability, as in scikit-learn.

        Args:
            weights: `(n_examples,)`, 0 or more, in the rows' own order; whole numbers for a resample.

        Returns:
            NaN for ROC-AUC and average precision unless both classes have weight, for F1 unless positives have weight.
        """
        ranked = weights[self.order]
        total = _running(ranked)  # (n_known + 1,), weight of the first i positions
        found = _running(ranked[self.positives])  # (n_positives + 1,), of the first i positives
        weight_positive, weight_negative = float(found[-1]), float(total[-1] - found[-1])
        if not weight_positive:
            return np.nan, np.nan, np.nan
        flagged_positives = ranked[self.positives] @ self.flagged[self.positives]
        f1 = float(fbeta(flagged_positives, ranked @ self.flagged, found[-1]))
        if not weight_negative:
            return np.nan, np.nan, f1

        own = ranked[self.positives]
        found_before = found[np.searchsorted(self.positives, self.first)]
        found_through = found[np.searchsorted(self.positives, self.end)]
        total_before, total_through = total[self.first], total[self.end]
        # negatives above, plus half of those with the same probability, are the pairs in the wrong order
        wrong = own @ ((total_before - found_before) + (total_through - found_through)) / 2
        drawn = own > 0
        precision = found_through[drawn] / total_through[drawn]
        return (
            float(1 - wrong / (weight_positive * weight_negative)),
            float(own[drawn] @ precision / weight_positive),
            f1,
        )


def resample(
    probabilities: FloatArray, targets: FloatArray, flagged: BoolArray, samples: int, seed: int
) -> FloatValues:
    """Measure bootstrap resamples; the rows are drawn once for all labels, so that labels stay together.

    Args:
        probabilities: float32 `(n_examples, n_labels)`, in [0, 1].
        targets: Of the same shape, 0 or 1, NaN where unknown.
        flagged: bool, of the same shape.
        samples: Resamples.
        seed: Of the draws.

    Returns:
        float64 `(samples, n_labels, 3)`, the last axis as `MEASURES`; NaN where undefined.
    """
    n_examples, n_labels = probabilities.shape
    rankings = [Ranking.of(probabilities[:, i], targets[:, i], flagged[:, i]) for i in range(n_labels)]
    rng = np.random.default_rng(seed)
    values = np.empty((samples, n_labels, len(MEASURES)))
    for sample in values:
        weights = np.bincount(rng.integers(n_examples, size=n_examples), minlength=n_examples)
        sample[:] = [ranking.measure(weights) for ranking in rankings]
    return values


def percentile_interval(values: Sequence[float] | FloatValues) -> Interval | None:
    """Return the 95 % percentile interval (Efron & Tibshirani 1993, ch. 13) of the defined values; None without any.

    >>> percentile_interval(np.array([0.0, 0.5, 1.0, np.nan]))
    (0.025, 0.975)
    """
    defined = np.asarray(values, dtype=np.float64)
    defined = defined[~np.isnan(defined)]
    if not len(defined):
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


def deal_folds(positive: BoolArray, folds: int, rng: np.random.Generator) -> IntArray:
    """Give each example its fold, stratified by target: folds differ by at most one positive and one negative.

    Sort the examples first if the result must not depend on the order of the rows.

    Args:
        positive: bool `(n_examples,)`.
        folds: Parts, 2 or more.
        rng: Assigns the folds.

    Returns:
        int64 `(n_examples,)`, from 0 to `folds - 1`.

    >>> fold = deal_folds(np.array([True, True, False, False, False]), 2, np.random.default_rng(0))
    >>> sorted(fold[:2].tolist()), sorted(fold[2:].tolist())
    ([0, 1], [0, 0, 1])
    """
    fold = np.empty(len(positive), dtype=np.int64)
    for group in (positive, ~positive):
        fold[group] = rng.permutation(np.arange(int(group.sum())) % folds)
    return fold


def _running(weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Cumulative sum that starts with 0."""
    return np.concatenate([np.zeros(1, weights.dtype), np.cumsum(weights)])
