"""Strict JSON: no repeated names in an object, no NaN or infinity, and no number that would become one.

If a name is repeated, Python keeps the last value without an error, and other readers keep the first.
"""

import json
import math
from typing import Any


def parse_strictly(text: str | bytes, *, unique_names: bool = True) -> Any:
    """The value of a JSON text.

    Args:
        text: The text to read.
        unique_names: Refuse a name that is repeated in an object; otherwise its last value is used.

    Raises:
        ValueError: it is not JSON, or breaks the rule; `RepeatedName` for a repeated name, `NoNumber` for a value that
            is not a JSON number.
        RecursionError: it is nested very deeply.

    >>> parse_strictly('{"a": 1e300, "b": [2]}')
    {'a': 1e+300, 'b': [2]}
    """
    pairs = unique_pairs if unique_names else None
    return json.loads(text, object_pairs_hook=pairs, parse_constant=_refuse_constant, parse_float=_parse_finite)


class NoNumber(ValueError):
    """NaN, an infinity, or a number that would become one."""


class RepeatedName(ValueError):
    """A name is repeated in one object.

    Args:
        name: The name.
    """

    def __init__(self, name: str) -> None:
        super().__init__("a name is repeated in an object")
        self.name = name


def unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs of an object; for `object_pairs_hook`.

    Raises:
        RepeatedName: a name is repeated.

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
    raise NoNumber(f"{constant}, which is not a JSON number")


def _parse_finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise NoNumber("a number that is too large")
    return number
