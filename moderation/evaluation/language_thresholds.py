"""Thresholds of single languages, for those with enough examples."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from moderation.evaluation.thresholds import ThresholdResult, tune_thresholds
from moderation.language_codes import UNDETERMINED, base_language

Cells = tuple[npt.NDArray[np.int64], ...]

LEAST_KNOWN, LEAST_OF_A_CLASS = 300, 30
"""Examples of a label that a language needs for a calibrator and a threshold of its own."""


def tune_by_language(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    languages: Sequence[str],
    labels: Sequence[str],
    *,
    objective: str,
    bootstrap: int,
    seed: int,
) -> dict[str, dict[str, ThresholdResult]]:
    """Choose thresholds on the examples of each language.

    Args:
        probabilities: `(n_examples, n_labels)`, calibrated as the model will be used, columns in `labels` order.
        targets: Of the same shape, 0 or 1, NaN where unknown.
        languages: Code of each example's language.
        labels: Ordered labels.
        objective: As for `tune_thresholds`.
        bootstrap: Likewise.
        seed: Likewise.

    Returns:
        Language -> label -> result; only languages and labels with enough examples, and whose threshold reaches the
        objective.
    """
    scores, truth = np.asarray(probabilities, dtype=np.float32), np.asarray(targets, dtype=np.float32)
    found = {
        code: tune_thresholds(scores[cells], truth[cells], own, objective=objective, bootstrap=bootstrap, seed=seed)
        for code, cells, own in with_enough(truth, languages, labels)
    }
    met = {code: {label: one for label, one in own.items() if one.constraint_met} for code, own in found.items()}
    return {code: own for code, own in met.items() if own}


def with_enough(
    targets: npt.NDArray[np.float32], languages: Sequence[str], labels: Sequence[str]
) -> list[tuple[str, Cells, list[str]]]:
    """For each of several languages with enough examples: its code, and the cells and names of its labels.

    A single language has no tuning of its own: it would be the general one.
    """
    codes = np.array([base_language(code) for code in languages])
    names = [code for code in np.unique(codes).tolist() if code != UNDETERMINED]
    found: list[tuple[str, Cells, list[str]]] = []
    for code in names if len(names) > 1 else ():
        rows = np.flatnonzero(codes == code)
        positive, negative = (targets[rows] == 1).sum(axis=0), (targets[rows] == 0).sum(axis=0)
        enough = (positive + negative >= LEAST_KNOWN) & (np.minimum(positive, negative) >= LEAST_OF_A_CLASS)
        columns = np.flatnonzero(enough)
        if len(columns):
            found.append((code, np.ix_(rows, columns), [labels[column] for column in columns.tolist()]))
    return found
