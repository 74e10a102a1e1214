"""The figures of a split for each language: one threshold rarely suits all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from moderation.errors import DataError
from moderation.evaluation.metrics import measure_split
from moderation.evaluation.objectives import fbeta, ratio
from moderation.evaluation.probabilities import (
    BoolArray,
    FloatArray,
    check_pair,
    predict,
    sigmoid,
    thresholds_of_texts,
)
from moderation.evaluation.reliability import compare_calibration, expected_calibration_error
from moderation.evaluation.split_metrics import LanguageFigures, SplitMetrics
from moderation.labels import as_labels
from moderation.text_tables import align, number
from moderation.tunings import Tunings

_FIGURES = ("ROC-AUC", "precision", "recall", "F1", "false alarms", "ECE")
LANGUAGE_HEADER = ("language", "label", "known", "positive", *_FIGURES)
LanguageTable = Mapping[str, Mapping[str, LanguageFigures]]


@dataclass(frozen=True)
class TextLanguages:
    """The languages of a split's texts.

    Args:
        named: Code of each, as the table names it; figures are grouped by them. None: the table names none.
        recognised: Code of each, as it is recognised when a text is read: by them calibrators and thresholds are fitted
            and applied. None: nobody looked.
    """

    named: Sequence[str] | None = None
    recognised: Sequence[str] | None = None


def measure_tuned(
    probabilities: FloatArray,
    targets: FloatArray,
    labels: Sequence[str],
    tunings: Tunings,
    *,
    languages: TextLanguages,
    logits: FloatArray | None,
    bootstrap: int,
    seed: int,
) -> SplitMetrics:
    """Measure a split with a run's calibrators and thresholds, also by language and before calibration.

    Args:
        probabilities: `(n_examples, n_labels)`, calibrated by `tunings`, columns in `labels` order.
        targets: Of the same shape, 0 or 1, NaN where unknown.
        labels: Ordered labels.
        tunings: Thresholds, and the calibrators whose methods are named.
        languages: Of the examples.
        logits: Of the same shape; None: there are no calibrators.
        bootstrap: Resamples of the intervals.
        seed: Of the resamples.
    """
    cuts = thresholds_of_texts(tunings, languages.recognised)
    general = np.array(tunings.general.thresholds, dtype=np.float32)
    by_text = cuts if cuts.ndim == 2 else None
    metrics = measure_split(probabilities, targets, labels, general, by_text=by_text, bootstrap=bootstrap, seed=seed)
    if logits is not None:
        calibrators = tunings.general.calibrators
        changed = compare_calibration(sigmoid(logits), probabilities, targets, labels, calibrators)
        metrics = replace(metrics, calibration=changed)
    metrics = replace(metrics, thresholds_by_language=tunings.thresholds_by_language(labels) or None)
    if languages.named is None:
        return metrics
    return replace(metrics, languages=measure_by_language(probabilities, targets, languages.named, labels, cuts))


def measure_by_language(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    languages: Sequence[str],
    labels: Sequence[str],
    thresholds: npt.ArrayLike,
) -> dict[str, dict[str, LanguageFigures]]:
    """Measure the examples of each language.

    Args:
        probabilities: `(n_examples, n_labels)`, in [0, 1], columns in `labels` order.
        targets: Of the same shape, 0 or 1, NaN where unknown.
        languages: Code of each example's language.
        labels: Ordered labels.
        thresholds: `(n_labels,)`, in label order; or `(n_examples, n_labels)` where languages have their own.

    Returns:
        Language, the most frequent one first -> label -> figures. A label is left out for a language in which it is
        never known.

    Raises:
        DataError: the arrays are not probabilities or targets, or their shapes do not fit.

    >>> scores, truth = [[0.9], [0.1], [0.8], [0.2]], [[1], [0], [0], [1]]
    >>> figures = measure_by_language(scores, truth, ["en", "en", "de", "de"], ["toxic"], [0.5])
    >>> figures["en"]["toxic"].roc_auc, figures["de"]["toxic"].false_alarms
    (1.0, 1.0)
    """
    labels = as_labels(labels)
    scores, truth = check_pair(probabilities, targets, len(labels))
    if len(languages) != len(scores):
        raise DataError(f"languages: {len(languages)} codes for {len(scores)} examples. Expected one for each.")
    flagged = predict(scores, thresholds)
    names, numbers, counts = np.unique(np.asarray(languages, dtype=str), return_inverse=True, return_counts=True)
    table: dict[str, dict[str, LanguageFigures]] = {}
    for place in np.argsort(-counts, kind="stable"):
        table[str(names[place])] = {
            label: _measure(scores[rows, column], truth[rows, column] == 1, flagged[rows, column])
            for column, label in enumerate(labels)
            if len(rows := np.flatnonzero((numbers == place) & ~np.isnan(truth[:, column])))
        }
    return table


def _measure(scores: FloatArray, positive: BoolArray, flagged: BoolArray) -> LanguageFigures:
    n_hits, n_flagged, support = int((flagged & positive).sum()), int(flagged.sum()), int(positive.sum())
    n_clean = len(positive) - support
    return LanguageFigures(
        n_known=len(positive),
        support=support,
        roc_auc=float(roc_auc_score(positive, scores)) if support and n_clean else None,
        precision=float(ratio(n_hits, n_flagged)) if n_flagged else None,
        recall=float(ratio(n_hits, support)) if support else None,
        f1=float(fbeta(n_hits, n_flagged, support)) if support else None,
        false_alarms=(n_flagged - n_hits) / n_clean if n_clean else None,
        ece=expected_calibration_error(scores, positive),
    )


def format_languages(table: LanguageTable) -> str:
    """Return the figures as a table for the terminal, one line for each language and label."""
    return align([LANGUAGE_HEADER, *language_cells(table)])


def language_cells(table: LanguageTable) -> list[tuple[str, ...]]:
    """The figures as cells under `LANGUAGE_HEADER`, a row for each language and label."""
    rows = []
    for language, figures in table.items():
        for label, one in figures.items():
            shown = [number(one.roc_auc), number(one.precision), number(one.recall), number(one.f1)]
            shown += [number(one.false_alarms), number(one.ece)]
            rows.append((language, label, f"{one.n_known:,}", f"{one.support:,}", *shown))
    return rows
