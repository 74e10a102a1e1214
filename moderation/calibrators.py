"""Calibrators: for each label a rising map of logits that makes its probabilities correct.

They consist only of numbers: `evaluation.calibration` fits them, run folders and bundles store them, and
`evaluation.probabilities.calibrate` applies them, the same for every backend.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from moderation.errors import ConfigError

Method = Literal["none", "temperature", "platt", "isotonic"]
METHODS: tuple[Method, ...] = get_args(Method)  # the simplest first
_PARAMETERS: dict[str, set[str]] = {
    "none": set(),
    "temperature": {"slope"},
    "platt": {"slope", "intercept"},
    "isotonic": {"knots"},
}

_LARGEST = 1e6  # log-odds beyond about 40 are 0 and 1 in float32
_MOST_KNOTS = 100_000

FloatValues = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibrator:
    """The map of one label. It never falls, so the order of texts does not change.

    - `none`: the logit is unchanged.
    - `temperature` (Guo et al. 2017): `slope * logit`; the temperature is 1 / slope.
    - `platt` (Platt 1999): `slope * logit + intercept`.
    - `isotonic`: the broken line through the knots; outside them it continues parallel to the logit itself.

    Args:
        method: Its kind.
        slope: More than 0.
        intercept: In log-odds.
        knots: Pairs of a logit and its calibrated logit, rising in the first and never falling in the second.

    Raises:
        ConfigError: an unknown method, a number that is not finite, or a map that falls.
    """

    method: Method = "none"
    slope: float = 1.0
    intercept: float = 0.0
    knots: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if problem := self._find_problem():
            raise ConfigError(f"calibration: {problem}")

    def apply(self, logits: npt.ArrayLike) -> FloatValues:
        """Return calibrated logits, float64, of the shape of `logits`; NaN stays NaN.

        >>> Calibrator("platt", slope=2.0, intercept=-1.0).apply([0.0, 1.0]).tolist()
        [-1.0, 1.0]
        >>> Calibrator("isotonic", knots=((0.0, -2.0), (1.0, 2.0))).apply([-1.0, 0.0, 0.5, 3.0]).tolist()
        [-3.0, -2.0, 0.0, 4.0]
        """
        values = np.asarray(logits, dtype=np.float64)
        return self._along_knots(values) if self.knots else self.slope * values + self.intercept

    def to_plain(self) -> dict[str, object]:
        """The method and its own parameters, ready for JSON.

        >>> Calibrator("temperature", slope=0.8).to_plain()
        {'method': 'temperature', 'slope': 0.8}
        """
        content = {"slope": self.slope, "intercept": self.intercept, "knots": [list(knot) for knot in self.knots]}
        return {"method": self.method} | {name: content[name] for name in content if name in _PARAMETERS[self.method]}

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> Self:
        """The calibrator that `to_plain` wrote.

        Raises:
            ConfigError: an unknown method, parameters of another method, or numbers that do not form a valid map.
        """
        method = content.get("method")
        if method not in METHODS:
            raise ConfigError(f"calibration: method {method!r} is not known; expected one of {', '.join(METHODS)}.")
        given = {name: value for name, value in content.items() if name != "method"}
        if given.keys() != _PARAMETERS[method]:
            expected = ", ".join(sorted(_PARAMETERS[method])) or "no parameter"
            raise ConfigError(
                f"calibration: {method} has {', '.join(sorted(given)) or 'no parameter'}, expected {expected}."
            )
        try:
            return cls(
                method,
                slope=float(given.get("slope", 1.0)),
                intercept=float(given.get("intercept", 0.0)),
                knots=tuple((float(x), float(y)) for x, y in given.get("knots", ())),
            )
        except (TypeError, ValueError, OverflowError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"calibration: {method} has parameters that are not numbers.") from error

    def _along_knots(self, values: FloatValues) -> FloatValues:
        x, y = np.array(self.knots).T
        slopes = np.concatenate([[1.0], np.diff(y) / np.diff(x), [1.0]])  # before, between and after the knots
        place = np.searchsorted(x, values, side="right")  # how many knots are at or below the value
        below = np.maximum(place - 1, 0)
        line = y[below] + slopes[place] * (values - x[below])
        line = np.minimum(line, np.append(y, np.inf)[place])  # rounding must not raise it above the next knot
        return np.asarray(line, dtype=np.float64)

    def _find_problem(self) -> str | None:
        if self.method not in METHODS:
            return f"method {self.method!r} is not known; expected one of {', '.join(METHODS)}."
        if bool(self.knots) != (self.method == "isotonic"):
            return f"{self.method} has {len(self.knots)} knots."
        numbers = np.array([self.slope, self.intercept, *(value for knot in self.knots for value in knot)])
        if not np.isfinite(numbers).all():
            return f"{self.method} has a number that is not finite."
        if self.slope <= 0:
            return f"slope {self.slope}, expected more than 0."
        if np.abs(numbers).max() > _LARGEST or self.slope < 1 / _LARGEST or len(self.knots) > _MOST_KNOTS:
            return f"{self.method} has more than {_MOST_KNOTS:,} knots, or a number beyond {_LARGEST:g}."
        steps = np.diff(np.array(self.knots), axis=0) if self.knots else np.ones((1, 2))
        if (steps[:, 0] <= 0).any() or (steps[:, 1] < 0).any():
            return "the knots do not rise."
        with np.errstate(over="ignore"):
            if not np.isfinite(steps[:, 1] / steps[:, 0]).all():
                return "knots are too close to each other."
        return None


def read_calibrators(content: Mapping[str, Any], labels: Sequence[str]) -> tuple[Calibrator, ...]:
    """Read one calibrator per label, in label order.

    Args:
        content: Label -> the output of `Calibrator.to_plain`.
        labels: Ordered labels.

    Raises:
        ConfigError: a label is missing or not in `labels`, or its calibrator is not valid.
    """
    if set(content) != set(labels):
        raise ConfigError(f"calibration: has {', '.join(content) or 'no label'}; expected {', '.join(labels)}.")
    try:
        return tuple(Calibrator.from_plain(content[label]) for label in labels)
    except AttributeError as error:
        raise ConfigError("calibration: expected a method and its parameters for each label.") from error
