"""Choose the threshold of one label on sorted scores, and estimate what it is worth."""

from typing import NamedTuple

import numpy as np

from moderation.evaluation.cuts import find_cuts, threshold_between
from moderation.evaluation.folds import deal_folds
from moderation.evaluation.objectives import Objective
from moderation.evaluation.probabilities import BoolArray, FloatArray, predict


class Counts(NamedTuple):
    """How many examples decisions got right, flagged, and should have flagged; in the order `Objective` takes them."""

    n_true_positives: int
    n_flagged: int
    n_positives: int


def choose_threshold(scores: FloatArray, positive: BoolArray, goal: Objective) -> float:
    """Return the best threshold for examples in the order of `sort_by_probability`; O(n).

    Args:
        scores: float32 `(n_examples,)`, ascending.
        positive: bool `(n_examples,)`, at least one True.
        goal: What is best.
    """
    cuts = find_cuts(scores, positive)
    best = goal.choose(cuts)
    return threshold_between(float(cuts.lower[best]), float(cuts.upper[best]))


def count_decisions(scores: FloatArray, positive: BoolArray, threshold: float) -> Counts:
    """Decide every example by `threshold` and count."""
    flagged = predict(scores, threshold)
    return Counts(int((flagged & positive).sum()), int(flagged.sum()), int(positive.sum()))


def cross_fit(scores: FloatArray, positive: BoolArray, goal: Objective, folds: int, rng: np.random.Generator) -> Counts:
    """Decide each fold by a threshold chosen on the others, and count all decisions together.

    Pooled, not averaged: the mean of F1 over folds with few positives is biased (Forman & Scholz 2010). Folds are
    stratified by target and dealt out over the sorted examples, so that the order of the rows does not matter.

    Args:
        scores: float32 `(n_examples,)`, ascending.
        positive: bool `(n_examples,)`, True at least `folds` times.
        goal: What each threshold is chosen for.
        folds: Parts, 2 or more.
        rng: Deals out the folds.
    """
    fold = deal_folds(positive, folds, rng)
    parts = []
    for k in range(folds):
        held_out = fold == k
        threshold = choose_threshold(scores[~held_out], positive[~held_out], goal)  # a part stays sorted
        parts.append(count_decisions(scores[held_out], positive[held_out], threshold))
    return Counts(*map(sum, zip(*parts, strict=True)))


def bootstrap_interval(
    counts: Counts, n_examples: int, goal: Objective, samples: int, rng: np.random.Generator
) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of the value at a fixed threshold (Efron & Tibshirani 1993, ch. 13).

    Drawing n examples with replacement and counting true and false positives and negatives is one multinomial draw
    over these four counts: the same distribution without touching an example. Samples without a value (nothing
    flagged, say, where precision is asked) are left out; None if all are.
    """
    misses = counts.n_positives - counts.n_true_positives
    false_alarms = counts.n_flagged - counts.n_true_positives
    cells = np.array([counts.n_true_positives, misses, false_alarms, n_examples - counts.n_flagged - misses])
    drawn = rng.multinomial(n_examples, cells / n_examples, size=samples)  # (samples, 4)
    values = goal.value(drawn[:, 0], drawn[:, 0] + drawn[:, 2], drawn[:, 0] + drawn[:, 1])
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
