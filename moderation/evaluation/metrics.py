"""The figures of a split: per label, macro, micro, with bootstrap intervals; None if one is undefined."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from moderation.documents import to_plain
from moderation.evaluation.objectives import fbeta, ratio
from moderation.evaluation.probabilities import BoolArray, FloatArray, check_pair, predict, sigmoid
from moderation.evaluation.reliability import measure_calibration
from moderation.evaluation.resampling import MEASURES, FloatValues, percentile_interval, resample
from moderation.evaluation.split_metrics import (
    Decisions,
    Intervals,
    LabelMetrics,
    MacroAverages,
    MacroCounts,
    MicroAverages,
    SplitMetrics,
)
from moderation.evaluation.thresholds import ThresholdResult, threshold_array
from moderation.labels import as_labels
from moderation.text_tables import align, interval, number

logger = logging.getLogger(__name__)


def eval_with_thresholds(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    labels: Sequence[str],
    thresholds: npt.ArrayLike | Mapping[str, ThresholdResult],
    *,
    bootstrap: int = 1000,
    seed: int = 42,
) -> dict[str, object]:
    """Measure probabilities and the decisions at `thresholds` against targets.

    Undefined figures are None, never NaN: ROC-AUC and average precision of a label with one class in the split,
    recall and F1 without positives, precision if nothing is flagged. Macro averages cover the labels for which the
    figure is defined; `macro_defined` counts them.

    Args:
        probabilities: `(n_examples, n_labels)`, in [0, 1], columns in `labels` order.
        targets: Of the same shape, 0 or 1, NaN where unknown; an unknown one counts in no figure.
        labels: Ordered labels.
        thresholds: `(n_labels,)`, in label order, or one number for all, or the result of `tune_thresholds`.
        bootstrap: Resamples of the 95 % intervals; 0: intervals are None.
        seed: Of the resamples.

    Returns:
        A dictionary ready for JSON::

            n_examples, subset_accuracy (share of examples with every known label right),
            flagged_any, positive_any (examples with a flagged, with a positive label),
            labels: {label: {n_known, support, prevalence, roc_auc, average_precision, brier, log_loss, ece, threshold,
                             at_threshold, at_half: {precision, recall, f1, flagged},
                             intervals: {roc_auc, average_precision, f1: [low, high] or None}}},
            macro: {roc_auc, average_precision, precision, recall, f1, f1_at_half, brier, ece_worst},
            macro_defined: {roc_auc, average_precision, precision, recall, f1, f1_at_half: n_labels},
            macro_intervals: {roc_auc, average_precision, f1},
            micro: {precision, recall, f1}

    Raises:
        DataError: the arrays are not probabilities or targets, or shapes do not fit.
        ConfigError: labels are empty or named twice.

    >>> scores, truth = [[0.9, 0.2], [0.1, 0.8], [0.3, 0.3]], [[1, 0], [0, 1], [0, 0]]
    >>> eval_with_thresholds(scores, truth, ["toxic", "threat"], 0.5, bootstrap=0)["macro"]["f1"]
    1.0
    """
    measured = measure_split(probabilities, targets, labels, thresholds, bootstrap=bootstrap, seed=seed)
    numbers: dict[str, object] = to_plain(measured)
    return numbers


def measure_split(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    labels: Sequence[str],
    thresholds: npt.ArrayLike | Mapping[str, ThresholdResult],
    *,
    by_text: FloatArray | None = None,
    bootstrap: int = 1000,
    seed: int = 42,
) -> SplitMetrics:
    """Like `eval_with_thresholds`, with the same arguments and errors, but with the figures as a dataclass.

    Args:
        probabilities: As there.
        targets: As there.
        labels: As there.
        thresholds: As there; the figures name them.
        by_text: `(n_examples, n_labels)`, the thresholds that decide if languages have their own; None: `thresholds`.
        bootstrap: As there.
        seed: As there.
    """
    labels = as_labels(labels)
    scores, truth = check_pair(probabilities, targets, len(labels))
    if isinstance(thresholds, Mapping):
        thresholds = threshold_array(thresholds, labels)
    flagged, flagged_at_half = predict(scores, thresholds if by_text is None else by_text), predict(scores, 0.5)
    cuts = np.broadcast_to(np.asarray(thresholds, dtype=np.float32), (len(labels),))
    known, positive = ~np.isnan(truth), truth == 1
    drawn = resample(scores, truth, flagged, bootstrap, seed)  # (bootstrap, n_labels, 3)
    measured = [
        _measure_label(
            scores[rows, i],
            positive[rows, i],
            float(cuts[i]),
            _measure_decisions(flagged[rows, i], positive[rows, i]),
            _measure_decisions(flagged_at_half[rows, i], positive[rows, i]),
            drawn[:, i],
        )
        for i, rows in enumerate(known.T)
    ]
    if not known.all():
        measured = [replace(one, n_known=int(n)) for one, n in zip(measured, known.sum(axis=0), strict=True)]
    macro, defined = _average(measured)
    pooled = _measure_decisions(flagged[known], positive[known])
    return SplitMetrics(
        n_examples=len(scores),
        labels=dict(zip(labels, measured, strict=True)),
        macro=macro,
        macro_defined=defined,
        macro_intervals=_macro_intervals(drawn, measured),
        micro=MicroAverages(pooled.precision, pooled.recall, pooled.f1),
        subset_accuracy=float(((flagged == positive) | ~known).all(axis=1).mean()),
        flagged_any=int((flagged & known).any(axis=1).sum()),
        positive_any=int(positive.any(axis=1).sum()),
    )


def compute_metrics(eval_prediction: Any) -> dict[str, float]:
    """Measure the logits of an evaluation, for `transformers.Trainer(compute_metrics=...)`.

    Args:
        eval_prediction: `transformers.EvalPrediction`, or a tuple of logits and targets, both
            `(n_examples, n_labels)`. If the model returns more than logits, they come first.

    Returns:
        `macro_roc_auc`, `macro_average_precision`, `macro_f1_at_half` over the labels that have both classes,
        `micro_f1_at_half` over all decisions, and `n_labels_measured`, the number of labels averaged over. If that
        is 0, the averages are 0, so that a best checkpoint can still be chosen, and a warning is logged.

    Raises:
        DataError: NaN logits (the training diverged), targets other than 0, 1 and NaN, or shapes that differ.

    >>> compute_metrics((np.array([[2.0], [-1.0]]), np.array([[1.0], [0.0]])))["macro_roc_auc"]
    1.0
    """
    if hasattr(eval_prediction, "predictions"):
        logits, targets = eval_prediction.predictions, eval_prediction.label_ids
    else:
        logits, targets = eval_prediction[0], eval_prediction[1]
    if isinstance(logits, tuple):
        logits = logits[0]
    probabilities = sigmoid(logits)
    n_labels = probabilities.shape[-1] if probabilities.ndim else 0
    scores, truth = check_pair(probabilities, targets, n_labels, ("sigmoid(logits)", "targets"))

    known, positive, flagged = ~np.isnan(truth), truth == 1, predict(scores, 0.5)
    both = np.flatnonzero(positive.any(axis=0) & (truth == 0).any(axis=0))
    pairs = [(positive[known[:, i], i], scores[known[:, i], i], flagged[known[:, i], i]) for i in both]
    if not len(both):
        logger.warning("No label has both classes among %d examples: macro averages are 0.", len(scores))
    return {
        "macro_roc_auc": _mean([roc_auc_score(true, scored) for true, scored, _ in pairs]) or 0.0,
        "macro_average_precision": _mean([average_precision_score(true, scored) for true, scored, _ in pairs]) or 0.0,
        "macro_f1_at_half": _mean([_measure_decisions(decided, true).f1 for true, _, decided in pairs]) or 0.0,
        "micro_f1_at_half": _measure_decisions(flagged[known], positive[known]).f1 or 0.0,
        "n_labels_measured": float(len(both)),
    }


def format_table(metrics: SplitMetrics) -> str:
    """Return the figures of a split as a table for the terminal."""
    header = ["label", "support", "ROC-AUC", "AP", "threshold", "precision", "recall", "F1", "95 % interval"]
    rows = [[*header, "F1 at 0.5", "Brier", "ECE"]]
    for label, one in metrics.labels.items():
        ranking = [number(one.roc_auc, 4), number(one.average_precision), number(one.threshold, 4)]
        errors = [number(one.brier, 4), number(one.ece, 4)]
        more = [interval(one.intervals.f1), number(one.at_half.f1), *errors]
        rows.append([label, f"{one.support:,}", *ranking, *_cells(one.at_threshold), *more])
    macro = metrics.macro
    ranking = [number(macro.roc_auc, 4), number(macro.average_precision), ""]
    more = [interval(metrics.macro_intervals.f1), number(macro.f1_at_half), number(macro.brier, 4), ""]
    rows.append(["macro", "", *ranking, *_cells(macro), *more])
    rows.append(["micro", "", "", "", "", *_cells(metrics.micro), "", "", "", ""])
    return "\n".join([align(rows), *_footnotes(metrics)])


def _cells(decided: Decisions | MacroAverages | MicroAverages) -> list[str]:
    return [number(decided.precision), number(decided.recall), number(decided.f1)]


def _footnotes(metrics: SplitMetrics) -> list[str]:
    n_labels = len(metrics.labels)
    partial = [f"{name} ({count})" for name, count in asdict(metrics.macro_defined).items() if count < n_labels]
    lines = [
        f"{metrics.n_examples:,} examples, {metrics.flagged_any:,} flagged, "
        f"{metrics.positive_any:,} positive; all labels right in {metrics.subset_accuracy:.1%}"
    ]
    if partial:
        lines.append(f"n/a: undefined in this split. Macro over fewer than {n_labels} labels: {', '.join(partial)}")
    return lines


def _measure_label(
    scores: FloatArray,
    positive: BoolArray,
    threshold: float,
    at_threshold: Decisions,
    at_half: Decisions,
    drawn: FloatValues,
) -> LabelMetrics:
    """The figures of one label; `drawn` is `(bootstrap, 3)`, its resamples."""
    support = int(positive.sum())
    both = 0 < support < len(scores)
    roc_auc = float(roc_auc_score(positive, scores)) if both else None
    average_precision = float(average_precision_score(positive, scores)) if both else None
    errors = measure_calibration(scores, positive)
    point = (roc_auc, average_precision, at_threshold.f1)
    return LabelMetrics(
        support=support,
        prevalence=support / len(scores),
        roc_auc=roc_auc,
        average_precision=average_precision,
        brier=errors.brier,
        log_loss=errors.log_loss,
        ece=errors.ece,
        threshold=threshold,
        at_threshold=at_threshold,
        at_half=at_half,
        intervals=Intervals(
            *(percentile_interval(drawn[:, m]) if value is not None else None for m, value in enumerate(point))
        ),
    )


def _measure_decisions(flagged: BoolArray, positive: BoolArray) -> Decisions:
    n_true, n_flagged, n_positives = int((flagged & positive).sum()), int(flagged.sum()), int(positive.sum())
    return Decisions(
        precision=float(ratio(n_true, n_flagged)) if n_flagged else None,
        recall=float(ratio(n_true, n_positives)) if n_positives else None,
        f1=float(fbeta(n_true, n_flagged, n_positives)) if n_positives else None,
        flagged=n_flagged,
    )


def _average(rows: Sequence[LabelMetrics]) -> tuple[MacroAverages, MacroCounts]:
    """Return macro averages over the labels for which a figure is defined, and how many these are."""
    columns: dict[str, list[float | None]] = {
        "roc_auc": [row.roc_auc for row in rows],
        "average_precision": [row.average_precision for row in rows],
        "precision": [row.at_threshold.precision for row in rows],
        "recall": [row.at_threshold.recall for row in rows],
        "f1": [row.at_threshold.f1 for row in rows],
        "f1_at_half": [row.at_half.f1 for row in rows],
    }
    macro = MacroAverages(
        **{name: _mean(values) for name, values in columns.items()},
        brier=_mean([row.brier for row in rows]),
        ece_worst=max(row.ece for row in rows),
    )
    return macro, MacroCounts(**{name: sum(value is not None for value in values) for name, values in columns.items()})


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _macro_intervals(drawn: FloatValues, rows: Sequence[LabelMetrics]) -> Intervals:
    """Intervals of the macro averages; a resample in which one of the averaged labels is undefined is left out."""
    points = [(row.roc_auc, row.average_precision, row.at_threshold.f1) for row in rows]
    intervals = []
    for m in range(len(MEASURES)):
        defined = [i for i, point in enumerate(points) if point[m] is not None]
        intervals.append(percentile_interval(drawn[:, defined, m].mean(axis=1)) if defined else None)
    return Intervals(*intervals)
