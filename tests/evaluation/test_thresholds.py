"""Tuning is exact, honest about itself, and survives a round trip through its file."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, fbeta_score, precision_score, recall_score

from moderation.errors import ArtifactError, ConfigError, DataError
from moderation.evaluation.objectives import parse_objective
from moderation.evaluation.probabilities import predict
from moderation.evaluation.thresholds import (
    DEFAULT_THRESHOLD,
    TunedThresholds,
    format_thresholds,
    load_thresholds,
    read_thresholds,
    save_thresholds,
    threshold_array,
    tune_thresholds,
)
from moderation.labels import JIGSAW_LABELS

OBJECTIVES = ("f1", "fbeta:0.5", "fbeta:2", "precision>=0.9", "precision>=0.5", "recall>=0.9", "recall>=0.3")

# few distinct values, so that ties, 0 and 1 are common
score = st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1, width=32)
pairs = st.lists(st.tuples(score, st.integers(0, 1)), min_size=1, max_size=40).filter(lambda p: any(t for _, t in p))


def as_columns(rows):
    return np.array([[s] for s, _ in rows], np.float32), np.array([[t] for _, t in rows])


def tune_one(scores, targets, **settings):
    return tune_thresholds(scores, targets, ["toxic"], **{"min_positives": 1, "bootstrap": 0, "folds": 0} | settings)[
        "toxic"
    ]


def synthetic(n=3000, prevalence=(0.1, 0.02), seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.random((n, len(prevalence))) < np.array(prevalence)
    logits = rng.normal(-2 + 2.5 * targets, 1.2)
    return (1 / (1 + np.exp(-logits))).astype(np.float32), targets


def measure(objective, truth, decided):
    """(constraint met, what is maximised), by scikit-learn, for every objective that the tests use."""
    kind, _, n = objective.replace(">=", ":").partition(":")
    precision = precision_score(truth, decided, zero_division=0.0)
    recall = recall_score(truth, decided, zero_division=0.0)
    if kind == "precision":
        return precision >= float(n), recall
    if kind == "recall":
        return recall >= float(n), precision
    return True, fbeta_score(truth, decided, beta=float(n or 1), zero_division=0.0)


@pytest.mark.parametrize("objective", OBJECTIVES)
@settings(max_examples=30, deadline=None)
@given(rows=pairs)
@example(rows=[(0.5, 1), (0.5, 0), (0.5, 1)])
@example(rows=[(0.0, 1), (1.0, 0)])
@example(rows=[(0.0, 0), (1.0, 1)])
@example(rows=[(1.0, 1)])
@example(rows=[(0.0, 1)])
def test_no_cut_beats_the_tuned_one(objective, rows):
    scores, targets = as_columns(rows)
    truth = targets[:, 0]
    result = tune_one(scores, targets, objective=objective)

    # every distinct cut, and flagging nothing
    cuts = [*np.unique(scores), np.float32(2)]
    decisions = [scores[:, 0] >= cut for cut in cuts]
    every = [measure(objective, truth, decided) for decided in decisions]
    met, value = measure(objective, truth, predict(scores, [result.threshold])[:, 0])
    assert result.constraint_met == met == any(met for met, _ in every)
    assert result.value == pytest.approx(value)
    if met:
        assert value >= max(value for met, value in every if met) - 1e-12
    else:
        best = max((precision_score(truth, d, zero_division=0.0), recall_score(truth, d)) for d in decisions)
        assert (result.precision, result.recall) == pytest.approx(best)


@settings(max_examples=100, deadline=None)
@given(rows=pairs)
def test_predictions_at_the_threshold_reproduce_every_number(rows):
    scores, targets = as_columns(rows)
    result = tune_one(scores, targets)
    decided, truth = predict(scores, [result.threshold])[:, 0], targets[:, 0]
    assert result.f1 == result.value == pytest.approx(f1_score(truth, decided))
    assert result.precision == pytest.approx(precision_score(truth, decided))
    assert result.recall == pytest.approx(recall_score(truth, decided))
    assert (result.n_positives, result.n_examples) == (truth.sum(), len(truth))
    assert float(np.float32(result.threshold)) == result.threshold
    assert 0 <= result.threshold <= 1


@settings(max_examples=60, deadline=None)
@given(rows=pairs, random=st.randoms(use_true_random=False), objective=st.sampled_from(OBJECTIVES))
def test_the_order_of_the_rows_does_not_matter(rows, random, objective):
    shuffled = random.sample(rows, len(rows))
    wanted = {"objective": objective, "bootstrap": 50, "folds": 3}
    assert tune_one(*as_columns(rows), **wanted) == tune_one(*as_columns(shuffled), **wanted)


def test_the_threshold_lies_midway_between_two_scores():
    result = tune_one([[0.125], [0.25], [0.75], [1.0]], [[0], [0], [1], [1]])
    assert (result.threshold, result.value) == (0.5, 1.0)


def test_equal_values_go_to_the_wider_gap_then_to_the_lower_threshold():
    # flagging all four, or the top one alone, has an F1 of 2/3
    wide_high = tune_one([[0.1], [0.2], [0.3], [0.8]], [[1], [0], [0], [1]])
    assert wide_high.threshold == pytest.approx(0.55)
    even = tune_one([[0.25], [0.375], [0.4375], [0.6875]], [[1], [0], [0], [1]])  # gaps 0.25 and 0.25
    assert even.threshold == 0.125


def test_equal_recall_goes_to_the_higher_precision_whatever_the_gap():
    result = tune_one([[0.9], [0.8], [0.1]], [[1], [0], [0]], objective="precision>=0.5")  # 1/1 and 1/2 of the flagged
    assert (result.precision, result.recall) == (1.0, 1.0)
    assert result.threshold == pytest.approx(0.85)


def test_out_of_reach_equal_precision_goes_to_the_higher_recall_whatever_the_gap():
    scores, targets = [[0.95], [0.9], [0.3], [0.25], [0.2]], [[0], [1], [0], [1], [0]]  # 1/2 and 2/4 of the flagged
    result = tune_one(scores, targets, objective="precision>=0.9")
    assert (result.precision, result.recall) == (0.5, 1.0)


def test_a_precision_out_of_reach_takes_the_highest_one_and_reports_it(caplog):
    scores, targets = [[0.9], [0.8], [0.7], [0.6], [0.1]], [[0], [1], [1], [0], [1]]
    with caplog.at_level(logging.WARNING):
        result = tune_one(scores, targets, objective="precision>=0.95")
    assert not result.constraint_met
    assert result.precision == pytest.approx(2 / 3)
    assert result.value == result.recall == pytest.approx(2 / 3)
    assert "toxic" in caplog.text


def test_rare_labels_keep_a_half_and_are_named_in_one_line(caplog):
    scores, targets = synthetic()
    targets[:, 1] = False
    targets[:9, 1] = True
    with caplog.at_level(logging.WARNING):
        results = tune_thresholds(scores, targets, ["toxic", "threat"], bootstrap=10)
    rare = results["threat"]
    assert (rare.threshold, rare.tuned, rare.interval, rare.cross_fitted) == (DEFAULT_THRESHOLD, False, None, None)
    assert results["toxic"].tuned
    assert len(caplog.records) == 1
    assert "threat (9)" in caplog.text
    assert "toxic" not in caplog.text


def test_a_label_without_positives_has_no_value_and_does_not_crash():
    result = tune_one([[0.2], [0.3]], [[0], [0]])
    assert (result.threshold, result.tuned) == (DEFAULT_THRESHOLD, False)
    assert (result.value, result.precision, result.recall, result.f1) == (None,) * 4


def test_no_positives_at_all_are_never_tuned_on(caplog):
    assert not tune_one([[0.2], [0.3]], [[0], [0]], min_positives=0).tuned
    assert "Fewer than 1 positives" in caplog.text


def test_a_label_that_is_always_positive_flags_everything():
    result = tune_one([[0.0], [0.3]], [[1], [1]])
    assert (result.threshold, result.value) == (0.0, 1.0)


def test_the_interval_covers_the_value_and_is_that_of_a_plain_bootstrap():
    scores, targets = synthetic(n=2000)
    result = tune_thresholds(scores, targets, ["a", "b"], bootstrap=4000)["a"]
    decided, truth = predict(scores[:, 0], result.threshold), targets[:, 0]
    rng = np.random.default_rng(1)
    plain = [f1_score(truth[rows], decided[rows]) for rows in rng.integers(2000, size=(600, 2000))]
    assert result.interval[0] < result.value < result.interval[1]
    np.testing.assert_allclose(result.interval, np.percentile(plain, [2.5, 97.5]), atol=0.015)


def test_the_cross_fitted_value_distinguishes_noise_from_signal():
    rng = np.random.default_rng(3)
    scores, targets = rng.random((400, 1)).astype(np.float32), rng.random((400, 1)) < 0.05
    noise = tune_one(scores, targets, folds=5)
    assert noise.cross_fitted < noise.value
    scores, targets = synthetic(n=20_000)
    signal = tune_thresholds(scores, targets, ["a", "b"], bootstrap=0)["a"]
    fresh_scores, fresh_targets = synthetic(n=20_000, seed=9)
    fresh = f1_score(fresh_targets[:, 0], predict(fresh_scores[:, 0], signal.threshold))
    assert signal.cross_fitted == pytest.approx(fresh, abs=0.03)


def test_cross_fitting_under_a_constraint_reports_how_well_it_holds():
    scores, targets = synthetic(n=20_000)
    result = tune_thresholds(scores, targets, ["a", "b"], objective="precision>=0.8", bootstrap=0)["a"]
    assert result.precision >= 0.8
    assert result.cross_fitted_constraint == pytest.approx(0.8, abs=0.05)
    assert tune_one(scores[:, :1], targets[:, :1]).cross_fitted_constraint is None


def test_the_same_seed_gives_the_same_result_and_labels_are_independent():
    scores, targets = synthetic()
    both = tune_thresholds(scores, targets, ["a", "b"], bootstrap=100)
    assert both == tune_thresholds(scores, targets, ["a", "b"], bootstrap=100)
    assert both["a"] == tune_thresholds(scores[:, :1], targets[:, :1], ["a"], bootstrap=100)["a"]
    other = tune_thresholds(scores, targets, ["a", "b"], bootstrap=100, seed=1)
    assert both["b"].interval != other["b"].interval
    assert both["b"].cross_fitted != other["b"].cross_fitted
    assert both["b"].threshold == other["b"].threshold


@pytest.mark.parametrize(
    "text", ["", "F1", "f2", "fbeta", "fbeta:0", "fbeta:-1", "fbeta:inf", "fbeta:1e", "precision>=0", "precision>=1.1",
             "precision>0.9", "recall>=x", "recall>=nan", "accuracy>=0.9", "fbeta:1.2.3", "precision>=90"],
)  # fmt: skip
def test_other_objectives_are_refused(text):
    with pytest.raises(ConfigError, match="expected f1, fbeta:B"):
        parse_objective(text)


def test_spaces_in_an_objective_do_no_harm():
    assert parse_objective(" precision >= 0.9 ") == parse_objective("precision>=.9")
    assert parse_objective("f1") == parse_objective("fbeta:1")


def test_wrong_arrays_and_labels_are_refused():
    with pytest.raises(DataError, match="NaN"):
        tune_thresholds([[np.nan]], [[1]], ["toxic"])
    with pytest.raises(DataError, match="logits"):
        tune_thresholds([[3.5]], [[1]], ["toxic"])
    with pytest.raises(DataError, match="Shapes differ"):
        tune_thresholds([[0.5]], [[1], [0]], ["toxic"])
    with pytest.raises(DataError, match="1 columns for 2 labels"):
        tune_thresholds([[0.5]], [[1]], ["toxic", "threat"])
    with pytest.raises(ConfigError, match="more than once"):
        tune_thresholds([[0.5, 0.5]], [[1, 0]], ["toxic", "toxic"])
    with pytest.raises(ConfigError, match="folds"):
        tune_thresholds([[0.5]], [[1]], ["toxic"], folds=1)


@pytest.fixture
def saved(tmp_path):
    scores, targets = synthetic(prevalence=(0.1, 0.001))
    results = tune_thresholds(scores, targets, ["toxic", "threat"], bootstrap=50)
    path = tmp_path / "thresholds.json"
    save_thresholds(path, results, ["toxic", "threat"], {"split": "val"})
    return path, results, scores


def test_a_file_gives_back_what_was_saved(saved):
    path, results, scores = saved
    labels = ("toxic", "threat")
    assert read_thresholds(path) == TunedThresholds(labels, results, {"split": "val"})
    thresholds = load_thresholds(path, ["toxic", "threat"])
    assert thresholds.dtype == np.float32
    np.testing.assert_array_equal(thresholds, threshold_array(results, labels))
    np.testing.assert_array_equal(predict(scores, thresholds), predict(scores, [r.threshold for r in results.values()]))


def test_the_file_holds_labels_in_order_and_a_version(saved):
    content = json.loads(saved[0].read_text())
    assert (content["format"], content["version"]) == ("content-moderation thresholds", 1)
    assert content["labels"] == list(content["thresholds"]) == ["toxic", "threat"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "format version 2, expected 1"),
        ({"version": None}, "format version None"),
        ({"format": "something else"}, "not in the format 'content-moderation thresholds'"),
        ({"labels": ["toxic", "insult"]}, "expected one threshold for each label"),
        ({"labels": []}, "Labels: expected"),
        ({"thresholds": None}, "thresholds is not an object"),
        ({"thresholds": {"toxic": {}, "threat": {}}}, "thresholds.toxic.threshold is missing"),
        ({"about": None}, "about is not an object"),
    ],
)
def test_foreign_and_broken_files_are_refused(saved, change, message):
    path = saved[0]
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactError, match=message):
        load_thresholds(path)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, "0.5", None, True])
def test_thresholds_outside_their_range_are_refused(saved, threshold):
    path = saved[0]
    content = json.loads(path.read_text())
    content["thresholds"]["toxic"]["threshold"] = threshold
    path.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=r"thresholds\.toxic.*threshold is .*tune again"):
        load_thresholds(path)


def test_thresholds_for_other_labels_are_refused(saved, tmp_path):
    path, results, _ = saved
    with pytest.raises(ArtifactError, match="another order"):
        load_thresholds(path, ["threat", "toxic"])
    with pytest.raises(ArtifactError, match="made for other labels"):
        load_thresholds(path, JIGSAW_LABELS)
    with pytest.raises(ArtifactError, match="made for other labels"):
        save_thresholds(tmp_path / "other.json", results, JIGSAW_LABELS, {})
    with pytest.raises(ArtifactError, match="no such file"):
        load_thresholds(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("tuned_on", "used_with", "message"),
    [
        (True, False, "tuned on calibrated .* uncalibrated ones"),
        (False, True, "tuned on uncalibrated .* calibrated ones"),
    ],
)
def test_thresholds_for_probabilities_of_another_kind_are_refused(saved, tuned_on, used_with, message):
    path, results, _ = saved
    save_thresholds(path, results, ["toxic", "threat"], {"calibrated": tuned_on})
    with pytest.raises(ArtifactError, match=message):
        load_thresholds(path, calibrated=used_with)
    for fits in (tuned_on, None):
        assert len(load_thresholds(path, calibrated=fits)) == 2
    save_thresholds(path, results, ["toxic", "threat"], {"calibrated": None})
    assert len(load_thresholds(path, calibrated=used_with)) == 2


def test_the_table_marks_what_was_not_tuned_and_what_is_out_of_reach(saved):
    _, results, _ = saved
    assert "threat *" in format_thresholds(results)
    table = format_thresholds({"toxic": replace(results["toxic"], constraint_met=False)})
    assert "toxic !" in table
    assert "*" not in table
