import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from moderation.report.inputs import Losses, ReportInputs
from moderation.report.plots import Plot, draw_f1, draw_plots
from moderation.report.style import thin

NAMES = ["roc", "precision_recall", "f1_over_threshold", "reliability", "cooccurrence"]


def inputs_of(
    labels: tuple[str, ...], scores: npt.ArrayLike, targets: npt.ArrayLike, losses: Sequence[Losses] = ()
) -> ReportInputs:
    return ReportInputs(
        name="run",
        split="val",
        labels=labels,
        probabilities=np.asarray(scores, dtype=np.float32),
        targets=np.asarray(targets, dtype=np.float32),
        cuts=np.full(len(labels), 0.4, dtype=np.float32),
        thresholds={},
        metrics=None,
        facts=None,
        losses=losses,
    )


def random_inputs(labels: tuple[str, ...], n: int = 200) -> ReportInputs:
    rng = np.random.default_rng(0)
    targets = rng.random((n, len(labels))) < 0.3
    return inputs_of(labels, np.clip(0.4 * targets + 0.6 * rng.random(targets.shape), 0, 1), targets)


def draw(inputs: ReportInputs) -> dict[str, Plot]:
    return {plot.name: plot for plot in draw_plots(inputs)}


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_every_picture_is_drawn_and_described() -> None:
    inputs = random_inputs(("toxic", "threat"))
    plots = draw(inputs)
    assert list(plots) == NAMES
    assert all(min(size(plot.png)) > 300 for plot in plots.values())
    area = roc_auc_score(inputs.targets[:, 1], inputs.probabilities[:, 1])
    assert f"threat {area:.3f}" in plots["roc"].alt
    assert "threat 0.400" in plots["f1_over_threshold"].alt


@pytest.mark.parametrize("targets", [[[0], [0], [0]], [[1], [1], [1]], [[1], [0], [0]]])
@pytest.mark.parametrize("score", [0.0, 0.3, 1.0])
def test_one_class_and_equal_scores_are_drawn(targets: list[list[int]], score: float) -> None:
    assert list(draw(inputs_of(("toxic",), [[score]] * 3, targets))) == NAMES


def test_odd_label_names_are_drawn_without_a_warning() -> None:
    names = ("_private", "$x^{$", "a" * 80, "back\\slash", "sûr")
    plots = draw(random_inputs(names))
    assert list(plots) == NAMES
    assert all(name in plots["roc"].alt for name in names)


def test_many_labels_get_a_panel_each() -> None:
    inputs = random_inputs(tuple(f"label {i}" for i in range(10)), n=40)
    assert inputs.probabilities is not None and inputs.targets is not None
    figure, _ = draw_f1(inputs.labels, inputs.probabilities, inputs.targets, inputs.cuts)
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(inputs.labels)
    assert all(0 <= axes.get_position().y0 < axes.get_position().y1 <= 1 for axes in figure.axes)


def test_losses_are_drawn_if_the_log_has_some() -> None:
    losses = [Losses(1, 0.7, None), Losses(1, None, 0.6), Losses(2, float("nan"), None)]
    inputs = inputs_of(("toxic",), [[0.1], [0.9]], [[0], [1]], losses)
    plots = draw(inputs)
    assert list(plots) == ["losses", *NAMES]
    assert "validation from 0.600 to 0.600" in plots["losses"].alt


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=400), st.integers(2, 50))
def test_thinning_keeps_both_ends_and_few_points(points: list[tuple[float, float]], n_points: int) -> None:
    x, y = np.array(points).T
    thin_x, thin_y = thin(x, y, n_points)
    assert len(thin_x) == len(thin_y) <= n_points
    assert (thin_x[0], thin_y[0]) == points[0]
    assert (thin_x[-1], thin_y[-1]) == points[-1]
    assert set(zip(thin_x, thin_y, strict=True)) <= set(points)


def test_thinning_leaves_no_long_gap() -> None:
    x = np.concatenate([np.zeros(50_000), np.linspace(0, 1, 50_000)])  # half of the points stand still
    y = np.linspace(0, 1, 100_000)
    thin_x, thin_y = thin(x, y, 101)
    assert (np.abs(np.diff(thin_x)) + np.abs(np.diff(thin_y))).max() < 0.021
