"""JSON by one strict rule, as hooks of `json.loads`: no name twice in an object, no NaN and no infinity.

Of a name that stands twice Python keeps the last value in silence, and other readers the first.
"""

from typing import Any


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

    >>> import json
    >>> json.loads('{"a": 1, "b": 2}', object_pairs_hook=unique_pairs)
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


def refuse_constant(constant: str) -> None:
    """Refuse NaN and infinities; for `parse_constant`.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{constant}, which is no number of JSON")
