"""Offsets in a text: in code points, as Python counts, and in UTF-16 units, as the Perspective API does."""

from collections.abc import Sequence


def to_utf16(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    r"""Offsets of code points as offsets of UTF-16 units, which JavaScript, Java and C# count.

    Args:
        text: Without halves of surrogate pairs.
        spans: Begin and end of each, in order and without overlap.

    >>> to_utf16("\N{GRINNING FACE} Nice day. You fool!", [(0, 11), (12, 21)])
    [(0, 12), (13, 22)]
    """
    if text.isascii():
        return list(spans)
    found = []
    place = units = 0
    for begin, end in spans:
        first = units + _count_units(text[place:begin])
        units = first + _count_units(text[begin:end])
        place = end
        found.append((first, units))
    return found


def _count_units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
