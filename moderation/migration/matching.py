"""Old decisions and new probabilities of the same comments -> the threshold that replaces the old one.

Every cut between two neighbouring probabilities is considered. Two cuts stand out: the one that flags the same number
of comments as before, and the one that agrees best with the old decisions by Cohen's kappa (Cohen 1960), which counts
agreement beyond chance. Plain agreement would favour flagging nothing, since most comments are harmless.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moderation.evaluation.cuts import sort_by_probability, threshold_between
from moderation.evaluation.probabilities import BoolArray, FloatArray, predict

FloatValues = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Match:
    """One threshold, and what it changes.

    Args:
        threshold: Flagged if `probability >= threshold`; a float32 number.
        interval: Where the threshold may lie, according to 95 % of bootstrap resamples: from the lowest to the highest
            value that decides the comments of a resample as its best cut does. None without resamples.
        n_flagged: Comments that it flags.
        n_newly_flagged: Of those, how many were not flagged before.
        n_no_longer_flagged: Comments that were flagged before and are not now.
        agreement: Share of comments that are decided as before.
        kappa: Cohen's kappa of old and new decisions; None if one of them decides all comments alike.
    """

    threshold: float
    interval: tuple[float, float] | None
    n_flagged: int
    n_newly_flagged: int
    n_no_longer_flagged: int
    agreement: float
    kappa: float | None


@dataclass(frozen=True)
class Cuts:
    """All cuts of some comments, lowest first; cut `k` flags those with a probability of `upper[k]` or more.

    Args:
        lower: float64 `(n_cuts,)`, the next lower probability, 0 for the first cut.
        upper: float64 `(n_cuts,)`; the last cut flags nothing and its `upper` is 1, unless there are probabilities of
            1, which every threshold flags.
        n_flagged: `(n_cuts,)`.
        n_both: `(n_cuts,)`, flagged before and now.
        n_old: Flagged before.
    """

    lower: FloatValues
    upper: FloatValues
    n_flagged: npt.NDArray[np.int64]
    n_both: npt.NDArray[np.int64]
    n_old: int

    @property
    def kappas(self) -> FloatValues:
        """Cohen's kappa at each cut, float64 `(n_cuts,)`; 0 if one side decides all comments alike."""
        n = int(self.n_flagged[0])
        return _kappa(self.n_both, self.n_flagged, self.n_old, n)

    def nearest_rate(self, n_wanted: float) -> int:
        """The cut whose number of flags is nearest; of two equally near, the one that flags less."""
        distance = np.abs(self.n_flagged - n_wanted)
        return len(distance) - 1 - int(np.argmin(distance[::-1]))

    def best_agreement(self) -> int:
        """The cut with the highest kappa; of several, the one whose number of flags is nearest to the old one."""
        kappas = self.kappas
        best = np.flatnonzero(kappas >= kappas.max())
        return int(best[np.argmin(np.abs(self.n_flagged[best] - self.n_old))])


Choice = Callable[[Cuts], int]


def match_rate(
    probabilities: FloatArray, old: BoolArray, *, share: float | None = None, samples: int = 500, seed: int = 42
) -> Match:
    """The threshold that flags the same share as before, or a requested share.

    Args:
        probabilities: float32 `(n,)`, in [0, 1].
        old: bool `(n,)`, what was flagged before; ignored if `share` is given.
        share: In (0, 1): flag this share instead.
        samples: Bootstrap resamples of the interval; 0: none.
        seed: Of the resamples.
    """
    scores, flagged = sort_by_probability(probabilities, old.astype(np.float32))

    def choose(cuts: Cuts) -> int:
        return cuts.nearest_rate(cuts.n_old if share is None else share * cuts.n_flagged[0])

    return _match(scores, flagged, choose, samples, seed)


def match_agreement(probabilities: FloatArray, old: BoolArray, *, samples: int = 500, seed: int = 42) -> Match:
    """The threshold whose decisions agree best with the old ones; the arguments are those of `match_rate`."""
    scores, flagged = sort_by_probability(probabilities, old.astype(np.float32))
    return _match(scores, flagged, Cuts.best_agreement, samples, seed)


