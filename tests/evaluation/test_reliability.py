import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.evaluation.reliability import N_BINS, expected_calibration_error, reliability_bins, wilson_interval


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=60))
def test_calibration_error_is_the_gap_per_bin(examples: list[tuple[float, bool]]) -> None:
    scores = np.array([score for score, _ in examples], dtype=np.float32)
    positive = np.array([flag for _, flag in examples])
    bins = reliability_bins(scores, positive)
    of_example = np.minimum((scores.astype(float) * N_BINS).astype(int), N_BINS - 1)
    gap = sum(abs((scores - positive)[of_example == k].sum(dtype=float)) for k in range(N_BINS)) / len(scores)
    assert bins.count.sum() == len(scores)
    assert gap == pytest.approx(expected_calibration_error(scores, positive), abs=1e-6)
    assert (bins.low <= bins.share).all() and (bins.share <= bins.high).all()


def test_calibration_error_agrees_with_a_manual_computation():
    scores = np.float32([0.0, 0.02, 0.9, 0.92, 0.96, 1.0])  # bins 0, 0, 13, 13, 14, 14 of 15
    positive = np.array([0, 1, 1, 0, 1, 0])
    expected = (abs(0.02 - 1) + abs(1.82 - 1) + abs(1.96 - 1)) / 6
    assert expected_calibration_error(scores, positive) == pytest.approx(expected)


def test_calibrated_probabilities_have_little_error_and_skewed_ones_much():
    rng = np.random.default_rng(0)
    scores = rng.random(40_000).astype(np.float32)
    positive = rng.random(40_000) < scores
    assert expected_calibration_error(scores, positive) < 0.01
    assert expected_calibration_error(scores**2, positive) > 0.1


def test_the_ends_are_in_the_outer_bins() -> None:
    bins = reliability_bins(np.float32([0.0, 1.0]), np.array([False, True]), n_bins=4)
    assert bins.position.tolist() == [0, 3]


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],  # Newcombe 1998, table I, method 3
)
def test_wilson_interval_gives_published_numbers(successes: int, n: int, low: float, high: float) -> None:
    found = wilson_interval(successes, n)
    assert found == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
