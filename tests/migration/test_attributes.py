"""Which attributes are matched, and what is said of the others."""

import numpy as np
import pytest

from moderation.errors import ConfigError, DataError
from moderation.migration.attributes import match_attributes
from moderation.migration.doubts import find_doubts, find_low
from moderation.migration.old_scores import OldScores
from moderation.migration.options import MatchOptions

PROBABILITIES = np.random.default_rng(0).random((200, 2)).astype(np.float32)
OPTIONS = MatchOptions(bootstrap=0)


def old(**scores: np.ndarray) -> OldScores:
    return OldScores(["text"] * 200, np.arange(1, 201), {name: np.asarray(one, float) for name, one in scores.items()})


def test_two_attributes_of_one_label_give_one_threshold(caplog) -> None:
    found = old(TOXICITY=PROBABILITIES[:, 0], INSULT=PROBABILITIES[:, 0] ** 2)
    (one,) = match_attributes(found, PROBABILITIES, ("a", "b"), {"TOXICITY": "a", "INSULT": "a"}, OPTIONS)
    assert one.name == "TOXICITY"
    assert "INSULT: has the same label as TOXICITY" in caplog.text


def test_an_attribute_that_flagged_all_or_nothing_is_left_out(caplog) -> None:
    found = old(TOXICITY=PROBABILITIES[:, 0], THREAT=np.zeros(200), INSULT=np.ones(200))
    labels = {"TOXICITY": "a", "THREAT": "b", "INSULT": "b"}
    (one,) = match_attributes(found, PROBABILITIES, ("a", "b"), labels, OPTIONS)
    assert one.name == "TOXICITY"
    assert "THREAT: the old threshold 0.8 flagged none of its 200 comments" in caplog.text
    assert "INSULT: the old threshold 0.8 flagged all of its 200 comments" in caplog.text
    with pytest.raises(DataError, match="No attribute could be matched"):
        match_attributes(old(THREAT=np.zeros(200)), PROBABILITIES, ("a", "b"), labels, OPTIONS)
    with pytest.raises(ConfigError, match="no old scores for SPAM"):
        match_attributes(found, PROBABILITIES, ("a", "b"), labels, MatchOptions(old_threshold=("0.8", "spam=0.5")))


def test_few_flags_and_poor_agreement_are_reported() -> None:
    shuffled = np.random.default_rng(1).permutation(PROBABILITIES[:, 0].astype(float))
    shuffled[:20] = np.nan
    found = old(TOXICITY=shuffled, INSULT=PROBABILITIES[:, 1])
    matched = match_attributes(found, PROBABILITIES, ("a", "b"), {"TOXICITY": "a", "INSULT": "b"}, OPTIONS)
    said = find_doubts(found, matched, {})
    assert any(one.startswith("TOXICITY: old and new decisions hardly agree") for one in said)
    assert any(one.startswith("TOXICITY: 20 of 200 comments have no old score") for one in said)
    assert not any(one.startswith("INSULT") for one in said)


def test_the_largest_change_comes_first() -> None:
    scores = PROBABILITIES[:, 0].astype(float)
    scores[[3, 8]] = 0.0, 0.79
    highest, lowest = PROBABILITIES[:, 0].argmax(), PROBABILITIES[:, 0].argmin()
    scores[[highest, lowest]] = 0.0, 1.0  # from one end to the other
    (one,) = match_attributes(old(TOXICITY=scores), PROBABILITIES, ("a", "b"), {"TOXICITY": "a"}, OPTIONS)
    assert {change.row - 1 for change in one.changes[:2]} == {highest, lowest}
    assert {change.flagged for change in one.changes[:2]} == {True, False}
    for change in one.changes:
        assert change.old_score == scores[change.row - 1]
        assert change.flagged == (change.probability >= np.float32(one.taken.threshold)) != (change.old_score >= 0.8)


CURVE = {"n_positives": 10, "threshold": [0.0, 0.2, 0.6], "precision": [0.1, 0.5, None], "flagged": [1.0, 0.2, 0.0]}


@pytest.mark.parametrize(("threshold", "share"), [(1e-9, "11%"), (0.2, "11%"), (0.21, None), (0.6, None), (0.9, None)])
def test_a_threshold_that_flags_a_tenth_of_harmless_comments_is_low(threshold, share) -> None:
    curves = {"split": "val", "n_examples": 100, "labels": {"toxic": CURVE}}
    said = find_low({"toxic": threshold, "unknown": threshold}, curves)
    assert [share in one for one in said] == [True] * (share is not None)


@pytest.mark.parametrize(
    "curves",
    [None, [], {}, {"labels": {"toxic": CURVE}}, {"n_examples": 10, "labels": {"toxic": CURVE}}]
    + [{"n_examples": 100, "labels": {"toxic": CURVE | {key: value}}} for key in CURVE for value in ("x", {}, None)],
)
def test_without_matching_curves_nothing_is_said_about_thresholds(curves) -> None:
    assert find_low({"toxic": 1e-9}, curves) == []
