"""Plots of a run: losses, ROC, precision-recall, F1 over threshold, reliability, co-occurrence."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

from moderation.evaluation.probabilities import BoolArray, FloatArray, predict
from moderation.evaluation.reliability import N_BINS, reliability_bins
from moderation.evaluation.split_metrics import CalibrationChange
from moderation.report.inputs import Losses, ReportInputs
from moderation.report.style import (
    BLUE,
    GREY,
    ORANGE,
    dot_style,
    finish_square,
    line_style,
    listing,
    new_axes,
    new_figure,
    new_grid,
    plain,
    thin,
    to_png,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Drawn = tuple["Figure", str]  # a figure and what it shows in words


@dataclass(frozen=True)
class Plot:
    """One plot.

    Args:
        name: Stem of its file name.
        alt: What it shows, in words, for readers who cannot see it.
        png: The picture's bytes.
    """

    name: str
    alt: str
    png: bytes


def draw_plots(inputs: ReportInputs) -> Iterator[Plot]:
    """Draw every plot that the inputs allow, one after another.

    Raises:
        ImportError: matplotlib is not installed.
    """
    if inputs.losses:
        yield _plot("losses", *draw_losses(inputs.losses))
    if inputs.probabilities is None or inputs.targets is None:
        return
    labels, scores, targets, cuts = inputs.labels, inputs.probabilities, inputs.targets, inputs.cuts
    yield _plot("roc", *draw_roc(labels, scores, targets))
    yield _plot("precision_recall", *draw_precision_recall(labels, scores, targets, cuts))
    yield _plot("f1_over_threshold", *draw_f1(labels, scores, targets, cuts))
    before = inputs.metrics.calibration if inputs.metrics else None
    yield _plot("reliability", *draw_reliability(labels, scores, targets, before))
    yield _plot("cooccurrence", *draw_cooccurrence(labels, targets))


def _plot(name: str, figure: "Figure", alt: str) -> Plot:
    return Plot(name, alt, to_png(figure))


def draw_losses(losses: Sequence[Losses]) -> Drawn:
    """Draw the training and the validation loss over the optimizer steps."""
    figure = new_figure(6.4, 3.8)
    axes = new_axes(figure, "Optimizer step", "Loss")
    parts = []
    series = (
        ("training", [(one.step, one.training) for one in losses if one.training is not None], BLUE, ".", "-"),
        ("validation", [(one.step, one.validation) for one in losses if one.validation is not None], ORANGE, "o", "--"),
    )
    for name, points, color, marker, dashes in series:
        if points:
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, linewidth=1.7, label=name, color=color, marker=marker, linestyle=dashes)
            parts.append(f"{name} from {values[0]:.3f} to {values[-1]:.3f}")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=9)
    return figure, f"Line chart of the loss over the optimizer steps: {listing(parts)}."


def draw_roc(labels: Sequence[str], scores: FloatArray, targets: FloatArray) -> Drawn:
    """Draw one ROC curve per label that has both classes."""
    figure = new_figure(5.4, 6.2)
    axes = new_axes(figure, "False alarms: share of other comments flagged", "Recall: share found")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    lines, names = [], []
    for i in _with_both_classes(targets):
        false_rate, true_rate, _ = roc_curve(*_of_label(targets, scores, i))
        lines += axes.plot(*thin(false_rate, true_rate), **line_style(i))
        names.append(f"{labels[i]} {float(auc(false_rate, true_rate)):.3f}")
    finish_square(axes, lines, names, "Label and area under its curve")
    return figure, f"One curve per label, above the diagonal of chance. Area under the curve: {listing(names)}."


def draw_precision_recall(
    labels: Sequence[str], scores: FloatArray, targets: FloatArray, cuts: FloatArray | None
) -> Drawn:
    """Draw one precision-recall curve per label that has both classes, with a point at its threshold."""
    figure = new_figure(5.4, 6.2)
    axes = new_axes(figure, "Recall: share found", "Precision: share of flags that are right")
    lines, names = [], []
    for i in _with_both_classes(targets):
        truth, scored = _of_label(targets, scores, i)
        precision, recall, _ = precision_recall_curve(truth, scored)
        lines += axes.plot(*thin(recall, precision), drawstyle="steps-post", **line_style(i))
        names.append(f"{labels[i]} {float(average_precision_score(truth, scored)):.3f}")
        flagged = np.zeros_like(truth) if cuts is None else predict(scored, cuts[i])
        if flagged.any():
            right = (flagged & truth).sum()
            axes.plot(right / truth.sum(), right / flagged.sum(), **dot_style(i))
    finish_square(axes, lines, names, "Label and average precision")
    return figure, f"One curve per label, a point at its threshold. Average precision: {listing(names)}."


def draw_f1(labels: Sequence[str], scores: FloatArray, targets: FloatArray, cuts: FloatArray | None) -> Drawn:
    """Draw F1 over the threshold, one panel per label, with the chosen threshold."""
    figure, panels = new_grid(labels, "Threshold", "F1", height=1.7)
    for i, panel in enumerate(panels):
        truth, scored = _of_label(targets, scores, i)
        if not truth.any():
            panel.text(0.5, 0.5, "n/a: no positives", ha="center", color=GREY)
            continue
        precision, recall, thresholds = precision_recall_curve(truth, scored)
        total = (precision + recall)[:-1]
        f1 = np.divide(2 * precision[:-1] * recall[:-1], total, out=np.zeros_like(total), where=total > 0)
        panel.plot(*thin(thresholds.astype(np.float64), f1), drawstyle="steps-pre", color=BLUE, linewidth=1.7)
    if cuts is None:
        return figure, "One panel per label: F1 as the threshold goes from 0 to 1."
    for panel, cut in zip(panels, cuts.tolist(), strict=True):
        _mark_cut(panel, cut)
    chosen = listing([f"{label} {cut:.3f}" for label, cut in zip(labels, cuts.tolist(), strict=True)])
    return figure, (
        "One panel per label: F1 as the threshold goes from 0 to 1, a dashed line at the chosen threshold. "
        f"Chosen: {chosen}."
    )


def draw_reliability(
    labels: Sequence[str],
    scores: FloatArray,
    targets: FloatArray,
    calibration: Mapping[str, CalibrationChange] | None = None,
) -> Drawn:
    """Draw the share of positives over the probability, one panel per label, with counts below.

    Args:
        labels: Ordered labels.
        scores: The probabilities in use, float32 `(n_examples, n_labels)`.
        targets: Of the same shape, 0 or 1, NaN where unknown.
        calibration: From `compare_calibration`, for the labels that were calibrated.
    """
    from matplotlib.ticker import NullLocator

    changed = {label: found for label, found in (calibration or {}).items() if found.method != "none"}
    figure, panels = new_grid(
        labels, "Probability that the model gives", "Share of positive comments", height=1.75, below=0.65
    )
    for i, panel in enumerate(panels):
        truth, scored = _of_label(targets, scores, i)
        bins = reliability_bins(scored, truth)
        spread = np.abs(np.stack([bins.low, bins.high]) - bins.share)
        panel.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
        panel.errorbar(bins.probability, bins.share, spread, color=BLUE, marker="o", markersize=4, elinewidth=0.9)
        if labels[i] in changed:
            points = changed[labels[i]].bins
            panel.plot(points.probability, points.share, color=ORANGE, linestyle="--", marker=".", linewidth=1.2)
        panel.tick_params(labelbottom=False)
        counts = panel.inset_axes((0, -0.37, 1, 0.3), xlim=(0, 1), yscale="log", ylim=(0.7, 3 * len(scored)))
        counts.bar((bins.position + 0.5) / N_BINS, bins.count, width=0.85 / N_BINS, color=GREY)
        counts.spines[["top", "right"]].set_visible(False)
        counts.yaxis.set_minor_locator(NullLocator())
        counts.tick_params(labelsize=8, color="#9ca3af")
    return figure, (
        "One panel per label: share of positive comments over the probability that the model gives, with 95 % "
        "intervals; on the dotted diagonal both agree. Below: comments per bin, on a logarithmic scale."
        + (f" Dashed: before calibration, for {listing(list(changed))}." if changed else "")
    )


def draw_cooccurrence(labels: Sequence[str], targets: FloatArray) -> Drawn:
    """Draw, for each pair of labels, the share of comments with the first that also have the second.

    Only comments count for which the second one is known.
    """
    positive, known = (targets == 1).astype(np.float64), (~np.isnan(targets)).astype(np.float64)
    together, asked = positive.T @ positive, positive.T @ known  # (n_labels, n_labels), counts
    support = np.diag(together)
    share = np.divide(together, asked, out=np.full_like(together, np.nan), where=asked > 0)
    size = 2.4 + 0.7 * len(labels)
    figure = new_figure(size + 0.9, size)
    axes = new_axes(figure, "… have this one, too", "Of the comments with this label …")
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), [plain(label) for label in labels], rotation=35, ha="right")
    names = [f"{plain(label)} ({int(n):,})" for label, n in zip(labels, support, strict=True)]
    axes.set_yticks(range(len(labels)), names)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    for (row, column), value in np.ndenumerate(share):
        shown = "n/a" if np.isnan(value) else f"{value:.0%}"
        axes.text(column, row, shown, ha="center", va="center", fontsize=9, color="white" if value > 0.55 else "black")
    return (
        figure,
        f"Table of shares. Of the comments with one label, the most often found second one: {_pairs(labels, share)}.",
    )


def _mark_cut(panel: "Axes", cut: float) -> None:
    panel.axvline(cut, color=ORANGE, linewidth=1.4, linestyle="--")
    side, offset = ("right", -4) if cut > 0.6 else ("left", 4)
    panel.annotate(
        f"{cut:.2f}", (cut, 0.05), (offset, 0), textcoords="offset points", ha=side, color="#a84300", fontsize=9
    )


def _with_both_classes(targets: FloatArray) -> list[int]:
    """Columns in which a curve is defined."""
    return [int(i) for i in np.flatnonzero((targets == 1).any(axis=0) & (targets == 0).any(axis=0))]


def _of_label(targets: FloatArray, scores: FloatArray, column: int) -> tuple[BoolArray, FloatArray]:
    """Truth and probability of the examples for which a label is known."""
    known = ~np.isnan(targets[:, column])
    return targets[known, column] == 1, scores[known, column]


def _pairs(labels: Sequence[str], share: npt.NDArray[np.float64]) -> str:
    """For each label that occurs, the other one that most often comes with it."""
    others = share - np.eye(len(labels)) * 2  # below every share
    best = [(i, int(np.argmax(others[i]))) for i in range(len(labels)) if len(labels) > 1 and share[i, i] == 1]
    return listing([f"{labels[i]}: {labels[j]} {share[i, j]:.0%}" for i, j in best])
