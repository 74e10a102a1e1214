"""Calibrators of single languages, and a run's calibrators and thresholds together."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from moderation.calibrators import Calibrator
from moderation.evaluation.calibration import CalibrationResult, fit_calibrators, read_calibration
from moderation.evaluation.language_thresholds import with_enough
from moderation.evaluation.thresholds import (
    DEFAULT_THRESHOLD,
    ThresholdResult,
    load_thresholds,
    read_thresholds,
)
from moderation.language_codes import base_language
from moderation.tunings import LanguageTuning, Tunings


def fit_by_language(
    logits: npt.ArrayLike, targets: npt.ArrayLike, languages: Sequence[str], labels: Sequence[str], *, seed: int
) -> dict[str, dict[str, CalibrationResult]]:
    """Fit calibrators to the examples of each language.

    Args:
        logits: `(n_examples, n_labels)`, of the validation split, columns in `labels` order.
        targets: Of the same shape, 0 or 1, NaN where unknown.
        languages: Code of each example's language.
        labels: Ordered labels.
        seed: Of the folds.

    Returns:
        Language -> label -> result; only languages and labels with enough examples.
    """
    values, truth = np.asarray(logits, dtype=np.float64), np.asarray(targets, dtype=np.float32)
    return {
        code: fit_calibrators(values[cells], truth[cells], own, seed=seed)
        for code, cells, own in with_enough(truth, languages, labels)
    }


def combine(
    labels: Sequence[str],
    calibrators: Mapping[str, Calibrator] | None,
    thresholds: Mapping[str, float],
    own_calibrators: Mapping[str, Mapping[str, Calibrator]],
    own_thresholds: Mapping[str, Mapping[str, float]],
) -> Tunings:
    """Put general and own calibrators and thresholds together, so that each language has all of them.

    Args:
        labels: Ordered labels.
        calibrators: Label -> calibrator; None: none that change anything.
        thresholds: Label -> threshold.
        own_calibrators: Language -> label -> calibrator.
        own_thresholds: Language -> label -> threshold.
    """
    general = dict.fromkeys(labels, Calibrator()) if calibrators is None else calibrators
    own_calibrators = {base_language(code): own for code, own in own_calibrators.items()}
    own_thresholds = {base_language(code): own for code, own in own_thresholds.items()}

    def tuning(code: str | None) -> LanguageTuning:
        maps = {**general, **own_calibrators.get(code or "", {})}
        cuts = {**thresholds, **own_thresholds.get(code or "", {})}
        return LanguageTuning(tuple(maps[label] for label in labels), tuple(cuts[label] for label in labels))

    codes = sorted({*own_calibrators, *own_thresholds})
    return Tunings(tuning(None), {code: tuning(code) for code in codes})


def load_tunings(calibration: Path, thresholds: Path | None, labels: Sequence[str]) -> Tunings:
    """Read the calibrators and thresholds of a run.

    Args:
        calibration: `calibration.json`, which may be missing.
        thresholds: `thresholds.json`; None: not tuned yet, so the default of 0.5 for every label.
        labels: Ordered labels of the model.

    Raises:
        ArtifactError: a file is broken, from a newer version, or made for another model.
    """
    fitted = read_calibration(calibration, labels)
    cuts = dict.fromkeys(labels, DEFAULT_THRESHOLD)
    own_cuts: dict[str, dict[str, float]] = {}
    if thresholds is not None:
        load_thresholds(thresholds, labels, calibrated=fitted is not None)  # refuses those of another model
        tuned = read_thresholds(thresholds)
        cuts = _cuts_of(tuned.thresholds)
        own_cuts = {code: _cuts_of(own) for code, own in (tuned.by_language or {}).items()}
    own_calibrators = (fitted.by_language if fitted else None) or {}
    return combine(labels, fitted.calibrators if fitted else None, cuts, own_calibrators, own_cuts)


def _cuts_of(results: Mapping[str, ThresholdResult]) -> dict[str, float]:
    return {label: result.threshold for label, result in results.items()}
