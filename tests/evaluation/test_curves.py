"""Curves count exactly, reach from everything to nothing, and leave no wide gap."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve, precision_score, recall_score

from moderation.errors import ConfigError, DataError
from moderation.evaluation.curves import decision_curves
from moderation.evaluation.probabilities import predict

# few distinct values and close neighbours, so that ties, 0, 1 and cuts of one float32 step are common
near = [np.float32(0.3), np.nextafter(np.float32(0.3), np.float32(1))]
score = st.sampled_from([0.0, 0.125, 0.5, 1.0, *map(float, near)]) | st.floats(0, 1, width=32)
rows = st.lists(st.tuples(score, st.integers(0, 1)), min_size=1, max_size=60)


def as_columns(rows):
    return np.array([[s] for s, _ in rows], np.float32), np.array([[t] for _, t in rows])


@settings(max_examples=150, deadline=None)
@given(rows=rows, n_points=st.integers(2, 80), tuned=st.floats(0, 1, width=32))
@example(rows=[(0.0, 1)], n_points=2, tuned=0.0)
@example(rows=[(1.0, 0), (1.0, 1)], n_points=2, tuned=1.0)
@example(rows=[(float(near[0]), 1), (float(near[1]), 0)], n_points=9, tuned=0.5)
def test_every_point_is_what_scikit_learn_counts(rows, n_points, tuned):
    scores, targets = as_columns(rows)
    curve = decision_curves(scores, targets, ["toxic"], n_points, thresholds=[tuned])["toxic"]
    assert curve.n_positives == targets.sum()
    assert curve.threshold == sorted(set(curve.threshold))
    assert {0.0, 1.0, tuned} <= set(curve.threshold)
    assert len(curve.threshold) <= n_points + 3
    for threshold, *found in zip(curve.threshold, curve.precision, curve.recall, curve.flagged, strict=True):
        decided = predict(scores, threshold)[:, 0]
        precision = precision_score(targets[:, 0], decided, zero_division=np.nan)
        recall = recall_score(targets[:, 0], decided, zero_division=np.nan)
        expected = [None if np.isnan(value) else pytest.approx(value) for value in (precision, recall)]
        assert found == [*expected, pytest.approx(decided.mean())]


@settings(max_examples=60, deadline=None)
@given(rows=rows.filter(lambda rows: any(target for _, target in rows)))
def test_with_enough_points_it_is_the_whole_curve(rows):
    scores, targets = as_columns(rows)
    curve = decision_curves(scores, targets, ["toxic"])["toxic"]
    precision, recall, _ = precision_recall_curve(targets[:, 0], scores[:, 0])
    expected = {(round(p, 9), round(r, 9)) for p, r in zip(precision[:-1], recall[:-1], strict=True)}
    pairs = zip(curve.precision, curve.recall, strict=True)
    assert {(round(p, 9), round(r, 9)) for p, r in pairs if p is not None} == expected


def test_a_hundred_points_leave_no_wide_gap_and_are_short_numbers():
    rng = np.random.default_rng(3)
    names = ["toxic", "threat"]
    targets = rng.random((20_000, 2)) < (0.1, 0.003)
    probabilities = (1 / (1 + np.exp(4 - 6 * targets + rng.normal(0, 2, targets.shape)))).astype(np.float32)
    curves = decision_curves(probabilities, targets, names)
    assert list(curves) == names
    for curve in curves.values():
        assert 60 <= len(curve.threshold) <= 102
        found = np.array(curve.recall) * curve.n_positives
        assert -np.diff(found).min() <= 1.5 + 0.021 * curve.n_positives
        flagged = np.array(curve.flagged[:-1]) * 20_000
        assert (flagged[:-1] - flagged[1:] <= 1 + 0.2 * flagged[:-1]).all()
        assert np.median([len(f"{threshold!r}") for threshold in curve.threshold]) <= 8


def test_a_label_without_positives_has_no_recall():
    curve = decision_curves([[0.2], [0.7]], [[0], [0]], ["toxic"])["toxic"]
    assert curve.recall == [None] * len(curve.threshold)
    assert curve.precision == [0.0, 0.0, None]


def test_curves_that_cannot_be_counted_are_refused():
    with pytest.raises(DataError, match="logits"):
        decision_curves([[3.0]], [[1]], ["toxic"])
    with pytest.raises(DataError, match="columns"):
        decision_curves([[0.3]], [[1]], ["toxic", "threat"])
    with pytest.raises(ConfigError, match="n_points"):
        decision_curves([[0.3]], [[1]], ["toxic"], 1)
    with pytest.raises(ConfigError, match="one threshold per label"):
        decision_curves([[0.3]], [[1]], ["toxic"], thresholds=[0.1, 0.2])
