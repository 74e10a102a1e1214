"""File -> table: CSV, TSV, Parquet and JSON lines, each also compressed; every broken row is reported by its number.

Row numbers in messages count the data rows from 1; neither a CSV header nor empty lines are counted. A message
never quotes a cell, nor pyarrow's message about one.
"""

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from moderation.errors import DataError
from moderation.tables import bounds
from moderation.tables.columns import check_column_names, show_names, show_rows, strip_blanks
from moderation.tables.compression import open_unpacked, reading
from moderation.tables.csv_dialects import CsvDialect, suggest_delimiter
from moderation.tables.csv_rows import RAGGED, TOO_LONG, open_csv
from moderation.tables.encodings import check_is_text, is_unicode
from moderation.tables.json_objects import parse_object, read_lines
from moderation.tables.options import Quoting
from moderation.tables.parquet_files import open_parquet
from moderation.tables.whole_files import HELD_PER_BYTE, Room, read_lines_whole, text_pieces

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 10_000
_BYTES_AT_ONCE = 1 << 24
_MOST_WRONG_ROWS = 100_000  # to list
_LARGEST_BLOCK = 1 << 30  # pyarrow counts the bytes of a block in 32 bits


def read_table(
    path: Path, *, delimiter: str | None = None, quoting: Quoting = "standard", escape: str | None = None
) -> pd.DataFrame:
    r"""Read a table from a file.

    Every cell of a CSV or TSV file is returned as its text: "null", "NA" and "NaN" are comments like any
    other, and an empty field is an empty text. Parquet and JSON lines keep the types of their file. Blanks around the
    names of columns are removed, which is logged.

    Args:
        path: A file named `.csv`, `.tsv`, `.parquet`, `.jsonl` or `.ndjson`, each also with `.gz`, `.zip` (with one
            table in it) or `.zst`. Text is UTF-8, with or without a byte order mark, or UTF-16.
        delimiter: Field delimiter of a CSV or TSV file, one character; default: the one in a first line `sep=;`,
            otherwise a comma, for TSV a tab. Other formats ignore it.
        quoting: The meaning of quotes in a CSV or TSV file, as in `CsvDialect`.
        escape: Its escape character, as in `CsvDialect`.

    Returns:
        The table; its index is 0..n-1 in the order of the file.

    Raises:
        DataError: no such file, a folder, an unknown ending, broken compression, no rows, another delimiter, another
            encoding, rows that cannot be read by the strict rule of `csv_rows` (all of them, by number), two columns of
            one name, broken content, a limit of `bounds` that is exceeded, more than the free memory can hold.
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
    with open_unpacked(path) as (ending, stream, _), reading(path):
        beginning = stream.read(8)
    if not beginning:
        raise DataError(f"{path}: the file is empty; expected a table of labelled comments.")
    if ending != ".parquet":
        check_is_text(beginning, str(path))
    if ending == ".parquet":
        table = _read_parquet(path)
    elif ending in (".jsonl", ".ndjson"):
        table = _read_json_lines(path)
    else:
        table = _read_csv(path, ending, dialect)
    table = _strip_names(path, table)
    if not table.num_rows:
        raise DataError(f"{path}: no rows; expected at least one below the header. Check that the export was complete.")
    try:
        frame: pd.DataFrame = _in_utc(table).to_pandas(ignore_metadata=True)
    except MemoryError:
        raise
    except (pa.ArrowException, ValueError, OverflowError):
        raise DataError(
            f"{path}: a column has values that cannot be used here, such as times of an unknown zone in objects. "
            "Write the file again without that column."
        ) from None
    return frame


def _strip_names(path: Path, table: pa.Table) -> pa.Table:
    """Remove blanks around the names of columns, and refuse two columns of the same name."""
    names = [strip_blanks(name) for name in table.column_names]
    n_stripped = sum(name != found for name, found in zip(names, table.column_names, strict=True))
    if n_stripped:
        logger.info("%s: blanks removed around %d of the column names.", path, n_stripped)
    check_column_names(names, str(path))
    return table.rename_columns(names) if n_stripped else table


def _read_csv(path: Path, ending: str, dialect: CsvDialect) -> pa.Table:
    for _ in text_pieces(path):
        pass
    with open_unpacked(path) as (_, stream, _), reading(path):
        return _read_csv_stream(path, ending, stream, dialect)


def _read_csv_stream(path: Path, ending: str, stream: IO[bytes], dialect: CsvDialect) -> pa.Table:
    found = open_csv(stream, str(path), ending, dialect)
    check_column_names(found.header, str(path))
    if found.n_stripped:
        logger.info("%s: blanks removed around %d of the column names.", path, found.n_stripped)
    typed = suggest_delimiter(found.header)
    if typed is not None:
        raise DataError(
            f"{path}: one column with the delimiter {found.delimiter!r}, but the header contains another one; "
            f"expected a text column and label columns. Use --delimiter {typed}"
        )
    schema = pa.schema([(name, pa.string()) for name in found.header])
    batches: list[pa.RecordBatch] = []
    rows: list[list[str]] = []
    size = n_wrong = 0
    problems: dict[str, list[int]] = {}

    def flush() -> None:
        columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
        batches.append(pa.RecordBatch.from_arrays(columns, schema=schema))
        rows.clear()

    for number, (fields, error) in enumerate(found.rows, start=1):
        if error is not None:
            problems.setdefault(error, []).append(number)
            n_wrong += 1
            if n_wrong == _MOST_WRONG_ROWS:
                break
            continue
        if problems:  # the table will be refused: read on only to find more problems
            continue
        rows.append(fields)
        size += sum(map(len, fields)) + bounds.CELL_COST * len(fields)
        if len(rows) == _ROWS_AT_ONCE or size >= _BYTES_AT_ONCE:
            flush()
            size = 0
    if problems:
        raise DataError(_describe_rows(path, problems))
    if rows:
        flush()
    return pa.Table.from_batches(batches, schema)


def _describe_rows(path: Path, problems: dict[str, list[int]]) -> str:
    """List all rows that cannot be read, with one entry for all that have too few or too many fields."""
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
            "contains the delimiter, a quote or a line end in double quotes, and double each quote within.\n"
            f"    {_list_rows(numbers)}"
        )
    return f"{path}: cannot be read as it is.\n  " + "\n  ".join(lines)


def _count_rows(numbers: list[int]) -> str:
    return f"{len(numbers)} row{'s' if len(numbers) > 1 else ''}"


def _list_rows(numbers: list[int]) -> str:
    more = f" and {len(numbers) - 200} more" if len(numbers) > 200 else ""
    shown = ", ".join(map(str, numbers[:200]))
    return f"rows: {shown}{more} (counted from 1 below the header, without empty lines)"


def _read_parquet(path: Path) -> pa.Table:
    room = Room(path)
    with open_parquet(path) as table:
        room.check(table.n_bytes)
        batches, n_rows, n_bytes = [], 0, 0
        for batch in table.batches():
            _check_values(path, batch, n_rows)
            batches.append(batch)
            n_rows, n_bytes = n_rows + batch.num_rows, n_bytes + _held_bytes(batch)
            room.check(n_bytes)
        return pa.Table.from_batches(batches, table.schema)


def _held_bytes(batch: pa.RecordBatch) -> int:
    """Peak memory of rows; texts are held several times, also as Python objects."""
    n_bytes: int = batch.nbytes
    texts: int = sum(column.nbytes for column in batch.columns if column.type in (pa.string(), pa.large_string()))
    return 2 * (n_bytes - texts) + HELD_PER_BYTE * texts


def _check_values(path: Path, batch: pa.RecordBatch, n_before: int) -> None:
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        raise DataError(
            f"{path}: a column has values that its type does not allow, such as texts that are not UTF-8. Fix it where "
            "the file is made, and write it again."
        ) from None
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if column.nbytes > bounds.CELL_BYTES and column.type in (pa.string(), pa.large_string()):
            wrong = pc.indices_nonzero(pc.greater(pc.binary_length(column), bounds.CELL_BYTES)).to_pylist()
            if wrong:
                rows = show_rows(n_before + 1 + row for row in wrong)
                raise DataError(f"{path}: {TOO_LONG} in the column {show_names([name])} ({rows}). Shorten the text.")


def _read_json_lines(path: Path) -> pa.Table:
    content = read_lines_whole(path)
    problems = _find_broken_lines(path, content)
    if problems:  # before pyarrow sees them: it reads two objects on a line as two rows, and crashes on a line `null`
        raise DataError(_describe_broken_json(path, problems))
    read: Callable[..., pa.Table] = pa.json.read_json
    options = pa.json.ReadOptions(block_size=min(len(content) + 1, _LARGEST_BLOCK))
    try:
        table = read(pa.BufferReader(content), read_options=options)
        times = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
        if times:  # pyarrow reads a column of dates as times; here they are texts like all others
            schema = pa.schema([(name, pa.string()) for name in times])
            parsing = pa.json.ParseOptions(explicit_schema=schema)
            table = read(pa.BufferReader(content), read_options=options, parse_options=parsing)
    except MemoryError:
        raise
    except pa.ArrowException:
        raise DataError(_describe_broken_json(path, _find_changes_of_type(path, content))) from None
    return table


def _describe_broken_json(path: Path, problems: list[str]) -> str:
    return (
        f"{path}: not readable as JSON lines; expected one object per line with the same columns and types, such as "
        '{"comment_text": "…", "toxic": 0}.\n  '
        + "\n  ".join(
            problems
            or ["the content is nested too deeply, mixes types within a value, or has a number that is too large"]
        )
    )


def _find_broken_lines(path: Path, content: bytes) -> list[str]:
    """Which lines have no object, and which have an invalid text.

    Raises:
        DataError: the objects have more names than a table may have columns, or do not fit into memory.
    """
    broken: list[int] = []
    halves: list[int] = []
    names: set[tuple[str, ...]] = set()
    n_rows = 0
    for number, line in enumerate(read_lines(io.BytesIO(content), str(path)), start=1):
        n_rows, row = number, parse_object(line)
        if line is None or row is None:
            broken.append(number)
        elif "\\u" in line and not is_unicode(json.dumps(row, ensure_ascii=False)):
            halves.append(number)
        _add_names(row, (), names)
        if len(names) > bounds.COLUMNS:
            raise DataError(
                f"{path}: up to row {number:,} the objects have more than {bounds.COLUMNS:,} different names, too many "
                "for columns of a table. Leave out objects that use values as names."
            )
        if len(broken) + len(halves) == _MOST_WRONG_ROWS:
            break
    Room(path).check(n_rows * len(names) * 8)  # each row takes space in each column
    found = ((broken, "not one JSON object per line"), (halves, "half a surrogate pair, which is not text"))
    return [
        f"{what}: {len(rows)} line{'s' if len(rows) > 1 else ''} ({show_rows(rows)})" for rows, what in found if rows
    ]


def _add_names(value: object, within: tuple[str, ...], names: set[tuple[str, ...]]) -> None:
    """Add the names of an object and of the objects in it; the content of lists counts as within them."""
    if isinstance(value, dict):
        for name, inner in value.items():
            names.add((*within, name))
            if isinstance(inner, (dict, list)):
                _add_names(inner, (*within, name), names)
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, (dict, list)):
                _add_names(inner, within, names)


def _find_changes_of_type(path: Path, content: bytes) -> list[str]:
    """Which columns change their type; pyarrow names only the first one."""
    first_kinds: dict[str, tuple[str, int]] = {}
    changes: dict[str, str] = {}
    for number, line in enumerate(read_lines(io.BytesIO(content), str(path)), start=1):
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


def _in_utc(table: pa.Table) -> pa.Table:
    """Replace time zones, which may be unknown here, by UTC."""
    for position, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz is not None:
            kind = pa.timestamp(field.type.unit, "UTC")
            table = table.set_column(position, field.name, table.column(position).cast(kind))
    return table
