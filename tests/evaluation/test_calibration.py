"""Fitting agrees with scikit-learn, keeps ranking, undoes what training shifted, and does nothing for nothing."""

import json
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss, roc_auc_score

from moderation.calibrators import METHODS, Calibrator
from moderation.errors import ArtifactError, ConfigError, DataError
from moderation.evaluation.calibration import (
    choose_method,
    fit_calibrator,
    fit_calibrators,
    held_out_losses,
    load_calibrators,
    save_calibration,
)
from moderation.evaluation.probabilities import calibrate, predict, sigmoid
from moderation.evaluation.reliability import compare_calibration, expected_calibration_error
from moderation.evaluation.thresholds import threshold_array, tune_thresholds

Values = npt.NDArray[np.float64]

SHIFTS = {
    "none": lambda truth: truth,
    "temperature": lambda truth: 2.0 * truth,
    "platt": lambda truth: 1.5 * truth + 2.5,  # as pos_weight and a sampler leave it
    "isotonic": lambda truth: (truth + 3) ** 3 / 6,
}


def draw(n: int, seed: int, shift: str = "none") -> tuple[Values, npt.NDArray[np.bool_]]:
    """Logits `(n,)` of a model whose calibration is off by a known map, and what happened."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-3, 2, n)
    return SHIFTS[shift](truth), rng.random(n) < sigmoid(truth)


def fit_one(logits: Values, positive: npt.NDArray[np.bool_], **options: int) -> Calibrator:
    return fit_calibrators(logits[:, None], positive[:, None], ["toxic"], **options)["toxic"].calibrator


class Raw(ClassifierMixin, BaseEstimator):
    """A classifier of scikit-learn's whose decision function is its only feature."""

    def fit(self, features, targets):
        self.classes_ = np.unique(targets)
        return self

    def decision_function(self, features):
        return features[:, 0]

    def predict(self, features):
        return (features[:, 0] > 0).astype(int)


def test_platt_agrees_with_scikit_learn() -> None:
    logits, positive = draw(3000, 0, "platt")
    raw = FrozenEstimator(Raw().fit(logits[:, None], positive))
    theirs = CalibratedClassifierCV(raw, method="sigmoid").fit(logits[:, None], positive)
    found = calibrate(logits[:, None], [fit_calibrator("platt", logits, positive)])
    np.testing.assert_allclose(found[:, 0], theirs.predict_proba(logits[:, None])[:, 1], atol=1e-4)


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_a_line_is_where_the_loss_has_no_slope(method: str) -> None:
    logits, positive = draw(3000, 0, "platt")
    n, n_positives = len(positive), positive.sum()
    smoothed = np.where(positive, (n_positives + 1) / (n_positives + 2), 1 / (n - n_positives + 2))
    calibrator = fit_calibrator(method, logits, positive)
    residual = 1 / (1 + np.exp(-calibrator.apply(logits))) - smoothed
    assert abs(residual @ logits) / n < 1e-6
    assert method == "temperature" or abs(residual.sum()) / n < 1e-6
    assert method == "platt" or calibrator.intercept == 0


def test_isotonic_agrees_with_a_manual_computation() -> None:
    logits, positive = np.array([4.0, -3.0, 1.0, 0.0]), np.array([True, False, False, True])
    steps = fit_calibrator("isotonic", logits, positive).knots  # {-3}: 0 of 1; {0, 1}: 1 of 2; {4}: 1 of 1
    middle = (0.5 + 1 / (1 + np.exp(-1))) / 2
    expected = [(-3, np.log(0.25 / 0.75)), (np.log(middle / (1 - middle)), 0), (4, np.log(0.75 / 0.25))]
    np.testing.assert_allclose(steps, expected, atol=1e-9)  # 0 and 1 stand for 1/4 and 3/4: two examples of each


def test_equal_logits_are_one_point_and_near_steps_are_pooled() -> None:
    logits = np.array([0.0, 0.0, 0.0, 0.1, 0.1, 3.0])
    positive = np.array([True, False, False, True, True, True])
    assert len(fit_calibrator("isotonic", logits, positive).knots) == 2
    assert len(fit_calibrator("isotonic", logits * 10, positive).knots) == 3 - 1  # {10} and {30} are both all positive


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shift_by_training_is_undone(shift: str) -> None:
    logits, positive = draw(8000, 0, shift)
    fresh, truth = draw(40_000, 1, shift)
    calibrator = fit_one(logits, positive)
    assert calibrator.method == shift
    before, after = sigmoid(fresh), calibrate(fresh[:, None], [calibrator])[:, 0]
    assert expected_calibration_error(after, truth) < 0.015
    if shift == "none":
        assert after.tobytes() == before.tobytes()
    else:
        assert expected_calibration_error(before, truth) > 0.03
        assert log_loss(truth, after) < log_loss(truth, before) - 0.01
    assert roc_auc_score(truth, after) >= roc_auc_score(truth, before) - 1e-5  # but for what float32 ties


