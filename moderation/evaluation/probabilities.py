"""From logits to probabilities to predictions, and the checks of the arrays that this stage works on.

Everything compares in float32. A threshold and a probability that were both rounded to float32 compare the same in
memory, after a round trip through JSON, and in every backend; a float64 threshold against a float32 probability
would not (0.1 in float64 lies below 0.1 in float32).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from moderation.calibrators import Calibrator
from moderation.errors import DataError
from moderation.tunings import Tunings

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

_ROWS_SHOWN = 5
_LEAST = 1e-6  # distance of a threshold from 0 and 1, for its log-odds


def sigmoid(logits: npt.ArrayLike) -> FloatArray:
    """Turn logits into probabilities, 1 / (1 + exp(-logit)).

    Never overflows: only exp of a non-positive number is taken. Computed in float64 and rounded once, so that two
    small probabilities keep their order (the tanh form would make both 0).

    Args:
        logits: Numbers of any shape.

    Returns:
        float32 of the same shape, in [0, 1]; NaN stays NaN.

    >>> sigmoid([0.0, -1000.0, 1000.0]).tolist()
    [0.5, 0.0, 1.0]
    """
    values = np.asarray(logits, dtype=np.float64)
    small = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0, 1.0, small) / (1.0 + small), dtype=np.float32)


def calibrate(logits: npt.ArrayLike, calibrators: Sequence[Calibrator]) -> FloatArray:
    """Turn logits into calibrated probabilities: each label's calibrator, then the sigmoid.

    If no calibrator changes anything, the bytes are those of `sigmoid`. A calibrator never falls, so the highest of
    several logits has the highest calibrated probability.

    Args:
        logits: `(n_examples, n_labels)`, or `(n_labels,)` for one text.
        calibrators: One per label, in label order.

    Returns:
        float32 of the same shape, in [0, 1]; NaN stays NaN.

    Raises:
        DataError: not one column per calibrator.

    >>> calibrate([[0.0, 0.0]], [Calibrator(), Calibrator("platt", intercept=-1000.0)]).tolist()
    [[0.5, 0.0]]
    """
    values = np.array(logits, dtype=np.float64)
    if not values.ndim or values.shape[-1] != len(calibrators):
        raise DataError(f"logits: shape {values.shape} for {len(calibrators)} calibrators. Expected a column for each.")
    for column, calibrator in enumerate(calibrators):
        values[..., column] = calibrator.apply(values[..., column])
    return sigmoid(values)


def calibrate_texts(logits: npt.ArrayLike, tunings: Tunings, languages: Sequence[str] | None) -> FloatArray:
    """Like `calibrate`, each text with the calibrators of its language.

    Args:
        logits: `(n_texts, n_labels)`.
        tunings: Calibrators in general and by language.
        languages: Code of each text's language; None: the general calibrators for all.
    """
    values = np.asarray(logits)
    probabilities = calibrate(values, tunings.general.calibrators)
    for language, rows in _own_rows(tunings, languages):
        probabilities[rows] = calibrate(values[rows], tunings.of(language).calibrators)
    return probabilities


def thresholds_of_texts(tunings: Tunings, languages: Sequence[str] | None) -> FloatArray:
    """Thresholds for `predict`: float32 `(n_labels,)`, or `(n_texts, n_labels)` where languages have their own."""
    general = np.array(tunings.general.thresholds, dtype=np.float32)
    own = _own_rows(tunings, languages)
    if languages is None or not own:
        return general
    thresholds = np.tile(general, (len(languages), 1))
    for language, rows in own:
        thresholds[rows] = tunings.of(language).thresholds
    return thresholds


def _own_rows(tunings: Tunings, languages: Sequence[str] | None) -> list[tuple[str, npt.NDArray[np.int64]]]:
    """Languages among those of some texts that have their own tuning, and the places of their texts."""
    if languages is None or not tunings.by_language:
        return []
    places: dict[str, list[int]] = {}
    for place, language in enumerate(languages):
        places.setdefault(language, []).append(place)
    owned = ((code, found) for code, found in places.items() if tunings.of(code) is not tunings.general)
    return [(code, np.array(found, dtype=np.int64)) for code, found in owned]


def shift_to_thresholds(probabilities: FloatArray, own: Sequence[float], wanted: Sequence[float]) -> FloatArray:
    """Move probabilities so that other thresholds decide the same, by a constant in log-odds for each label.

    Args:
        probabilities: `(n_texts, n_labels)`, in [0, 1].
        own: Thresholds that decide about them, one per label.
        wanted: Thresholds that are to decide.

    >>> [round(value, 3) for value in shift_to_thresholds(np.float32([[0.5, 0.2]]), [0.5, 0.1], [0.8, 0.1])[0].tolist()]
    [0.8, 0.2]
    """
    if tuple(own) == tuple(wanted):
        return probabilities
    ends = np.clip(np.array([own, wanted], dtype=np.float64), _LEAST, 1 - _LEAST)
    values = np.asarray(probabilities, dtype=np.float64)
    with np.errstate(divide="ignore"):  # 0 and 1 stay what they are
        odds = np.log(values) - np.log1p(-values)
    return sigmoid(odds + np.log(ends[1] / (1 - ends[1])) - np.log(ends[0] / (1 - ends[0])))


def predict(probabilities: npt.ArrayLike, thresholds: npt.ArrayLike) -> BoolArray:
    """Decide: positive where `probability >= threshold`, compared in float32. No other code compares them.

    Args:
        probabilities: `(n_examples, n_labels)`, or `(n_labels,)` for one text, in [0, 1].
        thresholds: One number per label, `(n_labels,)` in label order, or one number for all, or one for each
            probability, of their shape.

    Returns:
        bool array of the shape of `probabilities`.

    Raises:
        DataError: the thresholds are not one per label, or one of them is not a finite number.

    >>> predict([[0.2, 0.9], [0.5, 0.1]], [0.5, 0.9]).tolist()
    [[False, True], [True, False]]
    """
    scores = _as_float32(probabilities, "probabilities")
    cuts = _as_float32(thresholds, "thresholds")
    if not np.isfinite(cuts).all():
        raise DataError("thresholds: NaN or infinite. Expected one number in [0, 1] per label.")
    if cuts.ndim and (scores.ndim == 0 or cuts.shape not in (scores.shape[-1:], scores.shape)):
        raise DataError(
            f"thresholds: shape {cuts.shape} for probabilities of shape {scores.shape}. "
            "Expected one threshold per label, in label order."
        )
    return np.asarray(scores >= cuts, dtype=np.bool_)


def check_probabilities(array: npt.ArrayLike, where: str) -> FloatArray:
    """Return `array` as float32 `(n_examples, n_labels)` if it contains probabilities.

    Args:
        array: Candidate.
        where: The array's name in the message, such as a path.

    Raises:
        DataError: not 2-D, empty, NaN or infinite values, or values outside [0, 1] (then they are logits).
    """
    values = _check_numbers(array, where)
    outside = (values < 0) | (values > 1)
    if outside.any():
        raise DataError(
            f"{where}: {_count(outside, 'outside [0, 1]')}. "
            "These are logits, expected probabilities; apply moderation.evaluation.probabilities.sigmoid first."
        )
    return values


def check_targets(array: npt.ArrayLike, where: str) -> FloatArray:
    """Return `array` as float32 `(n_examples, n_labels)` if it contains only 0, 1 and NaN.

    NaN means that nobody asked about this label of this example; it counts in no figure.

    Args:
        array: Candidate, of bool, integer or float type.
        where: The array's name in the message.

    Raises:
        DataError: not 2-D, empty, infinite values, values other than 0, 1 and NaN, or a label without a known one.
    """
    values = _check_shape(array, where)
    other = (values != 0) & (values != 1) & ~np.isnan(values)
    if other.any():
        raise DataError(
            f"{where}: {_count(other, 'neither 0 nor 1')}. Expected targets: 0 or 1, or NaN where a label is unknown."
        )
    if empty := np.flatnonzero(np.isnan(values).all(axis=0)).tolist():
        columns = ", ".join(map(str, empty))
        raise DataError(f"{where}: only NaN in column {columns} (from 0). Expected a known target for every label.")
    return values


def check_pair(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    n_labels: int,
    where: tuple[str, str] = ("probabilities", "targets"),
) -> tuple[FloatArray, FloatArray]:
    """Check probabilities and the targets that belong to them.

    Args:
        probabilities: `(n_examples, n_labels)`, in [0, 1].
        targets: Of the same shape, 0 or 1, NaN where unknown.
        n_labels: Columns expected.
        where: Names of the two arrays in messages.

    Returns:
        Both as float32.

    Raises:
        DataError: one of them is invalid, or their shapes differ.
    """
    scores, truth = check_probabilities(probabilities, where[0]), check_targets(targets, where[1])
    if scores.shape != truth.shape:
        raise DataError(
            f"Shapes differ: {where[0]} {scores.shape}, {where[1]} {truth.shape}. "
            "Expected one row per example and one column per label in both; use files of the same run and split."
        )
    if scores.shape[1] != n_labels:
        raise DataError(f"{where[0]}: {scores.shape[1]} columns for {n_labels} labels. Expected one column per label.")
    return scores, truth


def _check_numbers(array: npt.ArrayLike, where: str) -> FloatArray:
    values = _check_shape(array, where)
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(f"{where}: {_count(bad, 'NaN or infinite')}. Expected a number in every cell.")
    return values


def _check_shape(array: npt.ArrayLike, where: str) -> FloatArray:
    values = _as_float32(array, where)
    if values.ndim != 2 or 0 in values.shape:
        raise DataError(
            f"{where}: shape {values.shape}. Expected (n_examples, n_labels), one or more of each; "
            "a single label is a column, array.reshape(-1, 1)."
        )
    return values


def _as_float32(array: npt.ArrayLike, where: str) -> FloatArray:
    try:
        with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite, and is refused
            return np.asarray(array, dtype=np.float32)
    except (TypeError, ValueError):
        raise DataError(f"{where}: not an array of numbers. Expected float32 (n_examples, n_labels).") from None


def _count(bad: BoolArray, what: str) -> str:
    rows = np.flatnonzero(bad.any(axis=1))
    shown = ", ".join(map(str, rows[:_ROWS_SHOWN])) + (", …" if len(rows) > _ROWS_SHOWN else "")
    n_bad = int(bad.sum())
    return f"{n_bad} {'value is' if n_bad == 1 else 'values are'} {what} (rows from 0: {shown})"
