"""The two rules, at their edges, and how much the scorer holds."""

import numpy as np

from moderation.suites.scorer import any_flagged, main_label


def test_a_probability_at_the_threshold_is_flagged() -> None:
    thresholds = np.array([0.1, 0.9], dtype=np.float32)
    rows = np.array([[0.1, 0.0], [0.0, 0.9], [0.09, 0.89]], dtype=np.float32)
    assert any_flagged(rows, thresholds).tolist() == [True, True, False]


def test_the_main_label_is_found_by_its_name() -> None:
    assert main_label(("a", "toxic", "insult")) == 1
    assert main_label(("a", "toxic", "insult"), "insult") == 2
    assert main_label(("a", "toxic"), "is_toxic") == 1
    assert main_label(("a", "b")) == 0


def test_a_very_long_text_is_left_to_the_classifier_which_holds_some_windows_at_a_time(scorer, model) -> None:
    texts, cut, alone = ["fool", "rotten " * 50_000, "kind"], model.windows, []
    expected = model.probabilities(texts).tolist()

    def probabilities(texts: list[str]) -> np.ndarray:
        alone.append(len(texts))
        return model.window_probabilities([window for text in texts for window in cut(text)])

    model.probabilities, model.windows = probabilities, lambda text: cut(text) if len(text) < 9 else 1 / 0
    assert scorer.read(texts, "Texts").tolist() == expected
    assert alone == [1]
