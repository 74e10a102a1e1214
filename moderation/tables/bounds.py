"""Limits on the parts of a table: the same ones for training and for scoring.

They are far beyond any table of comments. A file that breaks one is damaged, of another format, or made to fill memory.
docs/tables.md documents them for users.
"""

from typing import Final

from moderation.errors import DataError

CELL_BYTES: Final = 1 << 24
"""Of a field, a line without its end, or all fields of a row: this many are allowed, and not one more."""

LINE_END: Final = 2
"""Bytes of the longest end of a line."""

CELL_COST: Final = 50
"""Approximate bytes that a short cell takes in addition to its characters."""

ROW_BYTES: Final = 1 << 26
"""Memory that reading a row of several lines may take."""

SKIPPED_BYTES: Final = 1 << 30
"""How much of a line that is too long is skipped to find its end."""

EMPTY_LINES: Final = 1_000_000
"""Consecutive empty lines."""

COLUMNS: Final = 4096
"""Also the limit of different names within JSON objects."""

NESTING: Final = 100
"""Objects and lists within each other in a line of JSON."""

UNPACKED_RATIO: Final = 200
UNPACKED_STRETCH: Final = 1 << 26
"""No stretch of this many unpacked bytes may take less than a two hundredth of them in the packed file."""

DIRECTORY_BYTES: Final = 1 << 26
"""Of the directory at the end of a Parquet file, which grows with its columns times its row groups."""

PAGE_BYTES: Final = 1 << 26
"""Of a page of a Parquet file, packed and unpacked; 1 MiB is usual."""

PAGE_VALUES: Final = 1 << 24
"""In a page of a Parquet file; thousands are usual."""

DECODED_BYTES: Final = 1 << 26
"""Of a Parquet file's column, decoded at once."""


def is_too_long(n_bytes: int) -> bool:
    """Whether a field, a line without its end, or all fields of a row exceed their limit."""
    return n_bytes > CELL_BYTES


def endless_line(where: str, number: int) -> DataError:
    """The error for a line, counted from 1, that does not end."""
    what = f"line {number:,} does not end within {SKIPPED_BYTES >> 20:,} MiB"
    return DataError(f"{where}: {what}, which no table has. Is the file damaged, or of another format?")


def too_many_empty_lines(where: str, number: int) -> DataError:
    """The error for empty lines that do not end before a line, counted from 1."""
    what = f"up to line {number:,} more than {EMPTY_LINES:,} empty lines in a row"
    return DataError(f"{where}: {what}, which no table has. Is the file damaged, or of another format?")
