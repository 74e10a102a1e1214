"""Precision and recall of a label at thresholds other than the tuned one: the figures behind a slider."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moderation.errors import ConfigError
from moderation.evaluation.cuts import Cuts, find_cuts, sort_by_probability, threshold_between
from moderation.evaluation.probabilities import check_pair
from moderation.labels import as_labels


@dataclass(frozen=True)
class Curve:
    """Decisions of one label at several thresholds, lowest first; the lists have the same length.

    Args:
        n_positives: Examples with target 1.
        threshold: In [0, 1], ascending; positive where probability >= threshold, both float32.
        precision: Share of the flagged that are right; None if nothing is flagged.
        recall: Share of the positives that are flagged; None if there are none.
        flagged: Share of all examples that are flagged.
    """

    n_positives: int
    threshold: list[float]
    precision: list[float | None]
    recall: list[float | None]
    flagged: list[float]


def decision_curves(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    labels: Sequence[str],
    n_points: int = 100,
    *,
    thresholds: Sequence[float] | npt.NDArray[np.float32] = (),
) -> dict[str, Curve]:
    """Count the decisions of each label at thresholds from "flags everything" to "flags nothing".

    Half of the thresholds are evenly spaced in recall, half in the logarithm of the number of flagged examples; so the
    few highest scores, where precision is decided, get as many as the thousands of low ones. All counts are exact: of
    the numbers that cut at the same place, the one with the fewest decimals is used, and no example lies between.

    Args:
        probabilities: `(n_examples, n_labels)`, in [0, 1], columns in `labels` order.
        targets: Of the same shape, 0 or 1, NaN where unknown.
        labels: Ordered labels.
        n_points: Thresholds per label, about; fewer if there are fewer distinct probabilities. 2 or more.
        thresholds: One more per label, added to the points unchanged: the tuned one.

    Returns:
        Label -> curve, in `labels` order.

    Raises:
        DataError: the arrays are not probabilities or targets, or their shapes do not fit.
        ConfigError: labels are empty or named twice, `n_points` is too small, or `thresholds` are not one per label.

    >>> curve = decision_curves([[0.1], [0.3], [0.8]], [[0], [1], [1]], ["toxic"])["toxic"]
    >>> curve.threshold, curve.precision, curve.recall
    ([0.0, 0.2, 0.6, 1.0], [0.6666666666666666, 1.0, 1.0, None], [1.0, 1.0, 0.5, 0.0])
    """
    labels = as_labels(labels)
    if n_points < 2 or len(thresholds) not in (0, len(labels)):
        raise ConfigError("Curves: n_points must be 2 or more; pass one threshold per label, or no thresholds.")
    scores, truth = check_pair(probabilities, targets, len(labels))
    curves = {}
    for column, label in enumerate(labels):
        known = ~np.isnan(truth[:, column])
        cuts = find_cuts(*sort_by_probability(scores[known, column], truth[known, column]))
        curves[label] = _curve(
            cuts, int(known.sum()), n_points, [float(value) for value in thresholds[column : column + 1]]
        )
    return curves


def _curve(cuts: Cuts, n_examples: int, n_points: int, also: list[float]) -> Curve:
    wanted = set(_spread(cuts, n_points).tolist()) - set(_places(cuts, also).tolist())
    points = sorted({*also, *(_short_threshold(cuts, place) for place in wanted), 0.0, 1.0})
    places = _places(cuts, points)
    hits, flagged = (np.append(counts, 0)[places].tolist() for counts in (cuts.n_true_positives, cuts.n_flagged))
    return Curve(
        n_positives=cuts.n_positives,
        threshold=points,
        precision=[hit / n if n else None for hit, n in zip(hits, flagged, strict=True)],
        recall=[hit / cuts.n_positives if cuts.n_positives else None for hit in hits],
        flagged=[n / n_examples for n in flagged],
    )


def _places(cuts: Cuts, thresholds: Sequence[float]) -> npt.NDArray[np.intp]:
    """The cut that each threshold makes; after the last one nothing is flagged."""
    return np.searchsorted(cuts.upper, np.array(thresholds, dtype=np.float32), side="left")


def _spread(cuts: Cuts, n_points: int) -> npt.NDArray[np.intp]:
    """Positions of at most `n_points` cuts, ascending: the last ones that find, or flag, the wanted numbers."""
    n_cuts = len(cuts.upper)
    if n_cuts <= n_points:
        return np.arange(n_cuts)
    by_recall = np.linspace(cuts.n_positives, cuts.n_true_positives[-1], n_points // 2)
    by_flags = np.geomspace(cuts.n_flagged[0], cuts.n_flagged[-1], n_points - n_points // 2).round()
    places = [
        np.searchsorted(-counts, -wanted, side="right") - 1
        for counts, wanted in ((cuts.n_true_positives, by_recall), (cuts.n_flagged, by_flags))
    ]
    return np.unique(np.concatenate(places))


def _short_threshold(cuts: Cuts, place: int) -> float:
    """The number with the fewest decimals, near the middle, that cuts here."""
    if place == 0:
        return 0.0
    lower, upper = float(cuts.lower[place]), float(cuts.upper[place])
    short = (round((lower + upper) / 2, digits) for digits in range(1, 9))
    return next((value for value in short if lower < np.float32(value) <= upper), threshold_between(lower, upper))
