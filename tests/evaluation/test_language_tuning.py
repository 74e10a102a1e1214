"""Calibrators and thresholds by language: fitted where there are enough examples, kept, read and applied."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.calibrators import Calibrator
from moderation.errors import ArtifactError
from moderation.evaluation.by_language import TextLanguages, measure_tuned
from moderation.evaluation.calibration import fit_calibrators, save_calibration
from moderation.evaluation.cuts import find_cuts, sort_by_probability
from moderation.evaluation.language_calibration import fit_by_language, load_tunings
from moderation.evaluation.language_thresholds import LEAST_KNOWN, tune_by_language
from moderation.evaluation.objectives import parse_objective
from moderation.evaluation.probabilities import calibrate, calibrate_texts, sigmoid, thresholds_of_texts
from moderation.evaluation.thresholds import choose_threshold, save_thresholds, tune_thresholds
from moderation.tunings import LanguageTuning, Tunings

LABELS = ("toxic", "threat")
RNG = np.random.default_rng(5)
N = 2 * LEAST_KNOWN
LANGUAGES = ["en"] * N + ["tr"] * N + ["de"] * (LEAST_KNOWN - 1) + ["und"] * N
LOGITS = RNG.normal(size=(len(LANGUAGES), 2)).astype(np.float32)
SHIFT = np.array([0.0 if code == "en" else -2.0 for code in LANGUAGES])[:, None]  # others are toxic less often
TARGETS = (RNG.random(LOGITS.shape) < sigmoid(LOGITS * 2 + SHIFT)).astype(np.float32)
TARGETS[np.array(LANGUAGES) == "tr", 1] = np.nan  # nobody asked about threats in Turkish
OPTIONS = {"objective": "f1", "bootstrap": 0, "seed": 1}


def test_only_languages_and_labels_with_enough_examples_have_their_own() -> None:
    fitted = fit_by_language(LOGITS, TARGETS, LANGUAGES, LABELS, seed=1)
    assert {code: list(own) for code, own in fitted.items()} == {"en": ["toxic", "threat"], "tr": ["toxic"]}
    rows = np.array(LANGUAGES) == "tr"
    alone = fit_calibrators(LOGITS[rows, :1], TARGETS[rows, :1], ["toxic"], seed=1)
    assert fitted["tr"]["toxic"] == alone["toxic"]
    tuned = tune_by_language(sigmoid(LOGITS), TARGETS, LANGUAGES, LABELS, **OPTIONS)
    assert {code: list(own) for code, own in tuned.items()} == {"en": ["toxic", "threat"], "tr": ["toxic"]}


def test_one_language_alone_has_the_general_ones() -> None:
    targets = np.nan_to_num(TARGETS)
    for codes in (["en"] * len(LOGITS), ["en", "EN-us"] * (len(LOGITS) // 2) + ["und"]):
        assert fit_by_language(LOGITS, targets, codes[: len(LOGITS)], LABELS, seed=1) == {}
        assert tune_by_language(sigmoid(LOGITS), targets, codes[: len(LOGITS)], LABELS, **OPTIONS) == {}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tuned")
    calibration, thresholds = folder / "calibration.json", folder / "thresholds.json"
    fitted = fit_calibrators(LOGITS, TARGETS, LABELS)
    save_calibration(calibration, fitted, LABELS, {}, fit_by_language(LOGITS, TARGETS, LANGUAGES, LABELS, seed=1))
    found = calibrate_texts(LOGITS, load_tunings(calibration, None, LABELS), LANGUAGES)
    own = tune_by_language(found, TARGETS, LANGUAGES, LABELS, **OPTIONS)
    about = {"calibrated": True}
    save_thresholds(thresholds, tune_thresholds(found, TARGETS, LABELS, **OPTIONS), LABELS, about, own)
    return calibration, thresholds


def test_what_was_saved_is_read_and_a_language_is_complete(files: tuple[Path, Path]) -> None:
    tunings = load_tunings(*files, LABELS)
    assert list(tunings.by_language) == ["en", "tr"]
    turkish = tunings.of("tr-TR")
    assert turkish.thresholds[0] != tunings.general.thresholds[0]
    assert turkish.thresholds[1] == tunings.general.thresholds[1]
    assert turkish.calibrators[1] == tunings.general.calibrators[1]
    assert tunings.of("und") is tunings.of("de") is tunings.general
    with pytest.raises(ArtifactError, match="labels"):
        load_tunings(*files, ("toxic", "insult"))


def test_each_text_gets_the_calibrators_and_thresholds_of_its_language(files: tuple[Path, Path]) -> None:
    tunings = load_tunings(*files, LABELS)
    found, cuts = calibrate_texts(LOGITS, tunings, LANGUAGES), thresholds_of_texts(tunings, LANGUAGES)
    for code in ("en", "tr", "de", "und"):
        rows = np.array(LANGUAGES) == code
        assert found[rows].tobytes() == calibrate(LOGITS[rows], tunings.of(code).calibrators).tobytes()
        assert (cuts[rows] == np.float32(tunings.of(code).thresholds)).all()
    assert calibrate_texts(LOGITS, tunings, None).tobytes() == calibrate(LOGITS, tunings.general.calibrators).tobytes()
    assert thresholds_of_texts(tunings, None).shape == (2,)
    assert thresholds_of_texts(tunings, ["und", "de"]).shape == (2,)


def test_the_figures_of_a_split_are_those_of_the_decisions_that_are_taken(files: tuple[Path, Path]) -> None:
    tunings = load_tunings(*files, LABELS)
    found = calibrate_texts(LOGITS, tunings, LANGUAGES)
    named = ["all" if code == "und" else code.upper() for code in LANGUAGES]  # of the table: only groups
    more = {"languages": TextLanguages(named, LANGUAGES), "logits": LOGITS, "bootstrap": 50, "seed": 3}
    measured = measure_tuned(found, TARGETS, LABELS, tunings, **more)
    flagged = found[:, 0] >= thresholds_of_texts(tunings, LANGUAGES)[:, 0]
    one = measured.labels["toxic"]
    assert one.at_threshold.flagged == flagged.sum()
    assert one.at_threshold.precision == pytest.approx(TARGETS[flagged, 0].mean())
    low, high = one.intervals.f1
    assert low < one.at_threshold.f1 < high
    turkish = measured.languages["TR"]["toxic"]
    rows = np.array(LANGUAGES) == "tr"
    assert turkish.recall == pytest.approx(flagged[rows & (TARGETS[:, 0] == 1)].mean())


def test_thresholds_that_a_user_sets_hold_in_every_language() -> None:
    maps = (Calibrator(),) * 2
    tunings = Tunings(LanguageTuning(maps, (0.5, 0.4)), {"tr": LanguageTuning(maps, (0.2, 0.1))})
    changed = tunings.with_thresholds(LABELS, {"toxic": 0.9}, {})
    assert changed.general.thresholds == (0.9, 0.4)
    assert changed.of("tr").thresholds == (0.9, 0.1)
    changed = tunings.with_thresholds(LABELS, {"toxic": 0.9}, {"tr": {"toxic": 0.3}, "de": {"threat": 0.6}})
    assert changed.general.thresholds == (0.9, 0.4)
    assert changed.of("tr").thresholds == (0.3, 0.1)
    assert changed.of("de").thresholds == (0.9, 0.6)


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1), st.floats(0.01, 1))
def test_a_limit_on_false_alarms_holds_where_it_can(pairs: list[tuple[float, bool]], limit: float) -> None:
    scores, positive = sort_by_probability(np.float32([s for s, _ in pairs]), np.float32([p for _, p in pairs]))
    if not positive.any():
        return
    goal = parse_objective(f"false-alarms<={limit!r}")
    cuts = find_cuts(scores, positive)
    threshold = choose_threshold(scores, positive, goal)
    n_clean = max(1, len(scores) - cuts.n_positives)
    alarms = (cuts.n_flagged - cuts.n_true_positives) / n_clean
    allowed = alarms <= limit
    flagged = scores >= np.float32(threshold)
    if not allowed.any():
        assert not flagged.any() or threshold == 1
        return
    f1 = 2 * cuts.n_true_positives / (cuts.n_flagged + cuts.n_positives)
    assert (flagged & ~positive).sum() <= limit * n_clean
    assert 2 * (flagged & positive).sum() / (flagged.sum() + cuts.n_positives) == f1[allowed].max()
