"""Plain tables for the terminal."""

from collections.abc import Sequence

from moderation.escapes import escape_name


def align(rows: Sequence[Sequence[str]]) -> str:
    """Align columns: the first to the left, the others to the right. Line breaks are escaped.

    >>> print(align([["label", "F1"], ["toxic", "0.8"]]))
    label   F1
    toxic  0.8
    """
    rows = [[escape_name(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def number(value: float | None, digits: int = 3) -> str:
    """Write a number, or `n/a` if it is undefined.

    >>> number(0.5), number(None)
    ('0.500', 'n/a')
    """
    return "n/a" if value is None else f"{value:.{digits}f}"


def interval(bounds: Sequence[float] | None) -> str:
    """Write an interval, or nothing if there is none.

    >>> interval([0.25, 0.5])
    '[0.250, 0.500]'
    """
    return "" if bounds is None else f"[{bounds[0]:.3f}, {bounds[1]:.3f}]"
