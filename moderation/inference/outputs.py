"""Scored batches -> a file of any of the formats, also compressed; the same batches always give the same bytes."""

import base64
import gzip
import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet

from moderation.data.compression import FORMATS
from moderation.errors import ConfigError
from moderation.inference.json_lines import OBJECT

_TABLES = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_COMPRESSIONS = (".gz", ".zip", ".zst")
_GROUP_ROWS, _GROUP_BYTES = 1 << 16, 1 << 26  # of a Parquet file's row group; it is held until it is full
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip archive can name

_NO_VALUE = (ValueError, OverflowError, pa.ArrowException)  # of a value that Python does not know

Write = Callable[[pa.RecordBatch], None]


@dataclass(frozen=True)
class OutputFormat:
    """How a file is written.

    Args:
        table: `csv`, `tsv`, `parquet` or `jsonl`.
        compression: `.gz`, `.zip`, `.zst`, or empty.
        name: Of the table inside an archive.
    """

    table: str
    compression: str = ""
    name: str = ""


def output_format(path: Path) -> OutputFormat:
    """The format that a file's endings name.

    Raises:
        ConfigError: they name none.

    >>> output_format(Path("scored.CSV.gz"))
    OutputFormat(table='csv', compression='.gz', name='scored.CSV')
    """
    ending = path.suffix.lower()
    name = path.stem if ending in _COMPRESSIONS else path.name
    table = _TABLES.get(PurePath(name).suffix.lower())
    if table is None:
        raise ConfigError(f"--output {path}: unknown ending; expected {FORMATS}, or - for standard output.")
    return OutputFormat(table, ending if ending in _COMPRESSIONS else "", name)


@contextmanager
def open_output(file: IO[bytes], form: OutputFormat, schema: pa.Schema) -> Iterator[Write]:
    """Write a table to an open file.

    CSV and TSV: quotes where they are needed and nowhere else, lines end in a line feed, null is empty, lists and
    objects are JSON. JSON lines: objects of a column `json_lines.OBJECT` stay as they are, and the results are added
    to them. Archives carry no date, so that equal tables are equal files.

    Yields:
        A function that writes one batch.
    """
    with _compressed(file, form) as stream:
        if form.table == "parquet":
            with _open_parquet(stream, schema) as write:
                yield write
        elif form.table == "jsonl":
            yield lambda batch: _write(stream, encode_json_lines(batch))
        else:
            delimiter = "\t" if form.table == "tsv" else ","
            _write(stream, _join([[name] for name in schema.names], delimiter))
            yield lambda batch: _write(stream, encode_csv(batch, delimiter))


def encode_csv(batch: pa.RecordBatch, delimiter: str) -> bytes:
    r"""Rows as lines of a CSV file, without a header.

    >>> encode_csv(pa.RecordBatch.from_pydict({"text": ["a,b", None], "p": [0.5, 1.0]}), ",")
    b'"a,b",0.5\n,1.0\n'
    """
    return _join([_as_cells(column) for column in batch.columns], delimiter)


def encode_json_lines(batch: pa.RecordBatch) -> bytes:
    r"""Rows as JSON lines.

    >>> encode_json_lines(pa.RecordBatch.from_pydict({"text": ["a", None], "p": [0.5, 1.0]}))
    b'{"text": "a", "p": 0.5}\n{"text": null, "p": 1.0}\n'
    """
    names = batch.schema.names
    kept = names.index(OBJECT) if OBJECT in names else None
    first = 0 if kept is None else kept + 2  # behind the objects and the text that each of them holds
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
    """Add cells to the object of a line; None: the line held no object, and nothing of it is known."""
    if line is None:
        return f"{{{cells}}}\n"
    kept = line[:-1].rstrip()
    return f"{kept}{'' if kept.endswith('{') else ', '}{cells}}}\n"


