"""File -> table: CSV, TSV, Parquet and JSON lines, each also compressed; every broken row is named by its number.

Row numbers in messages count the data rows from 1; a CSV header is not counted, and neither are empty lines. A message
never quotes a cell, nor what pyarrow says about one.
"""

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from moderation.config.declaring import Quoting
from moderation.data.columns import check_column_names, show_names, show_rows, strip_blanks
from moderation.data.compression import read_unpacked
from moderation.data.csv_dialects import CsvDialect, suggest_delimiter
from moderation.data.csv_rows import RAGGED, open_csv
from moderation.data.encodings import LONGEST, UTF8, Utf8Recoder, check_is_text, guess_encoding, is_unicode
from moderation.data.json_objects import parse_object, read_lines
from moderation.errors import DataError

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 10_000
_LARGEST_BLOCK = 1 << 30  # pyarrow counts the bytes of a block in 32 bits


def read_table(
    path: Path, *, delimiter: str | None = None, quoting: Quoting = "standard", escape: str | None = None
) -> pd.DataFrame:
    r"""Read a table from a file.

    Every cell of a CSV or TSV file arrives as the text that stands there: "null", "NA" and "NaN" are comments like any
    other, and an empty field is an empty text. Parquet and JSON lines keep the types of their file. Blanks around the
    names of columns are left out, which is logged.

    Args:
        path: A file named `.csv`, `.tsv`, `.parquet`, `.jsonl` or `.ndjson`, each also with `.gz`, `.zip` (with one
            table in it) or `.zst`. Text is UTF-8, with or without a byte order mark, or UTF-16.
        delimiter: Field delimiter of a CSV or TSV file, one character; default: what a first line `sep=;` names, else a
            comma, for TSV a tab. Other formats have none and take no notice.
        quoting: What quotes mean in a CSV or TSV file, as `CsvDialect` has it.
        escape: Its escape character, as there.

    Returns:
        The table; its index is 0..n-1 in the order of the file.

    Raises:
        DataError: no such file, a folder, an unknown ending, broken compression, no rows, another delimiter, another
            encoding, rows that cannot be read by the strict rule of `csv_rows` (all of them, by number), two columns of
            one name, broken content.
        ConfigError: a delimiter or an escape that is not one character.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "comments.csv"
        ...     _ = path.write_text("comment_text,toxic\nNA,0\n", encoding="utf-8")
        ...     read_table(path).to_dict("records")
        [{'comment_text': 'NA', 'toxic': '0'}]
    """
    dialect = CsvDialect(delimiter=delimiter, quoting=quoting, escape=escape)
    ending, content = read_unpacked(path)
    if not content:
        raise DataError(f"{path}: the file is empty; expected a table of labelled comments.")
    if ending != ".parquet":
        check_is_text(content[:8], str(path))
    if ending == ".parquet":
        table = _read_parquet(path, content)
    elif ending in (".jsonl", ".ndjson"):
        table = _read_json_lines(path, _as_utf8(content))
    else:
        table = _read_csv(path, ending, content, dialect)
    table = _strip_names(path, table)
    if not table.num_rows:
        raise DataError(f"{path}: no rows; expected at least one below the header. Check that the export was complete.")
    try:
        frame: pd.DataFrame = _plain(table).to_pandas(ignore_metadata=True)
    except (pa.ArrowException, ValueError, OverflowError):
        raise DataError(
            f"{path}: some column holds values that cannot be used here, such as times of an unknown zone in objects. "
            "Write the file again without that column."
        ) from None
    return frame


def _as_utf8(content: bytes) -> bytes:
    encoding = guess_encoding(content[: 1 << 20])
    return content if encoding == UTF8 else Utf8Recoder(encoding).recode(content, final=True)


def _strip_names(path: Path, table: pa.Table) -> pa.Table:
    """Leave out blanks around the names of columns, and refuse two columns of one name."""
    names = [strip_blanks(name) for name in table.column_names]
    n_stripped = sum(name != found for name, found in zip(names, table.column_names, strict=True))
    if n_stripped:
        logger.info("%s: blanks left out around %d of the column names.", path, n_stripped)
    check_column_names(names, str(path))
    return table.rename_columns(names) if n_stripped else table


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
    raise DataError(
        f"{path}: not UTF-8; the first foreign byte is 0x{content[offset]:02x} at offset {offset}, "
        f"line {content.count(10, 0, offset) + 1}. Convert the unpacked file, for example: "
        "iconv -f LATIN1 -t UTF-8 FILE > FILE.utf8 (or, from Excel, save as 'CSV UTF-8')."
    ) from None


def _read_csv(path: Path, ending: str, content: bytes, dialect: CsvDialect) -> pa.Table:
    if guess_encoding(content[: 1 << 20]) == UTF8:
        _check_utf8(path, content)
    found = open_csv(io.BytesIO(content), str(path), ending, dialect)
    check_column_names(found.header, str(path))
    if found.n_stripped:
        logger.info("%s: blanks left out around %d of the column names.", path, found.n_stripped)
    typed = suggest_delimiter(found.header)
    if typed is not None:
        raise DataError(
            f"{path}: one column with the delimiter {found.delimiter!r}, and the header holds another one; expected a "
            f"text column and label columns. Cure: --delimiter {typed}"
        )
    schema = pa.schema([(name, pa.string()) for name in found.header])
    batches: list[pa.RecordBatch] = []
    rows: list[list[str]] = []
    problems: dict[str, list[int]] = {}

    def flush() -> None:
        columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
        batches.append(pa.RecordBatch.from_arrays(columns, schema=schema))
        rows.clear()

    for number, (fields, error) in enumerate(found.rows, start=1):
        if error is not None:
            problems.setdefault(error, []).append(number)
            continue
        rows.append(fields)
        if len(rows) == _ROWS_AT_ONCE:
            flush()
    if problems:
        raise DataError(_describe_rows(path, problems))
    if rows:
        flush()
    return pa.Table.from_batches(batches, schema)


