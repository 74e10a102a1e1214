"""Files as streams of chunks, in constant memory: CSV, TSV, Parquet and JSON lines, also compressed; lines of a pipe.

Other than for training, a row that cannot be read is no reason to stop: it becomes a row with an error. A chunk has a
fixed number of rows, fewer where they hold very much text, so that the same file is always cut alike.
"""

import csv
import io
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet

from moderation.data.compression import DAMAGED, damaged, open_unpacked
from moderation.data.reading import LIKELY_DELIMITERS, check_column_names, field_delimiter, show_names
from moderation.errors import DataError
from moderation.inference.json_lines import is_unicode, object_batch, read_lines, scan_objects
from moderation.inference.lines import NO_UTF8, pipe_lines
from moderation.inference.scoring import is_text

CHUNK_BYTES = 1 << 26  # of text: a chunk that reaches them ends, however few rows it has
LONGEST = 1 << 26  # bytes of a line or a field; a quote that is never closed would be one that fills the memory
PIPE_COLUMN = "text"

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
        schema: Columns of the chunks: the same, but for objects that are kept as they are.
        n_rows: How many rows it has; None: nobody knows before they are read.
        chunks: Rows per chunk -> the chunks, from the first row on at each call.
    """

    names: tuple[str, ...]
    schema: pa.Schema
    n_rows: int | None
    chunks: Callable[[int], Iterator[Chunk]]


def open_table(
    path: Path, *, text_column: str, delimiter: str | None = None, keep_objects: bool = False
) -> StreamedTable:
    r"""Open a file and learn its columns.

    Cells of CSV and TSV files are text as it stands there. A row with too few or too many fields has an error; what
    is missing is null, what is too much is left out. Bytes that are not UTF-8 are an error of their row and are
    shown as `\xe9`. Parquet keeps its types. JSON lines are read through once for their columns: one that always
    holds texts, numbers of one kind, or true and false keeps that type; any other holds JSON text.

    Args:
        path: Named as `data.reading.read_table` takes it.
        text_column: Column of the texts.
        delimiter: Field delimiter of a CSV or TSV file.
        keep_objects: Give the lines of a JSON lines file as they stand, in the column `json_lines.OBJECT`, and
            beside it the text column alone.

    Raises:
        DataError: no such file, an unknown ending, no or another text column, two columns of one name, not the format
            that the ending names. Broken compression and the like may also come up in the middle of the chunks.
        ConfigError: the delimiter is not one character.
    """
    with open_unpacked(path) as (ending, stream, _):
        beginning = b"" if ending == ".parquet" else _peek(path, stream)
    if beginning[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}: this looks like UTF-16; expected UTF-8. Convert it: iconv -f UTF-16 -t UTF-8 FILE")
    if ending == ".parquet":
        table = _open_parquet(path)
    elif ending in (".jsonl", ".ndjson"):
        table = _open_json_lines(path, text_column, keep_objects)
    else:
        table = _open_csv(path, field_delimiter(delimiter, ending))
    _check_text_column(path, table, text_column)
    return table


def pipe_chunks(pipe: io.RawIOBase, chunk_rows: int) -> Iterator[Chunk]:
    """Lines of a pipe as they come, in the column `text`; each line is a row, so that rows and lines stay in step.

    A chunk holds what had come when the one before was done: one line from somebody who types, many from a file. A line
    of more than `LONGEST` bytes is null and has an error; no more of it than that is ever held.

    Raises:
        DataError: the pipe cannot be read.
    """
    schema = pa.schema([(PIPE_COLUMN, pa.string())])
    for lines in pipe_lines(pipe):
        for start in range(0, len(lines), chunk_rows):
            rows = lines[start : start + chunk_rows]
            yield _text_chunk(schema, [[text] for text, _ in rows], [error for _, error in rows], 0.0)


def _peek(path: Path, stream: IO[bytes]) -> bytes:
    with _reading(path):
        return stream.read(4)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGED:
        raise damaged(path) from None


def _check_text_column(path: Path, table: StreamedTable, text_column: str) -> None:
    check_column_names(table.names, str(path))
    if text_column not in table.names:
        others = [other for other in LIKELY_DELIMITERS if len(table.names) == 1 and other in table.names[0]]
        typed = {"\t": "'\\t'"}.get(others[0], repr(others[0])) if others else ""
        cure = f", or the delimiter with --delimiter {typed}" if others else ""
        raise DataError(
            f"{path}: no column {text_column!r}; the columns are: {show_names(table.names)}. "
            f"Name the one that holds the texts with --text-column{cure}."
        )
    kind = table.schema.field(text_column).type
    if not is_text(kind):
        raise DataError(f"{path}: the column {text_column!r} holds {kind}; expected texts. Cure: --text-column NAME")


# CSV and TSV


def _open_csv(path: Path, delimiter: str) -> StreamedTable:
    with open_unpacked(path) as (_, stream, _packed), closing(_csv_rows(path, stream, delimiter)) as rows:
        header = next((fields for fields, _ in rows), None)
    if header is None:
        raise DataError(f"{path}: no header; expected column names in the first line.")
    if any(not is_unicode(name) for name in header):
        raise DataError(f"{path}: the header is not UTF-8. Convert the file: iconv -f LATIN1 -t UTF-8 FILE")
    schema = pa.schema([(name, pa.string()) for name in header])

    def chunks(chunk_rows: int) -> Iterator[Chunk]:
        n_bytes = path.stat().st_size
        with open_unpacked(path) as (_, stream, packed), closing(_csv_rows(path, stream, delimiter)) as rows:
            next(rows)
            held: list[list[str]] = []
            errors: list[str | None] = []
            size = 0
            for fields, error in rows:
                if error is None and len(fields) != len(header):
                    error = f"{len(fields)} field{'s' if len(fields) > 1 else ''}, expected {len(header)}"
                held.append(fields)
                errors.append(error)
                size += sum(map(len, fields))
                if len(held) == chunk_rows or size >= CHUNK_BYTES:
                    yield _text_chunk(schema, held, errors, packed.tell() / n_bytes)
                    held, errors, size = [], [], 0
            if held:
                yield _text_chunk(schema, held, errors, 1.0)

    return StreamedTable(tuple(header), schema, None, chunks)


def _csv_rows(path: Path, stream: IO[bytes], delimiter: str) -> Generator[tuple[list[str], str | None]]:
    """Fields of each row, the header's first, and what is wrong with the row as such; empty lines are none."""
    csv.field_size_limit(LONGEST)  # of the whole process, and never of use below that
    lines: list[str] = []  # that the current row was read from

    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")

    def remembered() -> Iterator[str]:
        while line := text.readline(LONGEST):
            if len(line) == LONGEST:
                raise csv.Error
            lines.append(line)
            yield line

    number, held = 0, None
    try:
        for fields in csv.reader(remembered(), delimiter=delimiter):
            if fields and held is not None:
                yield held, None
                number += 1
            if fields:
                held, last_lines = fields, lines.copy()
            lines.clear()
    except csv.Error:
        raise DataError(
            f"{path}: row {number + 1}: a field or line of more than {LONGEST >> 20} MiB. A quote that is opened and "
            "never closed does this; close it, and double each quote that belongs to a text."
        ) from None
    except DAMAGED:
        raise damaged(path) from None
    finally:
        text.detach()  # or it would close the stream, whose place in the file is still asked for
    if held is not None:
        yield held, "a quote is opened and never closed" if _ends_in_quotes(last_lines, delimiter) else None


