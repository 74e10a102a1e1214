"""What a threshold optimises: `f1`, `fbeta:B`, `precision>=P` or `recall>=R`."""

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from moderation.errors import ConfigError
from moderation.evaluation.cuts import Cuts

Kind = Literal["fbeta", "precision", "recall"]
Counts = npt.NDArray[Any] | int
FloatValues = npt.NDArray[np.float64]

_FORM = re.compile(r"(fbeta)\s*:\s*([0-9.eE+-]+)|(precision|recall)\s*>=\s*([0-9.eE+-]+)")


def ratio(numerator: Counts, denominator: Counts) -> FloatValues:
    """Divide; NaN if the denominator is 0.

    >>> ratio(np.array([1, 0]), np.array([4, 0])).tolist()
    [0.25, nan]
    """
    top, bottom = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    quotient = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=quotient, where=bottom != 0)
    return quotient


def fbeta(n_true_positives: Counts, n_flagged: Counts, n_positives: Counts, beta: float = 1.0) -> FloatValues:
    """F-beta from counts (van Rijsbergen 1979, ch. 7); NaN if nothing is flagged and nothing is positive.

    >>> fbeta(np.array([2]), np.array([4]), np.array([2])).round(4).tolist()
    [0.6667]
    """
    weight = beta * beta
    true_positives = np.asarray(n_true_positives, np.float64)
    return ratio((1 + weight) * true_positives, weight * np.asarray(n_positives) + np.asarray(n_flagged))


@dataclass(frozen=True)
class Objective:
    """What to maximise, and under which constraint.

    Args:
        kind: `fbeta` maximises F-beta; `precision` maximises recall while precision is at least `number`; `recall`
            maximises precision while recall is at least `number`.
        number: Beta, or the least precision or recall.
    """

    kind: Kind
    number: float

    @property
    def constrained(self) -> bool:
        """Whether there is a constraint; then `constraint` is a number."""
        return self.kind != "fbeta"

    @property
    def maximises(self) -> str:
        """The name of `value`.

        >>> [parse_objective(text).maximises for text in ("f1", "fbeta:2", "precision>=0.9", "recall>=0.8")]
        ['F1', 'F2', 'recall', 'precision']
        """
        if self.kind == "fbeta":
            return f"F{self.number:g}"
        return "recall" if self.kind == "precision" else "precision"

    def value(self, n_true_positives: Counts, n_flagged: Counts, n_positives: Counts) -> FloatValues:
        """Return what to maximise: F-beta, recall (under a least precision) or precision (under a least recall)."""
        if self.kind == "fbeta":
            return fbeta(n_true_positives, n_flagged, n_positives, self.number)
        return ratio(n_true_positives, n_positives if self.kind == "precision" else n_flagged)

    def constraint(self, n_true_positives: Counts, n_flagged: Counts, n_positives: Counts) -> FloatValues:
        """Return the quantity that must reach `number`: precision or recall."""
        return ratio(n_true_positives, n_flagged if self.kind == "precision" else n_positives)

    def choose(self, cuts: Cuts) -> int:
        """Choose a cut.

        Among equal values, the constrained quantity decides (the higher one), then the gap between the two
        scores (the wider one, which holds best on new data), then the threshold (the lower one).

        A recall can always be reached, by flagging everything. A precision may be out of reach: then the cut with the
        highest precision, and among equals the highest recall, is used.

        Args:
            cuts: Cuts of examples of which at least one is positive.

        Returns:
            Index of the cut.
        """
        counts = cuts.n_true_positives, cuts.n_flagged, cuts.n_positives
        value = self.value(*counts)
        if not self.constrained:
            return _first_best(cuts, value)
        constraint = self.constraint(*counts)
        met = constraint >= self.number
        if met.any():
            return _first_best(cuts, np.where(met, value, -1.0), constraint)
        return _first_best(cuts, constraint, value)


def parse_objective(text: str) -> Objective:
    """Read an objective.

    Args:
        text: `f1`, `fbeta:B` with B > 0, `precision>=P` or `recall>=R` with a number in (0, 1].

    Raises:
        ConfigError: another form, or a number out of range.

    >>> parse_objective("precision>=0.9")
    Objective(kind='precision', number=0.9)
    """
    if text.strip() == "f1":
        return Objective("fbeta", 1.0)
    match = _FORM.fullmatch(text.strip())
    try:
        number = float(match[2] or match[4]) if match else np.nan
    except ValueError:
        number = np.nan
    if match and match[1] and 0 < number < np.inf:
        return Objective("fbeta", number)
    if match and match[3] and 0 < number <= 1:
        return Objective("precision" if match[3] == "precision" else "recall", number)
    raise ConfigError(
        f"Objective {text!r}: expected f1, fbeta:B with B above 0, precision>=P or recall>=R with a number above 0 "
        "and up to 1, for example precision>=0.9 (in a shell, in double quotes)."
    )


def _first_best(cuts: Cuts, *keys: FloatValues) -> int:
    """Index of the cut with the greatest keys, in their order, then the widest gap, then the lowest threshold."""
    best = np.flatnonzero(keys[0] == keys[0].max())
    for key in (*keys[1:], cuts.upper - cuts.lower):
        best = best[key[best] == key[best].max()]
    return int(best[0])
