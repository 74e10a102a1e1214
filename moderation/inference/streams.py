"""Files as streams of chunks, in constant memory: CSV, TSV, Parquet and JSON lines, also compressed.

Other than for training, a row that cannot be read is no reason to stop: it becomes a row with an error. A chunk has a
fixed number of rows, fewer where they hold very much text, so that the same file is always cut alike.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet

from moderation.data.columns import check_column_names, find_text_column, show_names
from moderation.data.compression import DAMAGED, damaged, open_unpacked
from moderation.data.csv_dialects import CsvDialect, suggest_delimiter
from moderation.data.csv_rows import CsvTable, open_csv
from moderation.data.encodings import LONGEST, as_utf8, check_is_text
from moderation.data.json_objects import read_lines
from moderation.errors import DataError
from moderation.inference.json_lines import object_batch, scan_objects
from moderation.inference.scoring import is_text

CHUNK_BYTES = 1 << 26  # of text: a chunk that reaches them ends, however few rows it has

logger = logging.getLogger(__name__)

_STANDARD = CsvDialect()
_PARQUET_ROWS = 128  # decoded at once: a megabyte of text in each still fits the memory


@dataclass(frozen=True)
class Chunk:
    """Some rows of a table.

    Args:
        batch: The rows.
        errors: What is wrong with each row; string, null where nothing is.
        share: How much of the file has been read, 0 to 1.
    """

    batch: pa.RecordBatch
    errors: pa.Array
    share: float = 0.0


@dataclass(frozen=True)
class StreamedTable:
    """A table in a file.

    Args:
        names: Its columns.
        text_column: Which of them holds the texts.
        schema: Columns of the chunks: the same, but for objects that are kept as they are.
        n_rows: How many rows it has; None: nobody knows before they are read.
        chunks: Rows per chunk -> the chunks, from the first row on at each call.
    """

    names: tuple[str, ...]
    text_column: str
    schema: pa.Schema
    n_rows: int | None
    chunks: Callable[[int], Iterator[Chunk]]


def open_table(
    path: Path, *, text_column: str, dialect: CsvDialect = _STANDARD, keep_objects: bool = False
) -> StreamedTable:
    r"""Open a file and learn its columns.

    Cells of CSV and TSV files are text as it stands there, read by the strict rule of `data.csv_rows`: what is wrong
    with a row is its error; fields that are missing then are null, those too many are joined in the last one, and bytes
    that are not UTF-8 are shown as `\xe9`. Parquet keeps its types. JSON lines are read through once for their columns:
    one that always holds texts, numbers of one kind, or true and false keeps that type; any other holds JSON text.

    Args:
        path: Named as `data.reading.read_table` takes it.
        text_column: Column of the texts; where the default is not there, `data.columns.find_text_column` looks for it.
        dialect: How a CSV or TSV file is written.
        keep_objects: Give the lines of a JSON lines file as they stand, in the column `json_lines.OBJECT`, and
            beside it the text column alone.

    Raises:
        DataError: no such file, an unknown ending, no or another text column, two columns of one name, not the format
            that the ending names. Broken compression and the like may also come up in the middle of the chunks.
    """
    with open_unpacked(path) as (ending, stream, _packed), _reading(path):
        beginning = stream.read(8)
    if ending != ".parquet":
        check_is_text(beginning, str(path))
    if ending == ".parquet":
        table = _open_parquet(path, text_column)
    elif ending in (".jsonl", ".ndjson"):
        table = _open_json_lines(path, text_column, keep_objects)
    else:
        table = _open_csv(path, text_column, dialect)
    _check_text_column(path, table)
    return table


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGED:
        raise damaged(path) from None


def _check_text_column(path: Path, table: StreamedTable) -> None:
    text_column = table.text_column
    check_column_names(table.names, str(path))
    if text_column not in table.names:
        typed = suggest_delimiter(table.names)
        cure = f", or the delimiter with --delimiter {typed}" if typed else ""
        raise DataError(
            f"{path}: no column {text_column!r}; the columns are: {show_names(table.names)}. "
            f"Name the one that holds the texts with --text-column{cure}."
        )
    kind = table.schema.field(text_column).type
    if not is_text(kind):
        raise DataError(f"{path}: the column {text_column!r} holds {kind}; expected texts. Cure: --text-column NAME")


# CSV and TSV


def _open_csv(path: Path, text_column: str, dialect: CsvDialect) -> StreamedTable:
    with _csv_table(path, dialect) as (table, _):
        header = table.header
        if table.n_stripped:
            logger.info("%s: blanks left out around %d of the column names.", path, table.n_stripped)
    schema = pa.schema([(name, pa.string()) for name in header])

    def chunks(chunk_rows: int) -> Iterator[Chunk]:
        n_bytes = path.stat().st_size
        with _csv_table(path, dialect) as (table, packed):
            held: list[list[Any]] = []
            errors: list[str | None] = []
            size = 0
            for fields, error in table.rows:
                held.append(fields)
                errors.append(error)
                size += sum(map(len, fields))
                if len(held) == chunk_rows or size >= CHUNK_BYTES:
                    yield _text_chunk(schema, held, errors, packed.tell() / n_bytes)
                    held, errors, size = [], [], 0
            if held:
                yield _text_chunk(schema, held, errors, 1.0)

    return StreamedTable(header, find_text_column(header, text_column, str(path)), schema, None, chunks)


@contextmanager
def _csv_table(path: Path, dialect: CsvDialect) -> Iterator[tuple[CsvTable, IO[bytes]]]:
    """The table, and the packed file below, whose place says how far reading got."""
    with open_unpacked(path) as (ending, stream, packed), _reading(path):
        yield open_csv(stream, str(path), ending, dialect), packed


def _text_chunk(schema: pa.Schema, rows: list[list[Any]], errors: list[str | None], share: float) -> Chunk:
    """Rows of text or null cells; fields that are missing in one with an error are null."""
    width = len(schema)
    for fields in rows:
        if len(fields) < width:
            fields[:] = [*fields, *([None] * (width - len(fields)))]
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    return Chunk(pa.RecordBatch.from_arrays(columns, schema=schema), pa.array(errors, pa.string()), share)


# Parquet


def _open_parquet(path: Path, text_column: str) -> StreamedTable:
    with _parquet_file(path) as file:
        plain = pa.schema([pa.field(field.name, _plain(field.type)) for field in file.schema_arrow])
        n_rows = file.metadata.num_rows

    def chunks(chunk_rows: int) -> Iterator[Chunk]:
        n_read = 0
        with _parquet_file(path) as file:
            for batch in _recut(_parquet_batches(path, file, plain), chunk_rows):
                n_read += batch.num_rows
                yield Chunk(batch, pa.nulls(batch.num_rows, pa.string()), n_read / n_rows)

    text_column = find_text_column(plain.names, text_column, str(path))
    return StreamedTable(tuple(plain.names), text_column, plain, n_rows, chunks)


@contextmanager
def _parquet_file(path: Path) -> Iterator[pa.parquet.ParquetFile]:
    """Open a file whose end must be read first; a compressed one is unpacked to the disk for that."""
    with open_unpacked(path) as (_, stream, packed), tempfile.TemporaryFile() as unpacked:
        source = packed
        if stream is not packed:
            source = unpacked
            _unpack(path, stream, source)
        try:  # without pre_buffer and with a buffer, or a row group would be read as a whole
            file = pa.parquet.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20)
        except (pa.ArrowException, OSError, ValueError):
            raise _broken_parquet(path) from None
        with file:
            yield file


def _unpack(path: Path, stream: IO[bytes], target: IO[bytes]) -> None:
    while True:
        with _reading(path):
            content = stream.read(1 << 20)
        if not content:
            return
        target.write(content)  # a full disk is no fault of the file's


def _parquet_batches(path: Path, file: pa.parquet.ParquetFile, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    try:
        for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
            columns = [column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
    except (pa.ArrowException, OSError, ValueError):
        raise _broken_parquet(path) from None


def _recut(batches: Iterator[pa.RecordBatch], chunk_rows: int) -> Iterator[pa.RecordBatch]:
    held: list[pa.RecordBatch] = []
    n_rows = n_bytes = 0
    for batch in batches:
        while batch.num_rows:
            piece = batch.slice(0, chunk_rows - n_rows)
            batch = batch.slice(piece.num_rows)
            held.append(piece)
            n_rows += piece.num_rows
            n_bytes += piece.nbytes
            if n_rows == chunk_rows or n_bytes >= CHUNK_BYTES:
                yield pa.concat_batches(held)
                held, n_rows, n_bytes = [], 0, 0
    if held:
        yield pa.concat_batches(held)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type of a column's values, where each is stored once and referred to."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _broken_parquet(path: Path) -> DataError:
    return DataError(
        f"{path}: not a complete Parquet file (truncated, damaged, or another format). Fetch or write it again."
    )


# JSON lines


def _open_json_lines(path: Path, text_column: str, keep_objects: bool) -> StreamedTable:
    with open_unpacked(path) as (_, stream, _packed), _reading(path):
        lines = read_lines(as_utf8(stream).stream, LONGEST)
        columns = scan_objects(lines, text_column, str(path), keep_objects=keep_objects)
    text_column = columns.text_column

    def chunks(chunk_rows: int) -> Iterator[Chunk]:
        n_read = 0
        with open_unpacked(path) as (_, stream, _packed):
            with _reading(path):
                lines = read_lines(as_utf8(stream).stream, LONGEST)
            while held := _take_lines(path, lines, chunk_rows):
                n_read += len(held)
                batch, errors = object_batch(held, columns, text_column, str(path), keep_objects=keep_objects)
                yield Chunk(batch, errors, n_read / columns.n_rows)

    schema = columns.schema(text_column, keep_objects)
    return StreamedTable(tuple(columns.types), text_column, schema, columns.n_rows, chunks)


def _take_lines(path: Path, lines: Iterator[str | None], chunk_rows: int) -> list[str | None]:
    held: list[str | None] = []
    size = 0
    with _reading(path):
        for line in lines:
            held.append(line)
            size += len(line or "")
            if len(held) == chunk_rows or size >= CHUNK_BYTES:
                break
    return held
