"""File -> table: CSV, TSV, Parquet and JSON lines, each also compressed; every broken row is named by its number.

Row numbers in messages count the data rows from 1; a CSV header is not counted, and neither are empty lines. A message
never quotes a cell, nor what pyarrow says about one.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from moderation.data.compression import read_unpacked
from moderation.data.messages import show_rows as show_rows  # also for those who read tables
from moderation.errors import ConfigError, DataError

LIKELY_DELIMITERS = (",", ";", "\t", "|")
_LARGEST_BLOCK = 1 << 30  # pyarrow counts the bytes of a block in 32 bits


def read_table(path: Path, *, delimiter: str | None = None) -> pd.DataFrame:
    r"""Read a table from a file.

    Every cell of a CSV or TSV file arrives as the text that stands there: "null", "NA" and "NaN" are comments like any
    other, and an empty field is an empty text. Parquet and JSON lines keep the types of their file.

    Args:
        path: A file named `.csv`, `.tsv`, `.parquet`, `.jsonl` or `.ndjson`, each also with `.gz`, `.zip` (with one
            table in it) or `.zst`. Text is UTF-8, with or without a byte order mark.
        delimiter: Field delimiter of a CSV or TSV file, one character; default: a comma, for TSV a tab. Other formats
            have none and take no notice.

    Returns:
        The table; its index is 0..n-1 in the order of the file.

    Raises:
        DataError: no such file, a folder, an unknown ending, broken compression, no rows, another delimiter, another
            encoding than UTF-8, ragged rows (all of them, by number), two columns of one name, broken content.
        ConfigError: the delimiter is not one character.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "comments.csv"
        ...     _ = path.write_text("comment_text,toxic\nNA,0\n", encoding="utf-8")
        ...     read_table(path).to_dict("records")
        [{'comment_text': 'NA', 'toxic': '0'}]
    """
    ending, content = read_unpacked(path)
    if not content:
        raise DataError(f"{path}: the file is empty; expected a table of labelled comments.")
    if ending == ".parquet":
        table = _read_parquet(path, content)
    elif ending in (".jsonl", ".ndjson"):
        table = _read_json_lines(path, content)
    else:
        table = _read_csv(path, content, field_delimiter(delimiter, ending))
    check_column_names(table.column_names, str(path))
    if not table.num_rows:
        raise DataError(f"{path}: no rows; expected at least one below the header. Check that the export was complete.")
    frame: pd.DataFrame = _plain(table).to_pandas(ignore_metadata=True)
    return frame


def check_column_names(names: Iterable[object], where: str) -> None:
    """Refuse a table with two columns of one name.

    Raises:
        DataError: names the columns that stand twice.
    """
    names = list(names)
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{where}: column names that stand more than once: {show_names(twice)}. Expected each name once. "
            "Rename or remove the others."
        )


def show_names(names: Iterable[object]) -> str:
    """Join column names for a message; what may be a comment, since a header is missing, is shown by length alone.

    >>> show_names(["id", "comment_text", "You never told me that."])
    'id, comment_text, (a name of 23 characters)'
    """
    shown = [str(name) for name in names]
    if any(re.fullmatch(r"[\d.+-]+", name) for name in shown):
        return f"({len(shown)} names that look like a row of data: is the header missing?)"
    likely = re.compile(r"[A-Za-z_][\w.-]{0,39}", re.ASCII)
    parts = [name if likely.fullmatch(name) else f"(a name of {len(name)} characters)" for name in shown[:30]]
    return ", ".join(parts) + (f" and {len(shown) - 30} more" if len(shown) > 30 else "")


def field_delimiter(given: str | None, ending: str) -> str:
    """The delimiter of a CSV or TSV file: the one given, else a comma, for `.tsv` a tab.

    Raises:
        ConfigError: it is not one ASCII character.
    """
    if given is None:
        return "\t" if ending == ".tsv" else ","
    delimiter = "\t" if given == "\\t" else given  # a shell hands on the two characters that were typed
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
        raise ConfigError(
            f"--delimiter is {given!r}; expected one ASCII character such as ';', and neither a quote nor a line end."
        )
    return delimiter


def _check_utf8(path: Path, content: bytes) -> None:
    offsets = pa.py_buffer(np.array([0, len(content)], dtype=np.int64))
    try:  # Arrow validates in place; decoding would hold the file a second time, four times over with an emoji in it.
        pa.LargeStringArray.from_buffers(1, offsets, pa.py_buffer(content)).validate(full=True)
    except pa.ArrowInvalid:
        pass
    else:
        return
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        offset = error.start
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    encoding = "UTF-16" if utf16 else "LATIN1"
    raise DataError(
        f"{path}: not UTF-8; the first foreign byte is 0x{content[offset]:02x} at offset {offset}, "
        f"line {content.count(10, 0, offset) + 1}"
        f"{'; this looks like UTF-16' if utf16 else ''}. Convert the unpacked file, for example: "
        f"iconv -f {encoding} -t UTF-8 FILE > FILE.utf8 (or, from Excel, save as 'CSV UTF-8')."
    ) from None


def _read_csv(path: Path, content: bytes, delimiter: str) -> pa.Table:
    _check_utf8(path, content)
    header = _header(path, content, delimiter)
    check_column_names(header, str(path))
    _check_delimiter(path, header, delimiter)
    ragged: list[tuple[int, int]] = []

    def note(row: Any) -> str:
        ragged.append((row.number - 1, row.actual_columns))  # pyarrow counts the header too
        return "skip"

    try:
        table = pa.csv.read_csv(
            pa.BufferReader(content),
            # One thread, or the rows have no numbers; one block, or a long comment may not straddle two.
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=min(len(content) + 1, _LARGEST_BLOCK)),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), null_values=[], strings_can_be_null=False
            ),
        )
    except pa.ArrowException:
        raise DataError(
            f"{path}: not a readable table with the delimiter {delimiter!r}; expected a header and one row a comment. "
            "A quote that is opened and never closed does this, or a file of another format."
        ) from None
    if ragged:
        raise DataError(_describe_ragged(path, ragged, len(header)))
    _check_quotes(path, content, table)
    return table


def _header(path: Path, content: bytes, delimiter: str) -> list[str]:
    beginning = content[: 1 << 20].decode("utf-8-sig", errors="ignore")
    try:
        rows = csv.reader(io.StringIO(beginning, newline=""), delimiter=delimiter)
        return next(row for row in rows if row)
    except (csv.Error, StopIteration):
        raise DataError(f"{path}: no header; expected column names in the first line.") from None


def _check_delimiter(path: Path, header: list[str], delimiter: str) -> None:
    if len(header) > 1:
        return
    others = [other for other in LIKELY_DELIMITERS if other != delimiter and other in header[0]]
    if others:
        best = max(others, key=header[0].count)
        typed = "'\\t'" if best == "\t" else f"'{best}'"
        raise DataError(
            f"{path}: one column with the delimiter {delimiter!r}, and the header holds {best!r}; "
            f"expected a text column and label columns. Cure: --delimiter {typed}"
        )


def _describe_ragged(path: Path, ragged: list[tuple[int, int]], n_columns: int) -> str:
    counts = sorted({n_fields for _, n_fields in ragged})
    found = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    numbers = ", ".join(str(number) for number, _ in ragged[:200])
    more = f" and {len(ragged) - 200} more" if len(ragged) > 200 else ""
    return (
        f"{path}: {len(ragged)} row{'s' if len(ragged) > 1 else ''} with {found} fields; expected {n_columns}, as in "
        f"the header.\n  rows: {numbers}{more} (counted from 1 below the header, without empty lines)\n"
        "Put a text that holds the delimiter, a quote or a line end in double quotes, and double each quote within."
    )


def _check_quotes(path: Path, content: bytes, table: pa.Table) -> None:
    """A last field with a line end in it must end in a quote; else a quote stayed open and swallowed what follows."""
    if not table.num_rows:
        return
    last = table.column(table.num_columns - 1)[table.num_rows - 1].as_py()
    if ("\n" in last or "\r" in last) and not content.rstrip().endswith(b'"'):
        raise DataError(
            f"{path}: the quote opened in row {table.num_rows} is never closed, so the rest of the file counts as one "
            'field. Close it, and double each quote that belongs to a text ("").'
        )


def _read_parquet(path: Path, content: bytes) -> pa.Table:
    try:
        table = pa.parquet.ParquetFile(pa.BufferReader(content)).read()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError):
        raise DataError(
            f"{path}: not a complete Parquet file (truncated, damaged, or another format). Fetch or write it again."
        ) from None
    return table


def _read_json_lines(path: Path, content: bytes) -> pa.Table:
    _check_utf8(path, content)
    read: Callable[..., pa.Table] = pa.json.read_json
    options = pa.json.ReadOptions(block_size=min(len(content) + 1, _LARGEST_BLOCK))
    try:
        table = read(pa.BufferReader(content), read_options=options)
        times = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
        if times:  # pyarrow takes a column of dates for times; they are texts here like all others
            schema = pa.schema([(name, pa.string()) for name in times])
            parsing = pa.json.ParseOptions(explicit_schema=schema)
            table = read(pa.BufferReader(content), read_options=options, parse_options=parsing)
    except pa.ArrowException:
        raise DataError(_describe_broken_json(path, content)) from None
    return table


def _describe_broken_json(path: Path, content: bytes) -> str:
    """Say which lines are no JSON object, or which columns change their type; pyarrow names the first one alone."""
    broken: list[int] = []
    first_kinds: dict[str, tuple[str, int]] = {}
    changes: dict[str, str] = {}
    lines = (line for line in content.decode("utf-8-sig").split("\n") if line.strip())
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line, object_pairs_hook=_object)
            json.dumps(row, ensure_ascii=False).encode("utf-8")  # fails on half a surrogate pair
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            broken.append(number)
            continue
        for name, value in row.items():
            if value is None:
                continue
            kind, first = first_kinds.setdefault(name, (_kind(value), number))
            if _kind(value) != kind and name not in changes:
                changes[name] = f"{show_names([name])} ({kind} in row {first}, {_kind(value)} in row {number})"
    problems = [f"{len(broken)} lines are no JSON object of their own: {show_rows(broken)}"] if broken else []
    if changes:
        problems.append(f"columns whose type changes: {'; '.join(changes.values())}")
    return (
        f"{path}: not readable as JSON lines; expected one object a line with the same columns and types, such as "
        '{"comment_text": "…", "toxic": 0}.\n  '
        + "\n  ".join(problems or ["the content nests too deep or mixes types within a value"])
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError("a name stands twice")
    return row


def _kind(value: object) -> str:
    kinds: dict[type, str] = {str: "text", bool: "true or false", int: "number", float: "number", list: "list"}
    return kinds.get(type(value), "object")


def _plain(table: pa.Table) -> pa.Table:
    """Replace dictionary-encoded columns by their values, so that a text column is one of texts."""
    for position, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            values = table.column(position).cast(field.type.value_type)
            table = table.set_column(position, field.name, values)
    return table