def _describe_rows(path: Path, problems: dict[str, list[int]]) -> str:
    """Name all rows that cannot be read, those with too few or too many fields together."""
    ragged: dict[int, list[int]] = {}
    lines = []
    for error, numbers in problems.items():
        if counts := RAGGED.fullmatch(error):
            ragged.setdefault(int(counts[1]), []).extend(numbers)
            n_columns = counts[2]
        else:
            lines.append(f"{_count_rows(numbers)}: {error}.\n    {_list_rows(numbers)}")
    if ragged:
        found = f"{min(ragged)} field" if len(ragged) == 1 else f"{min(ragged)} to {max(ragged)} field"
        found += "" if set(ragged) == {1} else "s"
        numbers = sorted(number for rows in ragged.values() for number in rows)
        lines.append(
            f"{_count_rows(numbers)} with {found}; expected {n_columns}, as in the header. Put a text that "
            "holds the delimiter, a quote or a line end in double quotes, and double each quote within.\n"
            f"    {_list_rows(numbers)}"
        )
    return f"{path}: cannot be read as it is.\n  " + "\n  ".join(lines)


def _count_rows(numbers: list[int]) -> str:
    return f"{len(numbers)} row{'s' if len(numbers) > 1 else ''}"


def _list_rows(numbers: list[int]) -> str:
    more = f" and {len(numbers) - 200} more" if len(numbers) > 200 else ""
    shown = ", ".join(map(str, numbers[:200]))
    return f"rows: {shown}{more} (counted from 1 below the header, without empty lines)"


def _read_parquet(path: Path, content: bytes) -> pa.Table:
    try:
        table = pa.parquet.ParquetFile(pa.BufferReader(content)).read()
    except (pa.ArrowException, OSError, ValueError):
        raise DataError(
            f"{path}: not a complete Parquet file (truncated, damaged, or another format). Fetch or write it again."
        ) from None
    try:
        table.validate(full=True)
    except pa.ArrowException:
        raise DataError(
            f"{path}: some column holds what its type does not allow, such as texts that are not UTF-8. Mend it where "
            "the file is made, and write it again."
        ) from None
    return table


def _read_json_lines(path: Path, content: bytes) -> pa.Table:
    _check_utf8(path, content)
    problems = _find_broken_lines(content)
    if problems:  # before pyarrow sees them: it takes two objects on a line for two rows, and crashes on a line `null`
        raise DataError(_describe_broken_json(path, problems))
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
        raise DataError(_describe_broken_json(path, _find_changes_of_type(content))) from None
    return table


def _describe_broken_json(path: Path, problems: list[str]) -> str:
    return (
        f"{path}: not readable as JSON lines; expected one object a line with the same columns and types, such as "
        '{"comment_text": "…", "toxic": 0}.\n  '
        + "\n  ".join(
            problems or ["the content nests too deep, mixes types within a value, or holds a number that is too large"]
        )
    )


def _find_broken_lines(content: bytes) -> list[str]:
    """Which lines hold no object, and which a text that is none."""
    broken: list[int] = []
    halves: list[int] = []
    for number, line in enumerate(read_lines(io.BytesIO(content), LONGEST), start=1):
        row = parse_object(line)
        if line is None or row is None:
            broken.append(number)
        elif "\\u" in line and not is_unicode(json.dumps(row, ensure_ascii=False)):
            halves.append(number)
    found = ((broken, "no JSON object of their own"), (halves, "half a surrogate pair, which is no text"))
    return [
        f"{what}: {len(rows)} line{'s' if len(rows) > 1 else ''} ({show_rows(rows)})" for rows, what in found if rows
    ]


def _find_changes_of_type(content: bytes) -> list[str]:
    """Which columns change their type; pyarrow names the first one alone."""
    first_kinds: dict[str, tuple[str, int]] = {}
    changes: dict[str, str] = {}
    for number, line in enumerate(read_lines(io.BytesIO(content), LONGEST), start=1):
        for name, value in (parse_object(line) or {}).items():
            if value is None:
                continue
            kind, first = first_kinds.setdefault(name, (_kind(value), number))
            if _kind(value) != kind and name not in changes:
                changes[name] = f"{show_names([name])} ({kind} in row {first}, {_kind(value)} in row {number})"
    return [f"columns whose type changes: {'; '.join(changes.values())}"] if changes else []


def _kind(value: object) -> str:
    kinds: dict[type, str] = {str: "text", bool: "true or false", int: "number", float: "number", list: "list"}
    return kinds.get(type(value), "object")


def _plain(table: pa.Table) -> pa.Table:
    """Replace dictionary-encoded columns by their values, and zones, which may be unknown here, by UTC."""
    for position, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            kind = pa.timestamp(kind.unit, "UTC")
        if kind != field.type:
            table = table.set_column(position, field.name, table.column(position).cast(kind))
    return table
