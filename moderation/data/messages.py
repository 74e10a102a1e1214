"""How messages about tables name rows."""

from collections.abc import Iterable


def show_rows(rows: Iterable[int]) -> str:
    """Write the first five of some row numbers, which count from 1.

    >>> show_rows([3, 4, 9, 12, 40, 77])
    'rows 3, 4, 9, 12, 40, …'
    >>> show_rows([3])
    'row 3'
    """
    numbers = [str(int(row)) for row in rows]
    return f"row{'s' if len(numbers) > 1 else ''} {', '.join(numbers[:5])}{', …' if len(numbers) > 5 else ''}"
