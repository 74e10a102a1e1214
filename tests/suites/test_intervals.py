"""Intervals: the published formula, and the bootstrap of cells against the bootstrap of rows."""

import numpy as np
import pytest

from moderation.suites.intervals import of_counts, of_mean, wilson


def test_wilson_solves_its_equation() -> None:
    """Its bounds are the shares p at which the count found lies 1.96 standard deviations from n * p."""
    for n_right, n in ((0, 5), (3, 5), (81, 263), (10, 10)):
        for bound in wilson(n_right, n) or ():
            assert (n_right / n - bound) ** 2 == pytest.approx(1.959964**2 * bound * (1 - bound) / n, abs=1e-6)
    assert wilson(0, 0) is None


def test_drawing_cells_is_drawing_rows() -> None:
    rows = np.repeat([0, 1], [40, 60])
    by_cells = of_counts([40, 60], lambda counts: counts[:, 1] / counts.sum(axis=1), samples=4000, seed=1)
    by_rows = of_mean(rows.astype(float), samples=4000, seed=2)
    assert by_cells == pytest.approx(by_rows, abs=0.02)
    assert by_cells == pytest.approx(wilson(60, 100), abs=0.02)


def test_without_samples_there_is_no_interval() -> None:
    assert of_counts([1, 2], lambda counts: counts[:, 0] / 3, samples=0, seed=0) is None
    assert of_mean(np.array([1.0]), samples=0, seed=0) is None
