"""Calibrate probabilities: for each label, choose the map of logits with the best held-out log-loss."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import isotonic_regression
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from moderation.calibrators import METHODS, Calibrator, FloatValues, Method
from moderation.documents import Document, json_field
from moderation.errors import ConfigError, DataError
from moderation.escapes import escape_name
from moderation.evaluation.probabilities import BoolArray, check_pair, sigmoid
from moderation.evaluation.resampling import deal_folds
from moderation.labels import as_labels, check_same_labels

logger = logging.getLogger(__name__)

_SURE = 30.0  # logits beyond this are treated like it; in float64 its probability still differs from 1
_LEAST_STEP = 0.25  # log-odds between two knots: steeper maps would amplify the rounding of a backend
_LEAST_SLOPE = 1e-3  # a flatter map would turn many logits into the same float32 number
_ALIKE = 1e-3  # logits that differ by less carry no information
_ROUNDING = 1e-12


def fit_calibrator(method: Method, logits: FloatValues, positive: BoolArray) -> Calibrator | None:
    """Fit one method to the examples of one label.

    Targets are smoothed by one example of each class (Platt 1999), so that no number of examples gives certainty.

    Isotonic regression by itself is a staircase, with ties on each step. Here each step becomes one knot, at
    its mean probability (as in centred isotonic regression, Oron & Flournoy 2017), and the map is the broken line
    through the knots in log-odds, which rises strictly. Steps less than 0.25 apart in log-odds are pooled.

    Args:
        method: The method.
        logits: `(n_examples,)`.
        positive: bool `(n_examples,)`.

    Returns:
        None if the method would reverse the order or cause ties, or if all logits are alike.
    """
    if method == "none":
        return Calibrator()
    order = np.argsort(logits, kind="stable")
    logits, positive = np.clip(logits[order], -_SURE, _SURE), positive[order]
    n_positives = int(positive.sum())
    low, high = 1 / (len(positive) - n_positives + 2), (n_positives + 1) / (n_positives + 2)  # used instead of 0 and 1
    if method == "isotonic":
        return Calibrator("isotonic", knots=_knots(logits, positive, low, high))
    slope, intercept = _fit_line(logits, np.where(positive, high, low), with_intercept=method == "platt")
    return Calibrator(method, slope, intercept) if slope > _LEAST_SLOPE else None


def held_out_losses(
    logits: FloatValues, positive: BoolArray, folds: int, rng: np.random.Generator
) -> dict[Method, FloatValues]:
    """Log-loss of every example with every method, fitted without that example's fold.

    Folds are stratified by target and assigned over the sorted examples, so that the order of the rows does not
    matter; they are the same for all methods.

    Args:
        logits: `(n_examples,)`.
        positive: bool `(n_examples,)`, True and False at least `folds` times each.
        folds: Parts, 2 or more.
        rng: Assigns the folds.

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
    """The simplest method whose losses are within one standard error of the best one's.

    The one-standard-error rule (Breiman et al. 1984, sec. 3.4.3), with the error of the difference example by example,
    since all methods see the same ones: a gain that may be due to chance changes nothing.

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
    """Isotonic regression of ascending logits; each step becomes one knot, and close steps are pooled."""
    starts = np.flatnonzero(np.append(True, np.diff(logits) > 0))  # equal logits form one point
    probabilities = 1 / (1 + np.exp(-logits))
    sums: FloatValues = np.add.reduceat(np.stack([np.ones_like(logits), probabilities, positive]), starts, axis=1)
    rising = isotonic_regression(sums[2] / sums[0], sample_weight=sums[0])
    steps = np.add.reduceat(sums, np.flatnonzero(np.append(True, np.diff(rising) > _ROUNDING)), axis=1).T

    pooled: list[npt.NDArray[np.float64]] = []  # each with a count, a sum of probabilities and a sum of positives
    for step in steps:
        if pooled and _log_odds(step[1] / step[0]) - _log_odds(pooled[-1][1] / pooled[-1][0]) < _LEAST_STEP:
            pooled[-1] = pooled[-1] + step
        else:
            pooled.append(step)
    return tuple((_log_odds(claimed / n), _log_odds(low + (high - low) * true / n)) for n, claimed, true in pooled)


def _log_odds(share: float) -> float:
    return float(np.log(share) - np.log1p(-share))


@dataclass(frozen=True)
class CalibrationResult:
    """The calibrator of one label and why it was chosen.

    Args:
        calibrator: The calibrator of the chosen method, fitted to all examples.
        log_loss: Method -> mean log-loss of examples that it was not fitted to; empty if there were too few to fit.
        n_positives: Positive examples among those that it was fitted to.
        n_examples: All examples that it was fitted to.
    """

    calibrator: Calibrator
    log_loss: dict[str, float]
    n_positives: int
    n_examples: int


@dataclass(frozen=True)
class Calibration:
    """The content of `calibration.json`.

    Args:
        labels: Ordered labels.
        calibrators: Label -> its calibrator.
        held_out_log_loss: Label -> method -> mean log-loss of examples that it was not fitted to, in nats.
        n_positives: Label -> positive examples that its calibrator was fitted to.
        about: Where the calibrators come from.
        by_language: Language code -> label -> its calibrator, where a language has enough examples for its own.
    """

    labels: tuple[str, ...]
    calibrators: Mapping[str, Calibrator]
    held_out_log_loss: Mapping[str, Mapping[str, float]]
    n_positives: Mapping[str, int]
    about: Mapping[str, object]
    by_language: Mapping[str, Mapping[str, Calibrator]] | None = json_field(None, optional=True)

    def __post_init__(self) -> None:
        as_labels(self.labels)
        if self.calibrators.keys() != set(self.labels):
            raise ValueError("expected one calibrator for each label")
        for code, own in (self.by_language or {}).items():
            if not own.keys() <= set(self.labels):
                raise ValueError(f"by_language.{escape_name(code)} has a calibrator for another label")


CALIBRATION = Document(
    Calibration,
    "calibration.json, as written by `moderation train`",
    "content-moderation calibration",
    1,
    "train again",
)


def fit_calibrators(
    logits: npt.ArrayLike,
    targets: npt.ArrayLike,
    labels: Sequence[str],
    *,
    seed: int = 42,
    folds: int = 5,
    min_examples: int = 10,
) -> dict[str, CalibrationResult]:
    """Choose and fit one calibrator per label.

    Each method is fitted to all folds except one and judged by its log-loss on that one. Of the methods `none`,
    `temperature`, `platt`, `isotonic`, the simplest one within one standard error of the best is chosen
    (`choose_method`), and fitted again to all examples. Each map rises strictly, so the ranking does not change, and
    neither do ROC-AUC and the examples that a tuned threshold flags.

    Args:
        logits: `(n_examples, n_labels)`, of the validation split, columns in `labels` order.
        targets: Of the same shape, 0 or 1, NaN where unknown.
        labels: Ordered labels.
        seed: Of the folds.
        folds: 2 or more.
        min_examples: With fewer positives or negatives, a label keeps `none`, and a warning is logged.

    Returns:
        Label -> result, in `labels` order. The order of the examples does not matter.

    Raises:
        DataError: logits are not finite, targets are not 0 and 1, or shapes do not fit.
        ConfigError: labels are empty or named twice, or a number is out of range.

    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(size=(4000, 1))
    >>> targets = rng.random((4000, 1)) < sigmoid(2 * logits - 1)
    >>> calibrator = fit_calibrators(logits, targets, ["toxic"])["toxic"].calibrator
    >>> calibrator.method, round(calibrator.slope), round(calibrator.intercept)
    ('platt', 2, -1)
    """
    labels = as_labels(labels)
    if seed < 0 or folds < 2 or min_examples < folds:
        raise ConfigError("Calibration: expected seed >= 0, folds >= 2, and min_examples >= folds.")
    values = np.asarray(logits, dtype=np.float64)
    _, truth = check_pair(sigmoid(values), targets, len(labels), ("sigmoid(logits)", "targets"))
    if not np.isfinite(values).all():
        raise DataError("logits: infinite values; the training diverged. Expected a finite number in every cell.")

    results = {}
    # The products have one column: more threads would wait for each other, and round differently.
    with threadpool_limits(1, "blas"):
        for column, label in enumerate(labels):
            rng = np.random.default_rng([seed, column])
            known = ~np.isnan(truth[:, column])
            results[label] = _fit_label(values[known, column], truth[known, column] == 1, folds, rng, min_examples)
    few = [f"{label} ({result.n_positives})" for label, result in results.items() if not result.log_loss]
    if few:
        logger.warning("Fewer than %d positives or negatives, so not calibrated: %s", min_examples, ", ".join(few))
    return results


def save_calibration(
    path: Path,
    results: Mapping[str, CalibrationResult],
    labels: Sequence[str],
    about: Mapping[str, object],
    by_language: Mapping[str, Mapping[str, CalibrationResult]] | None = None,
) -> None:
    """Write `calibration.json`.

    Args:
        path: The file.
        results: Label -> result, for each of `labels`.
        labels: Ordered labels.
        about: Where the calibrators come from; anything JSON can hold.
        by_language: Language code -> label -> result, where a language has its own.

    Raises:
        ArtifactError: the file cannot be written, or the results are for other labels.
    """
    labels = as_labels(labels)
    check_same_labels(list(results), labels, "Calibrators to save")
    content = Calibration(
        labels=labels,
        calibrators={label: result.calibrator for label, result in results.items()},
        held_out_log_loss={label: result.log_loss for label, result in results.items()},
        n_positives={label: result.n_positives for label, result in results.items()},
        about=about,
        by_language={
            code: {label: result.calibrator for label, result in own.items()}
            for code, own in (by_language or {}).items()
        }
        or None,
    )
    CALIBRATION.write(path, content)


def load_calibrators(path: Path, labels: Sequence[str]) -> tuple[Calibrator, ...]:
    """Read a run's calibrators for texts in general, in `labels` order; without a file, ones that change nothing.

    Args:
        path: `calibration.json`, which may be missing.
        labels: Ordered labels of the model.

    Raises:
        ArtifactError: as for `read_calibration`.
    """
    calibration = read_calibration(path, labels)
    return tuple(calibration.calibrators[label] if calibration else Calibrator() for label in labels)


def read_calibration(path: Path, labels: Sequence[str]) -> Calibration | None:
    """Read the calibrators of a run; None: there is no `calibration.json`, so none that change anything.

    Args:
        path: The file, which may be missing.
        labels: Ordered labels of the model.

    Raises:
        ArtifactError: broken, not a file of calibrators, from a newer version, or made for other labels.
    """
    if not path.is_file():
        return None
    calibration = CALIBRATION.read(path)
    check_same_labels(calibration.labels, labels, str(path))
    return calibration


def _fit_label(
    logits: FloatValues, positive: BoolArray, folds: int, rng: np.random.Generator, min_examples: int
) -> CalibrationResult:
    n, n_positives = len(logits), int(positive.sum())
    if min(n_positives, n - n_positives) < min_examples:
        return CalibrationResult(Calibrator(), {}, n_positives, n)
    order = np.lexsort((positive, logits))  # so that sums round the same in any order of the examples
    logits, positive = logits[order], positive[order]
    losses = held_out_losses(logits, positive, folds, rng)
    calibrator = fit_calibrator(choose_method(losses), logits, positive) or Calibrator()
    return CalibrationResult(calibrator, {name: float(loss.mean()) for name, loss in losses.items()}, n_positives, n)
