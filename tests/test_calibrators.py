"""Calibrators never fall, keep their place in JSON, and are applied without the libraries that fitted them."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.calibrators import METHODS, Calibrator, read_calibrators
from moderation.errors import ConfigError, DataError
from moderation.evaluation.probabilities import calibrate, sigmoid

number = st.floats(-30, 30)
slope = st.floats(0.01, 100)


@st.composite
def broken_lines(draw) -> Calibrator:
    steps = draw(st.lists(st.tuples(st.floats(0.01, 5), st.floats(0, 5)), min_size=1, max_size=8))
    x, y = np.cumsum([(draw(number), draw(number)), *steps], axis=0).T
    return Calibrator("isotonic", knots=tuple(zip(x.tolist(), y.tolist(), strict=True)))


calibrators = st.one_of(
    st.just(Calibrator()),
    st.builds(Calibrator, st.just("temperature"), slope=slope),
    st.builds(Calibrator, st.just("platt"), slope=slope, intercept=number),
    broken_lines(),
)
logits = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(calibrators, logits)
def test_a_higher_logit_never_gets_a_lower_probability(calibrator: Calibrator, values: list[float]) -> None:
    knots = [x + shift for x, _ in calibrator.knots for shift in (-1e-9, 0.0, 1e-9)]
    ascending = np.sort([*values, *knots])
    assert (np.diff(calibrator.apply(ascending)) >= 0).all()
    probabilities = calibrate(ascending[:, None], [calibrator])
    assert probabilities.dtype == np.float32
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert (np.diff(probabilities[:, 0]) >= 0).all()


@settings(max_examples=100, deadline=None)
@given(calibrators)
def test_json_gives_back_the_same_numbers(calibrator: Calibrator) -> None:
    plain = json.loads(json.dumps(calibrator.to_plain(), allow_nan=False))
    assert Calibrator.from_plain(plain) == calibrator
    assert read_calibrators({"b": plain, "a": {"method": "none"}}, ["a", "b"]) == (Calibrator(), calibrator)


@settings(max_examples=60, deadline=None)
@given(st.lists(calibrators, min_size=2, max_size=2), st.lists(st.tuples(number, number), min_size=1, max_size=20))
def test_the_highest_window_is_the_same_before_and_after_and_other_texts_change_nothing(
    pair: list[Calibrator], rows: list[tuple[float, float]]
) -> None:
    windows = np.array(rows, dtype=np.float32)
    probabilities = calibrate(windows, pair)
    assert calibrate(windows.max(axis=0), pair).tobytes() == probabilities.max(axis=0).tobytes()
    alone = [calibrate(window, pair).tobytes() for window in windows]
    assert alone == [row.tobytes() for row in probabilities]


def test_without_calibration_the_bytes_are_those_of_the_sigmoid() -> None:
    values = np.random.default_rng(0).normal(0, 20, (500, 3)).astype(np.float32)
    assert calibrate(values, [Calibrator()] * 3).tobytes() == sigmoid(values).tobytes()


def test_worked_examples() -> None:
    assert Calibrator("temperature", slope=0.5).apply([-2.0, 4.0]).tolist() == [-1.0, 2.0]
    assert Calibrator("platt", slope=2.0, intercept=-3.0).apply(1.0) == -1.0
    bent = Calibrator("isotonic", knots=((-1.0, -4.0), (1.0, 0.0), (2.0, 5.0)))
    x = np.linspace(-1, 2, 50)
    np.testing.assert_allclose(bent.apply(x), np.interp(x, [-1, 1, 2], [-4, 0, 5]))
    assert bent.apply([-1.0, 1.0, 2.0]).tolist() == [-4.0, 0.0, 5.0]
    assert bent.apply([-3.0, 3.5]).tolist() == [-6.0, 6.5]  # parallel outside
    assert Calibrator("isotonic", knots=((1.0, -2.0),)).apply([0.0, 1.0, 4.0]).tolist() == [-3.0, -2.0, 1.0]
    assert np.isnan(calibrate([[np.nan, 0.0]], [bent, bent])[0]).tolist() == [True, False]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"method": "astrology"}, "method 'astrology' is not known"),
        ({}, "method None"),
        ({"method": "none", "slope": 2.0}, "none has slope, expected no parameter"),
        ({"method": "temperature", "slope": 0.0}, r"slope 0\.0, expected more than 0"),
        ({"method": "temperature", "slope": None}, "not numbers"),
        ({"method": "temperature", "slope": float("inf")}, "not finite"),
        ({"method": "platt", "slope": 1.0, "intercept": float("nan")}, "not finite"),
        ({"method": "isotonic", "knots": []}, "0 knots"),
        ({"method": "isotonic", "knots": [1.0, 2.0]}, "not numbers"),
        ({"method": "isotonic", "knots": [[0.0, 0.0, 0.0]]}, "not numbers"),
        ({"method": "isotonic", "knots": [[0.0, 1.0], [1.0, 0.0]]}, "do not rise"),
        ({"method": "isotonic", "knots": [[1.0, 0.0], [0.0, 1.0]]}, "do not rise"),
        ({"method": "isotonic", "knots": [[0.0, 0.0], [5e-324, 1e6]]}, "too close"),
    ],
)
def test_a_map_that_does_not_rise_is_refused(content: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Calibrator.from_plain(content)


def test_every_label_has_one_calibrator_and_every_column_one_label() -> None:
    plain = {"method": "none"}
    for content in ({}, {"a": plain}, {"a": plain, "b": plain, "c": plain}):
        with pytest.raises(ConfigError, match="expected a, b"):
            read_calibrators(content, ["a", "b"])
    with pytest.raises(ConfigError, match="a method and its parameters"):
        read_calibrators({"a": plain, "b": 1.0}, ["a", "b"])
    for shape in ((3,), (3, 3), ()):
        with pytest.raises(DataError, match="2 calibrators"):
            calibrate(np.zeros(shape), [Calibrator()] * 2)


def test_methods_are_ordered_from_simple_to_flexible() -> None:
    assert METHODS == ("none", "temperature", "platt", "isotonic")


def test_applying_needs_no_library_for_fitting() -> None:
    program = (
        "import sys\n"
        "import moderation.bundles, moderation.inference.classifier\n"
        "from moderation.calibrators import Calibrator\n"
        "from moderation.evaluation.probabilities import calibrate\n"
        "calibrate([[1.0]], [Calibrator('isotonic', knots=((0.0, 0.0), (1.0, 2.0)))])\n"
        "print([name for name in ('sklearn', 'scipy', 'torch', 'transformers') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
