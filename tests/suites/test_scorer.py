"""The two rules, at their edges."""

import numpy as np

from moderation.suites.scorer import any_flagged, main_label


def test_a_probability_at_the_threshold_is_flagged() -> None:
    thresholds = np.array([0.1, 0.9], dtype=np.float32)
    rows = np.array([[0.1, 0.0], [0.0, 0.9], [0.09, 0.89]], dtype=np.float32)
    assert any_flagged(rows, thresholds).tolist() == [True, True, False]


def test_the_label_that_ranks() -> None:
    assert main_label(("a", "toxic", "insult")) == 1
    assert main_label(("a", "toxic", "insult"), "insult") == 2
    assert main_label(("a", "toxic"), "is_toxic") == 1
    assert main_label(("a", "b")) == 0
