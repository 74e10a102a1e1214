"""Files as streams of chunks, in constant memory: CSV, TSV, Parquet and JSON lines, also compressed.

Unlike in training, a row that cannot be read does not stop the run: it becomes a row with an error. A chunk has a fixed
number of rows (fewer if they hold very much text), so that the same file is always cut in the same way.
"""

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from moderation.errors import DataError
from moderation.scoring.batch import is_text
from moderation.scoring.json_lines import OBJECT, object_batch, scan_objects
from moderation.tables import bounds
from moderation.tables.columns import check_column_names, find_text_column, show_names
from moderation.tables.compression import check_unpacked, open_unpacked, reading
from moderation.tables.csv_dialects import CsvDialect, suggest_delimiter
from moderation.tables.csv_rows import TOO_LONG, CsvTable, open_csv
from moderation.tables.encodings import as_utf8, check_is_text
from moderation.tables.json_objects import read_lines
from moderation.tables.parquet_files import open_parquet

CHUNK_BYTES = 1 << 24  # of cells: a chunk ends when it reaches this size, however few rows it has

logger = logging.getLogger(__name__)

_STANDARD = CsvDialect()


@dataclass(frozen=True)
class Chunk:
    """Some rows of a table.

    Args:
        batch: The rows.
        errors: What is wrong with each row; string, null if nothing is.
        share: Share of the file that has been read, 0 to 1.
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
        schema: Columns of the chunks: the same, except for objects that are kept as they are.
        n_rows: How many rows it has; None: not known before they are read.
        chunks: Rows per chunk -> the chunks; each call starts at the first row.
    """

    names: tuple[str, ...]
    text_column: str
    schema: pa.Schema
    n_rows: int | None
    chunks: Callable[[int], Iterator[Chunk]]


def open_table(
    path: Path,
    *,
    text_column: str,
    dialect: CsvDialect = _STANDARD,
    keep_objects: bool = False,
    results: Collection[str] = (),
) -> StreamedTable:
    r"""Open a file and learn its columns.

    Cells of CSV and TSV files are plain text, read by the strict rules of `tables.csv_rows`: a problem with a row
    becomes its error; missing fields are then null, extra fields are joined into the last one, and bytes that are not
    UTF-8 are shown as `\xe9`. Parquet keeps its types. JSON lines are first read once to find their columns: a
    column that always holds texts, numbers of one kind, or true and false keeps that type; any other holds JSON text.

    Args:
        path: With an ending that `tables.reading.read_table` accepts.
        text_column: Column of the texts; if the default is missing, `tables.columns.find_text_column` looks for it.
        dialect: How a CSV or TSV file is written.
        keep_objects: Return the lines of a JSON lines file unchanged, in the column `json_lines.OBJECT`, and next to it
            only the text column.
        results: Names that are added to the rows later; they are found even in a table with very many names.

    Raises:
        DataError: no such file, an unknown ending, a missing or unsuitable text column, two columns with one name, not
            the format that the ending names. Broken compression may also be found only while reading the chunks.
    """
    with open_unpacked(path) as (ending, stream, _packed), reading(path):
        beginning = stream.read(8)
    if ending != ".parquet":  # a Parquet file is unpacked as a whole, and so checked, when it is opened
        check_unpacked(path)
        check_is_text(beginning, str(path))
    if ending == ".parquet":
        table = _open_parquet(path, text_column)
    elif ending in (".jsonl", ".ndjson"):
        table = _open_json_lines(path, text_column, keep_objects, results)
    else:
        table = _open_csv(path, text_column, dialect)
    _check_text_column(path, table)
    return table


def _check_text_column(path: Path, table: StreamedTable) -> None:
    text_column = table.text_column
    check_column_names(table.names, str(path))
    if OBJECT in table.names:
        raise DataError(f"{path}: a column is named {OBJECT!r}, which is reserved. Rename it.")
    if text_column not in table.names:
        typed = suggest_delimiter(table.names)
        cure = f", or the delimiter with --delimiter {typed}" if typed else ""
        raise DataError(
            f"{path}: no column {text_column!r}; the columns are: {show_names(table.names)}. "
            f"Name the one that holds the texts with --text-column{cure}."
        )
    kind = table.schema.field(text_column).type
    if pa.types.is_null(kind):
        logger.warning(
            "%s: the column %r has the type null and holds no values; expected texts. Every row gets the error "
            "'no text'. If the texts are in another column, use --text-column NAME",
            path,
            text_column,
        )
    if not is_text(kind):
        raise DataError(
            f"{path}: the column {text_column!r} contains {kind}; expected texts. Choose another column with "
            "--text-column NAME"
        )


