"""Logits, probabilities, targets and the one comparison."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from moderation.errors import DataError
from moderation.evaluation.cuts import find_cuts, sort_by_probability, threshold_between
from moderation.evaluation.probabilities import check_pair, check_probabilities, check_targets, predict, sigmoid

probability = st.floats(0, 1, width=32)


def test_sigmoid_agrees_with_scipy_and_never_warns():
    logits = np.array([-1e4, -90.0, -30.0, -0.0, 0.0, 1e-3, 30.0, 1e4, np.inf, -np.inf])
    assert sigmoid(logits).dtype == np.float32
    np.testing.assert_array_equal(sigmoid(logits), expit(logits).astype(np.float32))


def test_sigmoid_keeps_small_probabilities_apart():
    low, high = sigmoid(np.float32([-40.0, -39.0]))
    assert 0 < low < high


@settings(max_examples=300)
@given(probability, probability)
def test_a_threshold_between_two_scores_separates_them_also_after_json(a, b):
    if a == b:
        return
    low, high = np.float32(min(a, b)), np.float32(max(a, b))
    threshold = threshold_between(float(low), float(high))
    from_json = json.loads(json.dumps(threshold))
    for cut in (threshold, from_json, np.float32(threshold), np.float64(from_json)):
        assert predict([[low], [high]], [cut]).tolist() == [[False], [True]]


def test_neighbours_in_float32_are_separated():
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))
    assert predict([[low], [high]], [threshold_between(float(low), float(high))]).tolist() == [[False], [True]]


def test_predict_compares_in_float32():
    assert predict(np.float32([[0.1]]), np.array([0.1])).tolist() == [[True]]
    assert predict(np.array([[0.1]]), np.float32([0.1])).tolist() == [[True]]


def test_predict_accepts_one_text_and_one_threshold_for_all():
    assert predict([0.2, 0.9], [0.1, 0.95]).tolist() == [True, False]
    assert predict([[0.2, 0.9]], 0.5).tolist() == [[False, True]]


@pytest.mark.parametrize("thresholds", [[0.5], [0.5] * 3, [[0.5, 0.5]] * 4, [0.5, np.nan], [0.5, None]])
def test_predict_refuses_thresholds_that_do_not_fit(thresholds):
    with pytest.raises(DataError, match="thresholds"):
        predict([[0.1, 0.2]], thresholds)


def test_logits_are_named_with_the_cure():
    array = np.full((9, 2), 0.5)
    array[[1, 4], 0] = [-2.5, 3.0]
    with pytest.raises(DataError, match=r"preds\.npy: 2 values are outside \[0, 1\] \(rows from 0: 1, 4\).*sigmoid"):
        check_probabilities(array, "preds.npy")


def test_nan_is_counted_with_the_first_rows():
    array = np.full((20, 2), 0.5)
    array[3:10, 1] = np.nan
    with pytest.raises(DataError, match=r"7 values are NaN or infinite \(rows from 0: 3, 4, 5, 6, 7, …\)"):
        check_probabilities(array, "preds.npy")


@pytest.mark.parametrize("array", [[0.5], np.zeros((0, 2)), np.zeros((2, 0)), np.zeros((1, 1, 1)), [["a"]], [[1e300]]])
def test_anything_but_a_table_of_numbers_is_refused(array):
    with pytest.raises(DataError, match=r"x\.npy"):
        check_probabilities(array, "x.npy")


def test_a_message_never_quotes_a_cell():
    with pytest.raises(DataError) as caught:
        check_targets([["somebody's words"]], "x.npy")
    assert "somebody" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("kind", [bool, int, np.int8, np.float32, np.float64])
def test_targets_of_any_numeric_type_become_float32(kind):
    targets = check_targets(np.array([[0, 1]]).astype(kind), "y")
    assert targets.dtype == np.float32
    assert targets.tolist() == [[0.0, 1.0]]


def test_fractions_are_not_targets():
    with pytest.raises(DataError, match="1 value is neither 0 nor 1"):
        check_targets([[0.5, 1.0]], "y")


def test_shapes_that_differ_are_both_named():
    with pytest.raises(DataError, match=r"a\.npy \(3, 2\), b\.npy \(2, 2\)"):
        check_pair(np.zeros((3, 2)), np.zeros((2, 2)), 2, ("a.npy", "b.npy"))
    with pytest.raises(DataError, match="2 columns for 3 labels"):
        check_pair(np.zeros((3, 2)), np.zeros((3, 2)), 3)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from([-0.0, 0.0, 1e-45, 0.25, 0.5, 1.0]) | probability, st.booleans()), min_size=1)
)
def test_sorting_and_cuts_count_as_predict_does(pairs):
    scores = np.array([p for p, _ in pairs], np.float32)
    positive = np.array([t for _, t in pairs])
    ordered, ordered_positive = sort_by_probability(scores, positive.astype(np.float32))
    assert list(zip(ordered.tolist(), ordered_positive.tolist(), strict=True)) == sorted(
        (abs(float(s)), bool(t)) for s, t in zip(scores, positive, strict=True)
    )
    cuts = find_cuts(ordered, ordered_positive)
    assert cuts.upper.tolist() == sorted(set(np.abs(scores).tolist()))
    for k in range(len(cuts.upper)):
        flagged = predict(scores, threshold_between(float(cuts.lower[k]), float(cuts.upper[k])))
        assert cuts.n_flagged[k] == flagged.sum()
        assert cuts.n_true_positives[k] == (flagged & positive).sum()
