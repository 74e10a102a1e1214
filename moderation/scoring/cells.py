"""Values of Arrow columns as text: CSV cells and JSON."""

import base64
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from moderation.escapes import CONTROLS
from moderation.scoring.json_lines import OBJECT
from moderation.scoring.records import FLAGGED, join_flagged, number_text

_UNSEEN = rf"\s\u200c\u200d{CONTROLS}"  # with the joiners, which are not escaped
_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212"  # narrow, full-width, small, the sign of minus
_FORMULA = re.compile(rf"[{_UNSEEN}]*[{_SIGNS}]|[\t\r\n]")
_LATER_FORMULA = re.compile(rf'["{_UNSEEN}]*[{_SIGNS}]')  # in the middle of a cell, if another delimiter cuts it
_SEPARATORS = ";,|\t\r\n"  # between cells, in one spreadsheet program or another
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|-inf")
_NO_VALUE = (ValueError, OverflowError, pa.ArrowException)  # for a value that Python cannot represent


def encode_csv(batch: pa.RecordBatch, delimiter: str, *, safe: bool = False) -> bytes:
    r"""Rows as lines of a CSV file, without a header.

    Args:
        batch: The rows.
        delimiter: Between two cells.
        safe: Put an apostrophe before text that a spreadsheet would run; see `as_plain_cell`.

    >>> encode_csv(pa.RecordBatch.from_pydict({"text": ["a,b", None], "p": [0.5, 1.0]}), ",")
    b'"a,b",0.5\n,1.0\n'
    """
    cells = [_as_cells(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
    return _join(cells, delimiter, safe=safe)


def encode_header(names: Sequence[str], delimiter: str, *, safe: bool = False) -> bytes:
    """Column names as the first line of a CSV file."""
    return _join([[name] for name in names], delimiter, safe=safe)


def as_plain_cell(cell: str, delimiter: str = ",") -> str:
    r"""Return a cell that no spreadsheet runs as a formula: if it might be one, put an apostrophe in front.

    Spreadsheets skip blanks, and some read full-width signs like normal ones. Plain numbers stay as they are.
    A spreadsheet that expects another delimiter cuts cells at that one, even within quotes, so the text after it gets
    an apostrophe as well.

    Args:
        cell: Its text.
        delimiter: Of the file.

    >>> as_plain_cell("=1+1"), as_plain_cell(" @SUM(A1)"), as_plain_cell("-0.5"), as_plain_cell("a=b")
    ("'=1+1", "' @SUM(A1)", '-0.5', 'a=b')
    >>> as_plain_cell("hi;=1+1"), as_plain_cell("hi,=1+1"), as_plain_cell("hi,=1+1", "\t")
    ("hi;'=1+1", 'hi,=1+1', "hi,'=1+1")
    """
    foreign = _SEPARATORS.replace(delimiter, "")
    marked = re.sub(f"(?<=[{foreign}])[^{foreign}]+", lambda piece: _mark(piece[0]), cell)
    return f"'{marked}" if _is_formula(cell, _FORMULA) else marked


def _mark(piece: str) -> str:
    return f"'{piece}" if _is_formula(piece, _LATER_FORMULA) else piece


def _is_formula(cell: str, formula: re.Pattern[str]) -> bool:
    return bool(formula.match(cell)) and not _NUMBER.fullmatch(cell)


def encode_json_lines(batch: pa.RecordBatch) -> bytes:
    r"""Rows as JSON lines.

    >>> encode_json_lines(pa.RecordBatch.from_pydict({"text": ["a", None], "p": [0.5, 1.0]}))
    b'{"text": "a", "p": 0.5}\n{"text": null, "p": 1.0}\n'
    """
    names = batch.schema.names
    kept = names.index(OBJECT) if OBJECT in names else None
    first = 0 if kept is None else kept + 2  # after the objects and the text that each of them holds
    keys = [json.dumps(name, ensure_ascii=False) for name in names[first:]]
    columns = [_as_json(column) for column in batch.columns[first:]]
    added = [
        ", ".join(f"{key}: {cell}" for key, cell in zip(keys, cells, strict=True))
        for cells in zip(*columns, strict=True)
    ]
    if kept is None:
        lines = [f"{{{cells}}}\n" for cells in added]
    else:
        lines = [_add(line, cells) for line, cells in zip(batch.column(kept).to_pylist(), added, strict=True)]
    return "".join(lines).encode("utf-8")


def _add(line: str | None, cells: str) -> str:
    """Add cells to the object of a line; None: the line did not hold an object, so only the cells are written."""
    if line is None:
        return f"{{{cells}}}\n"
    kept = line[:-1].rstrip()
    return f"{kept}{'' if kept.endswith('{') else ', '}{cells}}}\n"


def _join(columns: list[list[str]], delimiter: str, *, safe: bool) -> bytes:
    special = re.compile(f'["\r\n{re.escape(delimiter)}]|^\ufeff')  # the last would be read as a byte order mark

    def quote(cell: str) -> str:
        cell = as_plain_cell(cell, delimiter) if safe else cell
        return '"' + cell.replace('"', '""') + '"' if special.search(cell) else cell

    quoted = [[quote(cell) for cell in column] for column in columns]
    return "".join(f"{delimiter.join(cells)}\n" for cells in zip(*quoted, strict=True)).encode("utf-8")


def _as_cells(name: str, column: pa.Array) -> list[str]:
    """Values as text; null becomes an empty string."""
    if pa.types.is_float32(column.type):
        return [
            "" if value is None else number_text(value) if np.isfinite(value) else str(value)
            for value in _floats(column)
        ]
    values = _values(column)
    if name == FLAGGED and pa.types.is_list(column.type):
        return [join_flagged(value or ()) for value in values]
    return ["" if value is None else _as_cell(value) for value in values]


def _floats(column: pa.Array) -> list[np.float32 | None]:
    """Numbers as numpy float32, which Python's floats cannot represent; None for null."""
    numbers = column.fill_null(0).to_numpy(zero_copy_only=False)
    nulls = column.is_null().to_numpy(zero_copy_only=False)
    return [None if null else value for value, null in zip(numbers, nulls, strict=True)]


def _as_cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (list, dict)):
        return _dump(value)
    plain = _plain(value)
    return plain if isinstance(plain, str) else _dump(plain) if isinstance(plain, bool) else str(plain)


def _as_json(column: pa.Array) -> list[str]:
    """Values as JSON; NaN and infinity, which JSON lacks, become null."""
    if pa.types.is_float32(column.type):
        return ["null" if value is None else number_text(value) for value in _floats(column)]
    return [_dump(value) for value in _values(column)]


def _dump(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """A value that JSON lacks (time, decimal, bytes) as text."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value if isinstance(value, (bool, int, float)) else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value


def _values(column: pa.Array) -> list[Any]:
    """Python values; values that Python cannot represent, which Parquet files may hold, become text."""
    column = _with_whole_times(column)
    try:
        return list(column.to_pylist())
    except _NO_VALUE:
        return [_value(column.slice(row, 1)) for row in range(len(column))]


def _with_whole_times(column: pa.Array) -> pa.Array:
    """The column with nanosecond times as text: Python has none, and Arrow would truncate them."""
    kind = _text_for_times(column.type)
    try:
        return column if kind == column.type else column.cast(kind)
    except pa.ArrowException:
        return column


def _text_for_times(kind: pa.DataType) -> pa.DataType:
    """The type with text in place of nanosecond times, at any depth."""
    if kind == pa.time64("ns"):
        return pa.string()
    if pa.types.is_map(kind):
        return pa.map_(_text_for_times(kind.key_type), _text_for_times(kind.item_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_text_for_times(field.type)) for field in kind])
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return kind
    inner = kind.value_field.with_type(_text_for_times(kind.value_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(inner, kind.list_size)
    return pa.large_list(inner) if pa.types.is_large_list(kind) else pa.list_(inner)


def _value(single: pa.Array) -> Any:
    """The value of a one-element array: text that is not UTF-8 with escapes, distant times as Arrow writes them."""
    kind = single.type
    try:
        return single[0].as_py()
    except UnicodeDecodeError:
        if pa.types.is_nested(kind):
            return "(not UTF-8)"
        content: bytes = single.cast(pa.large_string()).cast(pa.large_binary())[0].as_py()
        return content.decode("utf-8", "backslashreplace")
    except _NO_VALUE:
        if pa.types.is_timestamp(kind) and kind.tz is not None:  # the time zone may be unknown, but not the time
            single = single.cast(pa.timestamp(kind.unit, "UTC"))
        try:
            return single.cast(pa.string())[0].as_py()
        except pa.ArrowException:  # for example lists and objects
            return "(not a Python value)"
