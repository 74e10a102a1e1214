"""Fit the calibrators of one label, each method to the same logits, and choose among them on held-out examples."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import isotonic_regression
from sklearn.linear_model import LogisticRegression

from moderation.calibrators import METHODS, Calibrator, FloatValues, Method
from moderation.evaluation.folds import deal_folds
from moderation.evaluation.probabilities import BoolArray

_SURE = 30.0  # logits beyond are as good as this one; in float64 its probability is still apart from 1
_LEAST_STEP = 0.25  # log-odds between two knots: steeper maps would magnify the rounding of a backend
_LEAST_SLOPE = 1e-3  # a flatter map would make one float32 number of many logits
_ALIKE = 1e-3  # logits that differ by less say nothing
_ROUNDING = 1e-12


def fit_calibrator(method: Method, logits: FloatValues, positive: BoolArray) -> Calibrator | None:
    """Fit one method to the examples of one label.

    Targets are smoothed by one example of each class (Platt 1999), so that no number of examples makes certain.

    Isotonic regression alone is a staircase that ties whatever stands on one step. Here each step becomes one knot, at
    its mean probability (as in centred isotonic regression, Oron & Flournoy 2017), and the map is the broken line
    through the knots in log-odds, which rises strictly. Steps less than 0.25 apart in log-odds are pooled.

    Args:
        method: Which.
        logits: `(n_examples,)`.
        positive: bool `(n_examples,)`.

    Returns:
        None where the method would turn the order around or tie it, or the logits are all alike.
    """
    if method == "none":
        return Calibrator()
    order = np.argsort(logits, kind="stable")
    logits, positive = np.clip(logits[order], -_SURE, _SURE), positive[order]
    n_positives = int(positive.sum())
    low, high = 1 / (len(positive) - n_positives + 2), (n_positives + 1) / (n_positives + 2)  # what 0 and 1 stand for
    if method == "isotonic":
        return Calibrator("isotonic", knots=_knots(logits, positive, low, high))
    slope, intercept = _fit_line(logits, np.where(positive, high, low), with_intercept=method == "platt")
    return Calibrator(method, slope, intercept) if slope > _LEAST_SLOPE else None


def held_out_losses(
    logits: FloatValues, positive: BoolArray, folds: int, rng: np.random.Generator
) -> dict[Method, FloatValues]:
    """Log-loss of every example by every method, fitted without that example's fold.

    Folds are stratified by target and dealt out over the sorted examples, so that the order of the rows does not
    matter; they are the same for all methods.

    Args:
        logits: `(n_examples,)`.
        positive: bool `(n_examples,)`, True and False at least `folds` times each.
        folds: Parts, 2 or more.
        rng: Deals out the folds.

    Returns:
        Method -> `(n_examples,)`, the simplest method first; without those that gave no calibrator.
    """
    order = np.lexsort((positive, logits))
    logits, positive = logits[order], positive[order]
    fold = deal_folds(positive, folds, rng)
    losses: dict[Method, FloatValues] = {}
    for method in METHODS:
        parts = [fit_calibrator(method, logits[fold != k], positive[fold != k]) for k in range(folds)]
        calibrated = np.empty_like(logits)
        for k, calibrator in enumerate(parts):
            if calibrator is not None:
                calibrated[fold == k] = calibrator.apply(logits[fold == k])
        if None not in parts:
            losses[method] = np.logaddexp(0.0, np.where(positive, -calibrated, calibrated))
    return losses


def choose_method(losses: Mapping[Method, FloatValues]) -> Method:
    """The first method whose losses are within one standard error of the best one's.

    The one-standard-error rule (Breiman et al. 1984, sec. 3.4.3), with the error of the difference example by example,
    since all methods see the same ones: nothing is changed for a gain that chance may have made.

    Args:
        losses: Method -> `(n_examples,)`, the simplest method first.

    >>> same = np.array([0.2, 0.4, 0.1, 0.3])
    >>> choose_method({"none": same, "platt": same - [0.01, -0.01, 0.02, 0.0]})
    'none'
    >>> choose_method({"none": same, "platt": same - [0.01, 0.02, 0.02, 0.01]})
    'platt'
    """
    best = min(losses, key=lambda method: float(losses[method].mean()))
    for method, loss in losses.items():
        excess = loss - losses[best]
        if excess.mean() <= excess.std(ddof=1) / np.sqrt(len(excess)):
            return method
    return best


def _fit_line(logits: FloatValues, shares: FloatValues, *, with_intercept: bool) -> tuple[float, float]:
    """Logistic regression of one feature on targets between 0 and 1: each example counts once as 1 and once as 0."""
    centre = float(logits.mean()) if with_intercept else 0.0
    scale = float(np.sqrt(np.mean((logits - centre) ** 2)))
    if scale < _ALIKE:
        return 0.0, 0.0
    feature = ((logits - centre) / scale)[:, None]
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", fit_intercept=with_intercept, tol=1e-9)
    model.fit(
        np.concatenate([feature, feature]),
        np.repeat([1, 0], len(logits)),
        sample_weight=np.concatenate([shares, 1 - shares]),
    )
    slope = float(model.coef_[0, 0]) / scale
    return slope, float(np.ravel(model.intercept_)[0]) - slope * centre


def _knots(logits: FloatValues, positive: BoolArray, low: float, high: float) -> tuple[tuple[float, float], ...]:
    """Isotonic regression of ascending logits; each of its steps, pooled where they are near, as one knot."""
    starts = np.flatnonzero(np.append(True, np.diff(logits) > 0))  # equal logits are one point
    probabilities = 1 / (1 + np.exp(-logits))
    sums: FloatValues = np.add.reduceat(np.stack([np.ones_like(logits), probabilities, positive]), starts, axis=1)
    rising = isotonic_regression(sums[2] / sums[0], sample_weight=sums[0])
    steps = np.add.reduceat(sums, np.flatnonzero(np.append(True, np.diff(rising) > _ROUNDING)), axis=1).T

    pooled: list[npt.NDArray[np.float64]] = []  # of a count, a sum of probabilities and one of positives each
    for step in steps:
        if pooled and _log_odds(step[1] / step[0]) - _log_odds(pooled[-1][1] / pooled[-1][0]) < _LEAST_STEP:
            pooled[-1] = pooled[-1] + step
        else:
            pooled.append(step)
    return tuple((_log_odds(claimed / n), _log_odds(low + (high - low) * true / n)) for n, claimed, true in pooled)


def _log_odds(share: float) -> float:
    return float(np.log(share) - np.log1p(-share))
