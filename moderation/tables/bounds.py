"""How large the parts of a table may be: one set of bounds for training and for scoring.

They lie far beyond any table of comments. What breaks one is damaged, of another format, or made to fill the memory.
docs/tables.md tells them to users.
"""

from typing import Final

from moderation.errors import DataError

CELL_BYTES: Final = 1 << 24
"""Of a field, a line without its end, or all fields of a row: so many are taken, and not one more."""

LINE_END: Final = 2
"""Bytes of the longest end of a line."""

CELL_COST: Final = 50
"""Bytes that holding a short cell takes beside its characters; about."""

ROW_BYTES: Final = 1 << 26
"""That reading a row of several lines may take."""

SKIPPED_BYTES: Final = 1 << 30
"""Of a line that is too long: so much of it is passed over to find its end."""

EMPTY_LINES: Final = 1_000_000
"""That follow each other."""

COLUMNS: Final = 4096
"""Also different names within JSON objects."""

NESTING: Final = 100
"""Objects and lists within each other in a line of JSON."""

UNPACKED_RATIO: Final = 200
UNPACKED_STRETCH: Final = 1 << 26
"""No stretch of so many unpacked bytes may take less than a two hundredth of them in the packed file."""

DIRECTORY_BYTES: Final = 1 << 26
"""Of the directory at the end of a Parquet file, which grows with its columns times its row groups."""

PAGE_BYTES: Final = 1 << 26
"""Of a page of a Parquet file, packed and unpacked; usual are 1 MiB."""

PAGE_VALUES: Final = 1 << 24
"""In a page of a Parquet file; usual are thousands."""

DECODED_BYTES: Final = 1 << 26
"""Of a Parquet file's column, decoded at once."""


def is_too_long(n_bytes: int) -> bool:
    """Whether a field, a line without its end, or all fields of a row break their bound."""
    return n_bytes > CELL_BYTES


def endless_line(where: str, number: int) -> DataError:
    """The error of a line, counted from 1, of which no end is found."""
    what = f"line {number:,} does not end within {SKIPPED_BYTES >> 20:,} MiB"
    return DataError(f"{where}: {what}, as in no table. Is the file damaged, or of another format?")


def too_many_empty_lines(where: str, number: int) -> DataError:
    """The error of empty lines that come to no end up to a line, counted from 1."""
    what = f"up to line {number:,} more than {EMPTY_LINES:,} empty lines follow each other"
    return DataError(f"{where}: {what}, as in no table. Is the file damaged, or of another format?")
