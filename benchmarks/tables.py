"""The output of every benchmark: rows of a table, and named ratios."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moderation import artifacts
from moderation.text_tables import align


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows under their common keys, in the order of the first row."""
    header = list(rows[0])
    print(align([header, *([show(row[name]) for name in header] for row in rows)]))


def write_json(path: Path, rows: Sequence[Mapping[str, Any]], ratios: Mapping[str, float]) -> None:
    """Write the rows and the ratios, unrounded."""
    artifacts.write_json(Path(path), {"rows": [dict(row) for row in rows], "ratios": dict(ratios)})


def show(value: Any) -> str:
    """Format a cell: about four digits of a number, `n/a` for None.

    >>> show(0.97864), show(31.26), show(1234.5), show(None)
    ('0.9786', '31.3', '1,234', 'n/a')
    """
    if value is None:
        return "n/a"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        size = abs(value)
        return f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2 if size > 1 else 4}f}"
    return str(value)