def _join(columns: list[list[str]], delimiter: str) -> bytes:
    special = re.compile(f'["\r\n{re.escape(delimiter)}]')

    def quote(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"' if special.search(cell) else cell

    quoted = [[quote(cell) for cell in column] for column in columns]
    return "".join(f"{delimiter.join(cells)}\n" for cells in zip(*quoted, strict=True)).encode("utf-8")


def _as_cells(column: pa.Array) -> list[str]:
    """Values as text; null as an empty one."""
    if pa.types.is_float32(column.type):  # Arrow writes the shortest text that is the same float32
        column = column.cast(pa.string())
    values = _values(column)
    return ["" if value is None else _as_cell(value) for value in values]


def _as_cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (list, dict)):
        return _dump(value)
    plain = _plain(value)
    return plain if isinstance(plain, str) else _dump(plain) if isinstance(plain, bool) else str(plain)


def _as_json(column: pa.Array) -> list[str]:
    """Values as JSON; NaN and infinity, which it does not know, as null."""
    if pa.types.is_float32(column.type):
        texts = column.cast(pa.string()).to_pylist()
        return [text if text is not None and math.isfinite(float(text)) else "null" for text in texts]
    return [_dump(value) for value in _values(column)]


def _dump(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """A value that JSON does not know (time, decimal, bytes) as text."""
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
    """Python values; as text those that Python does not know, which Parquet files may hold."""
    try:
        return list(column.to_pylist())
    except _NO_VALUE:
        return [_value(column.slice(row, 1)) for row in range(len(column))]


def _value(single: pa.Array) -> Any:
    """The value of an array of one: text that is not UTF-8 with escapes in it, far times as Arrow writes them."""
    kind = single.type
    try:
        return single[0].as_py()
    except UnicodeDecodeError:
        if pa.types.is_nested(kind):
            return "(not UTF-8)"
        content: bytes = single.cast(pa.large_string()).cast(pa.large_binary())[0].as_py()
        return content.decode("utf-8", "backslashreplace")
    except _NO_VALUE:
        if pa.types.is_timestamp(kind) and kind.tz is not None:  # the zone may be unknown; the moment is not
            single = single.cast(pa.timestamp(kind.unit, "UTC"))
        try:
            return single.cast(pa.string())[0].as_py()
        except pa.ArrowException:  # lists and objects among others
            return "(no value of Python)"


def _write(stream: IO[bytes], content: bytes) -> None:
    stream.write(content)


@contextmanager
def _compressed(file: IO[bytes], form: OutputFormat) -> Iterator[Any]:
    if form.compression == ".gz":
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as stream:
            yield stream
    elif form.compression == ".zst":
        with pa.CompressedOutputStream(file, "zstd") as stream:
            yield stream
    elif form.compression == ".zip":
        member = zipfile.ZipInfo(form.name, _EARLIEST)
        member.compress_type = zipfile.ZIP_DEFLATED
        member.external_attr = 0o644 << 16
        with zipfile.ZipFile(file, "w") as archive, archive.open(member, "w", force_zip64=True) as stream:
            yield stream
    else:
        yield file


@contextmanager
def _open_parquet(stream: IO[bytes], schema: pa.Schema) -> Iterator[Write]:
    held: list[pa.RecordBatch] = []

    def flush() -> None:
        if held:
            writer.write_table(pa.Table.from_batches(held).combine_chunks())
            held.clear()

    def write(batch: pa.RecordBatch) -> None:
        held.append(batch)
        full = sum(part.num_rows for part in held) >= _GROUP_ROWS
        if full or sum(part.nbytes for part in held) >= _GROUP_BYTES:
            flush()

    with pa.parquet.ParquetWriter(_Counted(stream), schema, compression="zstd") as writer:
        yield write
        flush()


class _Counted(io.RawIOBase):
    """A stream that knows how much was written to it; a member of an archive does not, and Parquet asks."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._n_bytes = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, content: Any) -> int:
        """Hand on, and count."""
        content = bytes(content)
        self._stream.write(content)
        self._n_bytes += len(content)
        return len(content)

    def tell(self) -> int:
        """Bytes written so far."""
        return self._n_bytes
