"""A target of NaN counts in no figure: each figure is that of the examples for which the label is known."""

import numpy as np
import pytest

from moderation.errors import DataError
from moderation.evaluation.calibration import fit_calibrators
from moderation.evaluation.curves import decision_curves
from moderation.evaluation.metrics import compute_metrics, measure_split
from moderation.evaluation.probabilities import check_targets, sigmoid
from moderation.evaluation.resampling import Ranking
from moderation.evaluation.thresholds import tune_thresholds

LABELS = ("toxic", "threat")
RNG = np.random.default_rng(11)
LOGITS = RNG.normal(size=(400, 2))
TARGETS = (RNG.random((400, 2)) < sigmoid(2 * LOGITS - 1)).astype(np.float32)
UNKNOWN = RNG.random((400, 2)) < [0.3, 0.0]
PARTIAL = np.where(UNKNOWN, np.nan, TARGETS).astype(np.float32)
KNOWN = ~UNKNOWN[:, 0]


def test_the_figures_of_a_label_are_those_of_its_known_examples() -> None:
    partial = measure_split(sigmoid(LOGITS), PARTIAL, LABELS, 0.5, bootstrap=0)
    alone = measure_split(sigmoid(LOGITS[KNOWN]), TARGETS[KNOWN], LABELS, 0.5, bootstrap=0)
    whole = measure_split(sigmoid(LOGITS), TARGETS, LABELS, 0.5, bootstrap=0)
    assert partial.labels["toxic"].n_known == KNOWN.sum()
    for name in ("support", "prevalence", "roc_auc", "average_precision", "brier", "ece", "at_threshold"):
        assert getattr(partial.labels["toxic"], name) == getattr(alone.labels["toxic"], name)
        assert getattr(partial.labels["threat"], name) == getattr(whole.labels["threat"], name)
    assert whole.labels["toxic"].n_known is None
    assert partial.subset_accuracy > whole.subset_accuracy


def test_a_flag_on_an_unknown_label_counts_nowhere() -> None:
    whole = measure_split([[0.9, 0.1], [0.1, 0.9]], [[np.nan, 0], [0, 1]], LABELS, 0.5, bootstrap=0)
    assert (whole.flagged_any, whole.positive_any, whole.micro.precision) == (1, 1, 1.0)


def test_intervals_leave_unknown_targets_out() -> None:
    ranking = Ranking.of(sigmoid(LOGITS)[:, 0], PARTIAL[:, 0], sigmoid(LOGITS)[:, 0] >= 0.5)
    weights = RNG.integers(0, 3, 400)
    alone = Ranking.of(sigmoid(LOGITS[KNOWN])[:, 0], TARGETS[KNOWN, 0], sigmoid(LOGITS[KNOWN])[:, 0] >= 0.5)
    np.testing.assert_allclose(ranking.measure(weights), alone.measure(weights[KNOWN]))


def test_thresholds_calibrators_and_curves_are_those_of_the_known_examples() -> None:
    scores = sigmoid(LOGITS)
    tuned = tune_thresholds(scores, PARTIAL, LABELS, bootstrap=0)
    assert tuned["toxic"] == tune_thresholds(scores[KNOWN], TARGETS[KNOWN], LABELS, bootstrap=0)["toxic"]
    fitted, alone = fit_calibrators(LOGITS, PARTIAL, LABELS), fit_calibrators(LOGITS[KNOWN], TARGETS[KNOWN], LABELS)
    assert fitted["toxic"] == alone["toxic"]
    curves = decision_curves(scores, PARTIAL, LABELS)
    assert curves["toxic"] == decision_curves(scores[KNOWN], TARGETS[KNOWN], LABELS)["toxic"]


def test_the_metrics_of_a_training_leave_unknown_targets_out() -> None:
    alone = compute_metrics((LOGITS[KNOWN][:, :1], TARGETS[KNOWN][:, :1]))
    assert compute_metrics((LOGITS[:, :1], PARTIAL[:, :1])) == alone


def test_a_label_that_is_never_known_is_refused() -> None:
    nothing = PARTIAL.copy()
    nothing[:, 1] = np.nan
    with pytest.raises(DataError, match=r"only NaN in column 1 \(from 0\)"):
        check_targets(nothing, "targets")