def _ends_in_quotes(lines: list[str], delimiter: str) -> bool:
    try:
        list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error as error:
        return str(error) == "unexpected end of data"
    return False


def _text_chunk(schema: pa.Schema, rows: list[list[Any]], errors: list[str | None], share: float) -> Chunk:
    """Rows of text or null cells; what is no UTF-8 in them arrives as lone surrogates."""
    width = len(schema)
    for fields in rows:
        if len(fields) != width:
            fields[:] = [*fields[:width], *([None] * (width - len(fields)))]
    try:
        columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    except UnicodeEncodeError:
        for row, fields in enumerate(rows):
            if not all(is_unicode(field) for field in fields if field is not None):
                errors[row] = errors[row] or NO_UTF8
                rows[row] = [
                    field and field.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                    for field in fields
                ]
        columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    return Chunk(pa.RecordBatch.from_arrays(columns, schema=schema), pa.array(errors, pa.string()), share)


# Parquet


def _open_parquet(path: Path) -> StreamedTable:
    with _parquet_file(path) as file:
        plain = pa.schema([pa.field(field.name, _plain(field.type)) for field in file.schema_arrow])
        n_rows = file.metadata.num_rows

    def chunks(chunk_rows: int) -> Iterator[Chunk]:
        n_read = 0
        with _parquet_file(path) as file:
            for batch in _recut(_parquet_batches(path, file, plain), chunk_rows):
                n_read += batch.num_rows
                yield Chunk(batch, pa.nulls(batch.num_rows, pa.string()), n_read / n_rows)

    return StreamedTable(tuple(plain.names), plain, n_rows, chunks)


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
        columns = scan_objects(read_lines(stream, LONGEST), text_column, str(path), keep_objects=keep_objects)

    def chunks(chunk_rows: int) -> Iterator[Chunk]:
        n_read = 0
        with open_unpacked(path) as (_, stream, _packed):
            lines = read_lines(stream, LONGEST)
            while held := _take_lines(path, lines, chunk_rows):
                n_read += len(held)
                batch, errors = object_batch(held, columns, text_column, str(path), keep_objects=keep_objects)
                yield Chunk(batch, errors, n_read / columns.n_rows)

    return StreamedTable(tuple(columns.types), columns.schema(text_column, keep_objects), columns.n_rows, chunks)


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