def test_a_gain_that_may_be_chance_changes_nothing() -> None:
    methods = [fit_one(*draw(600, seed)).method for seed in range(25)]
    assert methods.count("none") >= 20
    assert methods.count("isotonic") == 0


def test_a_rare_label_under_a_large_weight_is_brought_back() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(-8, 2, 12_000)
    positive = rng.random(12_000) < sigmoid(truth)
    assert 15 < positive.sum() < 120
    calibrator = fit_one(truth + np.log(30), positive)
    assert calibrator.method == "platt"
    mean = calibrate((truth + np.log(30))[:, None], [calibrator]).mean()
    assert mean == pytest.approx(positive.mean(), rel=0.05)


def test_held_out_losses_are_those_of_calibrators_that_did_not_see_the_example() -> None:
    logits, positive = draw(60, 5)
    losses = held_out_losses(logits, positive, 5, np.random.default_rng(0))
    order = np.lexsort((positive, logits))
    np.testing.assert_allclose(losses["none"].mean(), log_loss(positive[order], sigmoid(logits[order])), rtol=1e-5)
    for method in ("temperature", "platt", "isotonic"):
        seen = fit_calibrator(method, logits, positive)
        flattered = log_loss(positive, calibrate(logits[:, None], [seen])[:, 0])
        assert losses[method].mean() > flattered


def test_the_simplest_of_equals_is_chosen() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(100)
    assert choose_method({"none": base + 1, "temperature": base, "platt": base, "isotonic": base}) == "temperature"
    assert choose_method({"none": base, "platt": base - 0.01 + rng.normal(0, 1, 100)}) == "none"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-4000, 4000) | st.sampled_from([0, 1]), st.booleans()), min_size=2),
    st.sampled_from(METHODS),
)
def test_any_examples_give_a_rising_map_or_none(examples: list[tuple[int, bool]], method: str) -> None:
    logits, positive = np.array([x / 100 for x, _ in examples]), np.array([flag for _, flag in examples])
    calibrator = fit_calibrator(method, logits, positive)
    if calibrator is not None:
        distinct = np.unique(logits)
        assert (np.diff(calibrator.apply(distinct)) > 0).all()
        assert Calibrator.from_plain(json.loads(json.dumps(calibrator.to_plain()))) == calibrator


def test_neither_order_nor_other_labels_change_a_calibrator() -> None:
    columns = [draw(500, 1, "platt"), draw(500, 2, "temperature")]
    logits, targets = (np.stack(part, axis=1) for part in zip(*columns, strict=True))
    results = fit_calibrators(logits, targets, ["a", "b"], seed=7)
    order = np.random.default_rng(0).permutation(500)
    assert fit_calibrators(logits[order], targets[order], ["a", "b"], seed=7) == results
    assert fit_calibrators(logits[:, :1], targets[:, :1], ["a"], seed=7)["a"] == results["a"]


def test_a_tuned_threshold_flags_the_same_as_without_calibration() -> None:
    columns = [draw(2000, seed, shift) for seed, shift in enumerate(("platt", "isotonic"))]
    logits, targets = (np.stack(part, axis=1) for part in zip(*columns, strict=True))
    labels = ["a", "b"]
    calibrators = tuple(result.calibrator for result in fit_calibrators(logits, targets, labels).values())
    assert [calibrator.method for calibrator in calibrators] == ["platt", "isotonic"]
    flags, cross_fitted = [], []
    for scores in (sigmoid(logits), calibrate(logits, calibrators)):
        tuned = tune_thresholds(scores, targets, labels, bootstrap=0)
        flags.append(predict(scores, threshold_array(tuned, labels)))
        cross_fitted.append([result.cross_fitted for result in tuned.values()])
    np.testing.assert_array_equal(flags[0], flags[1])
    np.testing.assert_allclose(cross_fitted[0], cross_fitted[1], atol=0.01)


@pytest.mark.parametrize("n_positives", [0, 9, 491, 500])
def test_a_label_with_too_few_of_a_class_is_left_alone_and_reported(
    n_positives: int, caplog: pytest.LogCaptureFixture
) -> None:
    logits, positive = draw(500, 0, "platt")[0], np.arange(500) < n_positives
    with caplog.at_level(logging.WARNING):
        result = fit_calibrators(logits[:, None], positive[:, None], ["threat"])["threat"]
    assert (result.calibrator, result.log_loss, result.n_positives) == (Calibrator(), {}, n_positives)
    assert f"threat ({n_positives})" in caplog.text


