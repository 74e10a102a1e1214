"""Thresholds in place of old ones: the law of monotone scores, exactness, intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.evaluation.probabilities import predict
from moderation.migration.matching import compare, match_agreement, match_rate

values = st.lists(st.integers(0, 20).map(lambda n: n / 20), min_size=2, max_size=40)


def draw(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).beta(0.4, 4, size=n).astype(np.float32)


@pytest.mark.parametrize(
    "relation", [np.sqrt, np.square, lambda p: 0.1 + 0.8 * p, lambda p: np.log1p(9 * p) / np.log(10)]
)
def test_a_rising_relation_is_found_again(relation) -> None:
    probabilities = draw(5000)
    truth = 0.37
    old = relation(probabilities.astype(float)) >= relation(truth)
    for match in (match_rate(probabilities, old), match_agreement(probabilities, old)):
        assert match.interval is not None
        assert match.interval[0] <= truth <= match.interval[1]
        assert (match.agreement, match.kappa, match.n_newly_flagged, match.n_no_longer_flagged) == (1, 1, 0, 0)


@given(values, st.data())
@settings(max_examples=40, deadline=None)
def test_no_other_threshold_agrees_better_or_comes_nearer_to_the_rate(numbers, data) -> None:
    probabilities = np.array(numbers, dtype=np.float32)
    old = np.array(data.draw(st.lists(st.booleans(), min_size=len(numbers), max_size=len(numbers))))
    by_rate, by_agreement = match_rate(probabilities, old, samples=0), match_agreement(probabilities, old, samples=0)
    for threshold in [*np.unique(probabilities), 1.0]:
        new = predict(probabilities, float(threshold))
        assert abs(by_rate.n_flagged - old.sum()) <= abs(new.sum() - old.sum())
        assert (by_agreement.kappa or 0) >= (compare(new, old)[1] or 0) - 1e-12


@given(values, st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_comments_makes_no_difference(numbers, seed) -> None:
    probabilities = np.array(numbers, dtype=np.float32)
    old = np.arange(len(numbers)) % 3 == 0
    order = np.random.default_rng(seed).permutation(len(numbers))
    first, second = (match_agreement(probabilities[by], old[by], samples=5) for by in (np.arange(len(order)), order))
    assert first == second


def test_a_requested_share_is_flagged() -> None:
    probabilities = draw(2000)
    match = match_rate(probabilities, np.zeros(2000, dtype=bool), share=0.05)
    assert match.n_flagged == 100
    assert match.interval is not None
    assert match.interval[0] < match.threshold < match.interval[1]


def test_the_best_agreement_is_not_to_flag_nothing() -> None:
    """Among rare flags and a weak relation, plain agreement would be highest without any flag."""
    rng = np.random.default_rng(3)
    probabilities = draw(4000)
    old = rng.random(4000) < 0.02 + 0.2 * probabilities
    match = match_agreement(probabilities, old)
    assert match.n_flagged > 0
    assert match.agreement < 1 - old.mean()
    assert match.kappa is not None
    assert match.kappa > 0


def test_equal_probabilities_are_never_separated() -> None:
    probabilities = np.float32([0.5] * 8 + [0.9] * 2)
    old = np.arange(10) >= 7
    assert match_rate(probabilities, old, samples=0).n_flagged == 2
