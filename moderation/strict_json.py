"""JSON by one strict rule: no name twice in an object, no NaN and no infinity, nor a number that would become one.

Of a name that stands twice Python keeps the last value in silence, and other readers the first.
"""

import json
import math
from typing import Any


def parse_strictly(text: str | bytes, *, unique_names: bool = True) -> Any:
    """The value of a JSON text.

    Args:
        text: To read.
        unique_names: Refuse a name that stands twice in an object; otherwise its last value is taken.

    Raises:
        ValueError: it is none, or breaks the rule; `RepeatedName` for a name that stands twice, `NoNumber` for what is
            no number of JSON.
        RecursionError: it nests very deep.

    >>> parse_strictly('{"a": 1e300, "b": [2]}')
    {'a': 1e+300, 'b': [2]}
    """
    pairs = unique_pairs if unique_names else None
    return json.loads(text, object_pairs_hook=pairs, parse_constant=_refuse_constant, parse_float=_parse_finite)


class NoNumber(ValueError):
    """NaN, an infinity, or a number that would become one."""


class RepeatedName(ValueError):
    """A name stands twice in one object.

    Args:
        name: Which one.
    """

    def __init__(self, name: str) -> None:
        super().__init__("a name that stands twice in an object")
        self.name = name


def unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs of an object; for `object_pairs_hook`.

    Raises:
        RepeatedName: a name stands twice.

    >>> unique_pairs([("a", 1), ("b", 2)])
    {'a': 1, 'b': 2}
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise RepeatedName(name)
            seen.add(name)
    return found


def _refuse_constant(constant: str) -> None:
    raise NoNumber(f"{constant}, which is no number of JSON")


def _parse_finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise NoNumber("a number that is too large")
    return number