def test_a_model_that_ranks_backwards_is_not_turned_around() -> None:
    logits, positive = draw(2000, 0)
    results = fit_calibrators(-logits[:, None], positive[:, None], ["toxic"])
    assert set(results["toxic"].log_loss) == {"none", "isotonic"}
    after = calibrate(-logits[:, None], [results["toxic"].calibrator])[:, 0]
    assert roc_auc_score(positive, after) == pytest.approx(roc_auc_score(positive, -logits), abs=1e-6)
    assert log_loss(positive, after) < log_loss(positive, sigmoid(-logits))


def test_equal_logits_become_the_share_of_positives() -> None:
    positive = np.arange(1000) < 50
    after = calibrate(np.zeros((1, 1)), [fit_one(np.zeros(1000), positive)])
    assert after[0, 0] == pytest.approx(0.05, abs=0.001)


def test_a_perfect_split_stays_finite() -> None:
    logits = np.concatenate([np.full(100, -1.0), np.full(100, 1.0)])
    after = calibrate(logits[:, None], [fit_one(logits, logits > 0)])[:, 0]
    assert 0 < after[0] < 0.05 and 0.95 < after[-1] < 1


@pytest.mark.parametrize(
    ("logits", "targets", "words"),
    [
        ([[np.nan], [0.0]], [[0], [1]], "NaN"),
        ([[np.inf], [0.0]], [[0], [1]], "infinite"),
        ([[1.0], [0.0]], [[0], [2]], "neither 0 nor 1"),
        ([[1.0], [0.0]], [[0]], "Shapes differ"),
        ([[1.0, 2.0]], [[0, 1]], "2 columns for 1 labels"),
    ],
)
def test_impossible_arrays_are_refused(logits: object, targets: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        fit_calibrators(logits, targets, ["toxic"])


@pytest.mark.parametrize("options", [{"folds": 1}, {"seed": -1}, {"folds": 20}])
def test_impossible_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="Calibration: expected"):
        fit_one(*draw(100, 0), **options)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, tuple[Calibrator, ...]]:
    columns = [draw(2000, seed, shift) for seed, shift in enumerate(("platt", "isotonic"))]
    logits, targets = (np.stack(part, axis=1) for part in zip(*columns, strict=True))
    results = fit_calibrators(logits, targets, ["toxic", "threat"])
    save_calibration(tmp_path / "calibration.json", results, ["toxic", "threat"], {"split": "val"})
    return tmp_path / "calibration.json", (results["toxic"].calibrator, results["threat"].calibrator)


def test_a_file_gives_back_what_was_saved(saved: tuple[Path, tuple[Calibrator, ...]]) -> None:
    path, calibrators = saved
    assert load_calibrators(path, ["toxic", "threat"]) == calibrators
    content = json.loads(path.read_text())
    assert (content["version"], content["labels"], content["about"]) == (1, ["toxic", "threat"], {"split": "val"})
    assert set(content["held_out_log_loss"]["toxic"]) == set(METHODS)
    assert load_calibrators(path.with_name("absent.json"), ["a", "b"]) == (Calibrator(), Calibrator())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "format version 2, expected 1. Update .* train again"),
        ({"format": "something else"}, "not in the format"),
        ({"labels": ["threat", "toxic"]}, "another order"),
        ({"labels": None}, "labels is not a list"),
        ({"calibrators": {}}, "expected one calibrator for each label"),
        ({"calibrators": {"toxic": {}, "threat": {}}}, "method None is not known"),
        ({"calibrators": {"toxic": {"method": "none"}, "threat": {"method": "temperature", "slope": -1}}}, "slope -1"),
    ],
)
def test_foreign_and_broken_files_are_refused(
    saved: tuple[Path, tuple[Calibrator, ...]], change: dict[str, object], message: str
) -> None:
    path, _ = saved
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactError, match=message):
        load_calibrators(path, ["toxic", "threat"])


def test_before_and_after_are_measured_as_scikit_learn_does() -> None:
    logits, positive = draw(2000, 0, "platt")
    calibrator = fit_one(logits, positive)
    before, after = sigmoid(logits[:, None]), calibrate(logits[:, None], [calibrator])
    compared = compare_calibration(before, after, positive[:, None], ["toxic"], [calibrator])["toxic"]
    assert compared.method == "platt"
    for stage, scores in (("before", before[:, 0]), ("after", after[:, 0])):
        assert getattr(compared, stage).log_loss == pytest.approx(log_loss(positive, scores), rel=1e-5)
        assert getattr(compared, stage).ece == expected_calibration_error(scores, positive)
    assert compared.after.brier < compared.before.brier
    bins = compared.bins
    assert sum(bins.count) == 2000
    gap = np.average(np.abs(np.subtract(bins.probability, bins.share)), weights=bins.count)
    assert gap == pytest.approx(compared.before.ece)
