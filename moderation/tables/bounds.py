"""Limits on the parts of a table: the same ones for training and for scoring.

They are far beyond any table of comments. A file that breaks one is damaged, of another format, or made to fill memory.
docs/tables.md documents them for users.
"""

from typing import Final

from moderation.errors import DataError

CELL_BYTES: Final = 1 << 24
"""Maximum size of a field, of a line without its end, and of all fields of a row together."""

LINE_END: Final = 2
"""Bytes of the longest line end, CRLF."""

CELL_COST: Final = 50
"""Approximate bytes that a short cell takes in addition to its characters."""

ROW_BYTES: Final = 1 << 26
"""Maximum memory for reading a row of several lines."""

SKIPPED_BYTES: Final = 1 << 30
"""Maximum that is skipped of a line that is too long, to find its end."""

EMPTY_LINES: Final = 1_000_000
"""Maximum number of consecutive empty lines."""

COLUMNS: Final = 4096
"""Maximum number of columns, and of different names within JSON objects."""

NESTING: Final = 100
"""Maximum depth of objects and lists in a line of JSON."""

UNPACKED_RATIO: Final = 200
UNPACKED_STRETCH: Final = 1 << 26
"""A stretch of this many unpacked bytes must take at least a two hundredth of its size in the packed file."""

DIRECTORY_BYTES: Final = 1 << 26
"""Maximum size of the directory at the end of a Parquet file, which grows with its columns times its row groups."""

PAGE_BYTES: Final = 1 << 26
"""Maximum size of a page of a Parquet file, packed and unpacked; 1 MiB is usual."""

PAGE_VALUES: Final = 1 << 24
"""Maximum number of values in a page of a Parquet file; thousands are usual."""

DECODED_BYTES: Final = 1 << 26
"""Maximum size of the rows of a Parquet file that are decoded at once."""


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