# CSV and TSV


def _open_csv(path: Path, text_column: str, dialect: CsvDialect) -> StreamedTable:
    with _csv_table(path, dialect) as (table, _):
        header = table.header
        if table.n_stripped:
            logger.info("%s: blanks removed around %d of the column names.", path, table.n_stripped)
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
                size += sum(map(len, fields)) + bounds.CELL_COST * len(fields)
                if len(held) == chunk_rows or size >= CHUNK_BYTES:
                    yield _text_chunk(schema, held, errors, packed.tell() / n_bytes)
                    held, errors, size = [], [], 0
            if held:
                yield _text_chunk(schema, held, errors, 1.0)

    return StreamedTable(header, find_text_column(header, text_column, str(path)), schema, None, chunks)


@contextmanager
def _csv_table(path: Path, dialect: CsvDialect) -> Iterator[tuple[CsvTable, IO[bytes]]]:
    """The table, and the underlying packed file, whose position shows how far reading got."""
    with open_unpacked(path) as (ending, stream, packed), reading(path):
        yield open_csv(stream, str(path), ending, dialect), packed


def _text_chunk(schema: pa.Schema, rows: list[list[Any]], errors: list[str | None], share: float) -> Chunk:
    """Rows of text or null cells; missing fields of a row with an error are null."""
    width = len(schema)
    for fields in rows:
        if len(fields) < width:
            fields[:] = [*fields, *([None] * (width - len(fields)))]
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    return Chunk(pa.RecordBatch.from_arrays(columns, schema=schema), pa.array(errors, pa.string()), share)


# Parquet


def _open_parquet(path: Path, text_column: str) -> StreamedTable:
    with open_parquet(path) as opened:
        plain, n_rows = opened.schema, opened.n_rows

    def chunks(chunk_rows: int) -> Iterator[Chunk]:
        n_read = 0
        with open_parquet(path, opened) as table:
            for batch in _recut(table.batches(), chunk_rows):
                n_read += batch.num_rows
                yield _without_long_texts(batch, column, n_read / n_rows)

    column = find_text_column(plain.names, text_column, str(path))
    return StreamedTable(tuple(plain.names), column, plain, n_rows, chunks)


def _without_long_texts(batch: pa.RecordBatch, text_column: str, share: float) -> Chunk:
    """Rows with null and an error in place of a text that is too long."""
    place = batch.schema.get_field_index(text_column)
    texts = batch.column(place)
    errors = pa.nulls(batch.num_rows, pa.string())
    if not pa.types.is_null(texts.type) and texts.nbytes > bounds.CELL_BYTES:
        too_long = pc.greater(pc.binary_length(texts), bounds.CELL_BYTES)
        texts = pc.if_else(too_long, pa.scalar(None, texts.type), texts)
        errors = pc.if_else(too_long, TOO_LONG, None)
        batch = batch.set_column(place, batch.schema.field(place), texts)
    return Chunk(batch, errors, share)


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


# JSON lines


def _open_json_lines(path: Path, text_column: str, keep_objects: bool, results: Collection[str]) -> StreamedTable:
    with open_unpacked(path) as (_, stream, _packed), reading(path):
        lines = read_lines(as_utf8(stream).stream, str(path))
        columns = scan_objects(lines, text_column, str(path), keep_objects=keep_objects, results=results)
    text_column = columns.text_column

    def chunks(chunk_rows: int) -> Iterator[Chunk]:
        n_read = 0
        with open_unpacked(path) as (_, stream, _packed):
            with reading(path):
                lines = read_lines(as_utf8(stream).stream, str(path))
            for held in _cut_lines(path, lines, chunk_rows):
                n_read += len(held)
                batch, errors = object_batch(held, columns, text_column, str(path), keep_objects=keep_objects)
                yield Chunk(batch, errors, n_read / columns.n_rows)

    schema = columns.schema(text_column, keep_objects)
    return StreamedTable(tuple(columns.types), text_column, schema, columns.n_rows, chunks)


def _cut_lines(path: Path, lines: Iterator[str | None], chunk_rows: int) -> Iterator[list[str | None]]:
    """Lines in lists of `chunk_rows`, or fewer if they are long."""
    held: list[str | None] = []
    size = 0
    with reading(path):
        for line in lines:
            size += len(line or "")
            if held and (len(held) == chunk_rows or size > CHUNK_BYTES):
                yield held
                held, size = [], len(line or "")
            held.append(line)
    if held:
        yield held
