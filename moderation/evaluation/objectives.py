"""What a threshold optimises: `f1`, `fbeta:B`, `precision>=P`, `recall>=R` or `false-alarms<=X`."""

import re
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from moderation.errors import ConfigError
from moderation.evaluation.cuts import Cuts
from moderation.evaluation.probabilities import BoolArray

Kind = Literal["fbeta", "precision", "recall", "false-alarms"]
Counted = npt.NDArray[Any] | int
FloatValues = npt.NDArray[np.float64]

_FORM = re.compile(
    r"(fbeta)\s*:\s*([0-9.eE+-]+)|(precision|recall)\s*>=\s*([0-9.eE+-]+)|(false-alarms)\s*<=\s*([0-9.eE+-]+)"
)


def ratio(numerator: Counted, denominator: Counted) -> FloatValues:
    """Divide; NaN if the denominator is 0.

    >>> ratio(np.array([1, 0]), np.array([4, 0])).tolist()
    [0.25, nan]
    """
    top, bottom = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    quotient = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=quotient, where=bottom != 0)
    return quotient


def fbeta(n_true_positives: Counted, n_flagged: Counted, n_positives: Counted, beta: float = 1.0) -> FloatValues:
    """F-beta from counts (van Rijsbergen 1979, ch. 7); NaN if nothing is flagged and nothing is positive.

    >>> fbeta(np.array([2]), np.array([4]), np.array([2])).round(4).tolist()
    [0.6667]
    """
    weight = beta * beta
    true_positives = np.asarray(n_true_positives, np.float64)
    return ratio((1 + weight) * true_positives, weight * np.asarray(n_positives) + np.asarray(n_flagged))


class Counts(NamedTuple):
    """How many examples decisions got right, flagged, and should have flagged, and how many there are."""

    n_true_positives: Counted
    n_flagged: Counted
    n_positives: Counted
    n_examples: Counted


@dataclass(frozen=True)
class Objective:
    """What to maximise, and under which constraint.

    Args:
        kind: `fbeta` maximises F-beta; `precision` maximises recall while precision is at least `number`; `recall`
            maximises precision while recall is at least `number`; `false-alarms` maximises F1 while at most `number` of
            the examples with target 0 are flagged.
        number: Beta, or the limit.
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
        return {"precision": "recall", "recall": "precision", "false-alarms": "F1"}[self.kind]

    def value(self, counts: Counts) -> FloatValues:
        """Return what to maximise: F-beta, recall (under a least precision), precision (under a least recall) or F1."""
        if self.kind in ("fbeta", "false-alarms"):
            return fbeta(*counts[:3], self.number if self.kind == "fbeta" else 1.0)
        return ratio(counts.n_true_positives, counts.n_positives if self.kind == "precision" else counts.n_flagged)

    def constraint(self, counts: Counts) -> FloatValues:
        """Return the quantity that is limited: precision, recall, or the share of false alarms."""
        if self.kind == "false-alarms":
            n_clean = np.maximum(np.asarray(counts.n_examples) - counts.n_positives, 1)
            return ratio(np.asarray(counts.n_flagged) - counts.n_true_positives, n_clean)
        return ratio(counts.n_true_positives, counts.n_flagged if self.kind == "precision" else counts.n_positives)

    def is_met(self, constraint: FloatValues | float) -> BoolArray:
        """Whether the limited quantity keeps to the limit."""
        found = np.asarray(constraint)
        return found <= self.number if self.kind == "false-alarms" else found >= self.number

    def reaches(self, cuts: Cuts) -> bool:
        """Whether a cut that flags something keeps to the limit."""
        counts = Counts(cuts.n_true_positives, cuts.n_flagged, cuts.n_positives, cuts.n_examples)
        return not self.constrained or bool(self.is_met(self.constraint(counts)).any())

    def choose(self, cuts: Cuts) -> int:
        """Choose a cut.

        Among equal values, the constrained quantity decides (the better one), then the gap between the two
        scores (the wider one, which holds best on new data), then the threshold (the lower one).

        A recall can always be reached, by flagging everything. A precision may be out of reach: then the cut that comes
        closest, and among equals the highest value, is used. For false alarms, `reaches` says whether any cut will do.

        Args:
            cuts: Cuts of examples of which at least one is positive.

        Returns:
            Index of the cut.
        """
        counts = Counts(cuts.n_true_positives, cuts.n_flagged, cuts.n_positives, cuts.n_examples)
        value = self.value(counts)
        if not self.constrained:
            return _first_best(cuts, value)
        constraint = self.constraint(counts)
        better = -constraint if self.kind == "false-alarms" else constraint
        met = self.is_met(constraint)
        if met.any():
            return _first_best(cuts, np.where(met, value, -1.0), better)
        return _first_best(cuts, better, value)


def parse_objective(text: str) -> Objective:
    """Read an objective.

    Args:
        text: `f1`, `fbeta:B` with B > 0, `precision>=P`, `recall>=R` or `false-alarms<=X` with a number in (0, 1].

    Raises:
        ConfigError: another form, or a number out of range.

    >>> parse_objective("precision>=0.9")
    Objective(kind='precision', number=0.9)
    """
    if text.strip() == "f1":
        return Objective("fbeta", 1.0)
    match = _FORM.fullmatch(text.strip())
    kind, number = _read_parts(match) if match else (None, np.nan)
    if kind is not None and 0 < number <= (np.finfo(float).max if kind == "fbeta" else 1):
        return Objective(kind, number)
    raise ConfigError(
        f"Objective {text!r}: expected f1, fbeta:B with B above 0, precision>=P, recall>=R or false-alarms<=X with a "
        "number above 0 and up to 1, for example precision>=0.9 (in a shell, in double quotes)."
    )


def _read_parts(match: re.Match[str]) -> tuple[Kind, float]:
    name, number = (part for part in match.groups() if part is not None)
    kind: Kind = name  # type: ignore[assignment]  # the pattern allows no other
    try:
        return kind, float(number)
    except ValueError:
        return kind, np.nan


def _first_best(cuts: Cuts, *keys: FloatValues) -> int:
    """Index of the cut with the greatest keys, in their order, then the widest gap, then the lowest threshold."""
    best = np.flatnonzero(keys[0] == keys[0].max())
    for key in (*keys[1:], cuts.upper - cuts.lower):
        best = best[key[best] == key[best].max()]
    return int(best[0])
