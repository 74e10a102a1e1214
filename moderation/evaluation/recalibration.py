"""Make probabilities mean what they say: per label, the map of logits that held-out log-loss prefers."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from moderation.artifacts import read_json, write_json
from moderation.calibrators import Calibrator, FloatValues, read_calibrators
from moderation.errors import ArtifactError, ConfigError, DataError
from moderation.evaluation.calibrator_fits import choose_method, fit_calibrator, held_out_losses
from moderation.evaluation.probabilities import BoolArray, check_pair, sigmoid
from moderation.labels import as_labels, check_same_labels

FORMAT = "content-moderation calibration"
VERSION = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CalibrationResult:
    """The calibrator of one label and why it was chosen.

    Args:
        calibrator: Of the method chosen, fitted to all examples.
        log_loss: Method -> mean log-loss of examples that it was not fitted to; empty where there were too few to fit.
        n_positives: Positive examples among those that it was fitted to.
        n_examples: All of them.
    """

    calibrator: Calibrator
    log_loss: dict[str, float]
    n_positives: int
    n_examples: int


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

    Each method is fitted to all folds but one and judged by its log-loss on that one. Of the methods `none`,
    `temperature`, `platt`, `isotonic`, the simplest is taken that is within one standard error of the best
    (`choose_method`), and fitted again to all examples. Each map rises strictly, so that ranking stays, and with it
    ROC-AUC and what a tuned threshold flags.

    Args:
        logits: `(n_examples, n_labels)`, of the validation split, columns in `labels` order.
        targets: Of the same shape, 0 or 1.
        labels: Ordered labels.
        seed: Of the folds.
        folds: 2 or more.
        min_examples: With fewer positives, or fewer negatives, a label keeps `none`; a warning says so.

    Returns:
        Label to result, in `labels` order. The order of the examples does not matter.

    Raises:
        DataError: logits that are not finite, targets other than 0 and 1, or shapes that do not fit.
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
        raise ConfigError("Calibration: expected a seed of 0 or more, 2 folds or more, and min_examples of as many.")
    values = np.asarray(logits, dtype=np.float64)
    _, truth = check_pair(sigmoid(values), targets, len(labels), ("sigmoid(logits)", "targets"))
    if not np.isfinite(values).all():
        raise DataError("logits: infinite values; the training diverged. Expected a finite number in every cell.")

    results = {}
    with threadpool_limits(
        1, "blas"
    ):  # products with one column: more threads would wait for each other, and round anew
        for column, label in enumerate(labels):
            rng = np.random.default_rng([seed, column])
            results[label] = _fit_label(values[:, column], truth[:, column] == 1, folds, rng, min_examples)
    few = [f"{label} ({result.n_positives})" for label, result in results.items() if not result.log_loss]
    if few:
        _log.warning("Fewer than %d positives or negatives, so not calibrated: %s", min_examples, ", ".join(few))
    return results


def calibrators_of(results: Mapping[str, CalibrationResult], labels: Sequence[str]) -> tuple[Calibrator, ...]:
    """The calibrators in `labels` order, as `calibrate` takes them."""
    return tuple(results[label].calibrator for label in labels)


def save_calibration(
    path: Path, results: Mapping[str, CalibrationResult], labels: Sequence[str], about: dict[str, Any]
) -> None:
    """Write `calibration.json`.

    Args:
        path: The file.
        results: Label to result, for each of `labels`.
        labels: Ordered labels.
        about: Where the calibrators come from; anything JSON can hold.

    Raises:
        ArtifactError: the file cannot be written, or the results are for other labels.
    """
    labels = as_labels(labels)
    check_same_labels(list(results), labels, "Calibrators to save")
    content = {
        "format": FORMAT,
        "version": VERSION,
        "labels": list(labels),
        "calibrators": {label: result.calibrator.to_plain() for label, result in results.items()},
        "held_out_log_loss": {label: result.log_loss for label, result in results.items()},
        "n_positives": {label: result.n_positives for label, result in results.items()},
        "about": about,
    }
    write_json(path, content)


def load_calibrators(path: Path, labels: Sequence[str]) -> tuple[Calibrator, ...]:
    """Read the calibrators of a run, in `labels` order; of one without `calibration.json`, those that change nothing.

    Args:
        path: Where the file stands, or does not.
        labels: Ordered labels of the model.

    Raises:
        ArtifactError: broken, no file of calibrators, from a newer version, or made for other labels.
    """
    if not path.is_file():
        return (Calibrator(),) * len(labels)
    content = read_json(path, "calibration.json as `moderation train` writes it")
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise ArtifactError(
            f"{path}: format {content.get('format')!r}, version {content.get('version')!r}; expected {FORMAT!r}, "
            f"{VERSION}. Update this program, or train again."
        )
    try:
        check_same_labels(content["labels"], labels, str(path))
        return read_calibrators(content["calibrators"], labels)
    except (KeyError, TypeError, ConfigError) as error:
        reason = str(error) if isinstance(error, ConfigError) else "incomplete"
        raise ArtifactError(f"{path}: no calibrators that can be read ({reason}). Was it changed by hand?") from error


def _fit_label(
    logits: FloatValues, positive: BoolArray, folds: int, rng: np.random.Generator, min_examples: int
) -> CalibrationResult:
    n, n_positives = len(logits), int(positive.sum())
    if min(n_positives, n - n_positives) < min_examples:
        return CalibrationResult(Calibrator(), {}, n_positives, n)
    order = np.lexsort((positive, logits))  # sums round the same, in whatever order the examples come
    logits, positive = logits[order], positive[order]
    losses = held_out_losses(logits, positive, folds, rng)
    calibrator = fit_calibrator(choose_method(losses), logits, positive) or Calibrator()
    return CalibrationResult(calibrator, {name: float(loss.mean()) for name, loss in losses.items()}, n_positives, n)