def compare(new: BoolArray, old: BoolArray) -> tuple[float, float | None]:
    """Agreement and Cohen's kappa of decisions, both bool `(n,)`.

    >>> compare(np.array([True, True, False, False]), np.array([True, False, False, False]))
    (0.75, 0.5)
    """
    n_new, n_old, n_both = int(new.sum()), int(old.sum()), int((new & old).sum())
    kappa = None
    if 0 < n_new < len(new) and 0 < n_old < len(old):
        kappa = float(_kappa(np.array([n_both]), np.array([n_new]), n_old, len(new))[0])
    return float((new == old).mean()), kappa


def find_cuts(scores: FloatArray, flagged: BoolArray, weights: npt.NDArray[np.int64] | None = None) -> Cuts:
    """All cuts of comments in the order of `sort_by_probability`.

    Args:
        scores: float32 `(n,)`, ascending.
        flagged: bool `(n,)`, the old decisions.
        weights: How often each comment counts, 0 or more; None: once.
    """
    if weights is not None:
        drawn = np.flatnonzero(weights)
        scores, flagged, weights = scores[drawn], flagged[drawn], weights[drawn]
    counts = np.ones(len(scores), np.int64) if weights is None else weights
    first = np.flatnonzero(np.diff(scores, prepend=np.float32(-1)) > 0)
    upper = scores[first].astype(np.float64)
    of_score = np.add.reduceat(counts, first)
    of_old = np.add.reduceat(counts * flagged, first)
    n_cuts = len(upper) + bool(upper[-1] < 1)
    return Cuts(
        lower=np.concatenate([[0.0], upper])[:n_cuts],
        upper=np.concatenate([upper, [1.0]])[:n_cuts],
        n_flagged=np.concatenate([np.cumsum(of_score[::-1])[::-1], [0]])[:n_cuts],
        n_both=np.concatenate([np.cumsum(of_old[::-1])[::-1], [0]])[:n_cuts],
        n_old=int(of_old.sum()),
    )


def _match(scores: FloatArray, flagged: BoolArray, choose: Choice, samples: int, seed: int) -> Match:
    cuts = find_cuts(scores, flagged)
    best = choose(cuts)
    threshold = threshold_between(float(cuts.lower[best]), float(cuts.upper[best]))
    new = predict(scores, threshold)
    agreement, kappa = compare(new, flagged)
    return Match(
        threshold=threshold,
        interval=_interval(scores, flagged, choose, samples, seed),
        n_flagged=int(new.sum()),
        n_newly_flagged=int((new & ~flagged).sum()),
        n_no_longer_flagged=int((flagged & ~new).sum()),
        agreement=agreement,
        kappa=kappa,
    )


def _interval(
    scores: FloatArray, flagged: BoolArray, choose: Choice, samples: int, seed: int
) -> tuple[float, float] | None:
    """Percentile bootstrap (Efron & Tibshirani 1993, ch. 13) of both ends of the best cut."""
    if not samples:
        return None
    rng = np.random.default_rng(seed)
    ends = np.empty((samples, 2))
    for row in ends:
        weights = np.bincount(rng.integers(len(scores), size=len(scores)), minlength=len(scores))
        cuts = find_cuts(scores, flagged, weights)
        best = choose(cuts)
        row[:] = cuts.lower[best], cuts.upper[best]
    return float(np.percentile(ends[:, 0], 2.5)), float(np.percentile(ends[:, 1], 97.5))


def _kappa(n_both: npt.NDArray[np.int64], n_new: npt.NDArray[np.int64], n_old: int, n: int) -> FloatValues:
    """Cohen's kappa of two raters who flag, out of `n` comments, `n_new` and `n_old`, and both of them `n_both`."""
    expected = (n_new * n_old + (n - n_new) * (n - n_old)) / n
    agreed = n_both + (n - n_new - n_old + n_both)
    with np.errstate(divide="ignore", invalid="ignore"):
        kappas = (agreed - expected) / (n - expected)
    return np.where(n - expected > 0, kappas, 0.0)
