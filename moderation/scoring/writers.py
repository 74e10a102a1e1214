"""Scored batches -> a file in any format, compressed or not; the same batches always give the same bytes."""

import gzip
import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from moderation.errors import ConfigError
from moderation.scoring.cells import encode_csv, encode_header, encode_json_lines
from moderation.tables.fixed_sizes import is_list, slot_bytes
from moderation.tables.formats import COMPRESSIONS, FORMATS

_TABLES = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_GROUP_ROWS, _GROUP_BYTES = 1 << 16, 1 << 26  # of a Parquet file's row group; it is held until it is full
_PIECE_BYTES = 1 << 18  # handed to a compressor at once
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # earliest date that a zip archive can store

_OF_BYTES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)

Write = Callable[[pa.RecordBatch], None]
Metadata = Callable[[], dict[str, str]]


@dataclass(frozen=True)
class OutputFormat:
    """How a file is written.

    Args:
        table: `csv`, `tsv`, `parquet` or `jsonl`.
        compression: `.gz`, `.zip`, `.zst`, or empty.
        name: Name of the table inside an archive.
        csv_safe: Whether cells of CSV and TSV that look like formulas get an apostrophe.
    """

    table: str
    compression: str = ""
    name: str = ""
    csv_safe: bool = False

    @property
    def holds_record(self) -> bool:
        """Whether the file contains the record of its origin, in a place where it can be found without unpacking."""
        return self.table == "parquet" and not self.compression


def output_format(path: Path, *, csv_safe: bool = False) -> OutputFormat:
    """The format that a file's endings name.

    Args:
        path: The file.
        csv_safe: As requested.

    Raises:
        ConfigError: they do not name a format, or one in which `csv_safe` has no effect.

    >>> output_format(Path("scored.CSV.gz")).table
    'csv'
    """
    ending = path.suffix.lower()
    name = path.stem if ending in COMPRESSIONS else path.name
    table = _TABLES.get(PurePath(name).suffix.lower())
    if table is None:
        raise ConfigError(f"--output {path}: unknown ending; expected {FORMATS}, or - for standard output.")
    if csv_safe and table not in ("csv", "tsv"):
        raise ConfigError(
            f"--csv-safe has no effect on {path.name}: spreadsheets run formulas only in CSV and TSV files. Leave it "
            "out, or name an output that ends in .csv or .tsv."
        )
    name = name.encode("utf-8", "backslashreplace").decode()  # archives can hold only such names
    return OutputFormat(table, ending if ending in COMPRESSIONS else "", name, csv_safe)


@contextmanager
def open_output(
    file: IO[bytes], form: OutputFormat, schema: pa.Schema, metadata: Metadata | None = None
) -> Iterator[Write]:
    """Write a table to an open file; its bytes depend only on its rows, however they are cut into batches.

    CSV and TSV: quotes only where needed, lines end in a line feed, null is empty, lists and objects are JSON; the
    names in the list `flagged` are joined by commas. JSON lines: objects of a column `json_lines.OBJECT` stay as they
    are, and the results are added to them. Archives contain no date, so that equal tables give equal files.

    Args:
        file: Open for writing.
        form: How to write.
        schema: Of the batches.
        metadata: Called when everything is written, for the metadata of a Parquet file; other formats have none.

    Yields:
        A function that writes one batch.
    """
    with _compressed(file, form) as stream:
        if form.table == "parquet":
            with _open_parquet(stream, schema, metadata) as write:
                yield write
        elif form.table == "jsonl":
            yield lambda batch: _write(stream, encode_json_lines(batch))
        else:
            delimiter = "\t" if form.table == "tsv" else ","
            _write(stream, encode_header(schema.names, delimiter, safe=form.csv_safe))
            yield lambda batch: _write(stream, encode_csv(batch, delimiter, safe=form.csv_safe))


def _write(stream: IO[bytes], content: bytes) -> None:
    stream.write(content)


@contextmanager
def _compressed(file: IO[bytes], form: OutputFormat) -> Iterator[Any]:
    if not form.compression:
        yield file
        return
    with _open_compressor(file, form) as stream:
        pieces = _Pieces(stream)
        yield pieces
        pieces.finish()


@contextmanager
def _open_compressor(file: IO[bytes], form: OutputFormat) -> Iterator[Any]:
    if form.compression == ".gz":
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as stream:
            yield stream
    elif form.compression == ".zst":
        with pa.CompressedOutputStream(file, "zstd") as stream:
            yield stream
    else:
        member = zipfile.ZipInfo(form.name, _EARLIEST)
        member.compress_type = zipfile.ZIP_DEFLATED
        member.external_attr = 0o644 << 16
        with zipfile.ZipFile(file, "w") as archive, archive.open(member, "w", force_zip64=True) as stream:
            yield stream


class _Pieces:
    """Passes bytes on in pieces of one size, since a compressor's output may depend on how they are cut."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._held = bytearray()

    def write(self, content: bytes) -> int:
        """Store bytes until a piece is full."""
        self._held += content
        whole = len(self._held) - len(self._held) % _PIECE_BYTES
        for start in range(0, whole, _PIECE_BYTES):
            self._stream.write(bytes(self._held[start : start + _PIECE_BYTES]))
        del self._held[:whole]
        return len(content)

    def finish(self) -> None:
        """Pass on the rest."""
        self._stream.write(bytes(self._held))
        self._held.clear()


@contextmanager
def _open_parquet(stream: IO[bytes], schema: pa.Schema, metadata: Metadata | None) -> Iterator[Write]:
    with pa.parquet.ParquetWriter(_Counted(stream), schema, compression="zstd") as writer:
        groups = _Groups(writer)
        yield groups.write
        groups.flush()
        if metadata is not None:
            writer.add_key_value_metadata(metadata())


class _Groups:
    """Row groups of a Parquet file: a group ends after enough rows or bytes, independent of batches."""

    def __init__(self, writer: pa.parquet.ParquetWriter) -> None:
        self._writer = writer
        self._held: list[pa.RecordBatch] = []
        self._n_rows = self._n_bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows, and write the groups that they fill."""
        ends = self._n_bytes + np.cumsum(row_bytes(batch))
        start = 0
        while start < batch.num_rows:
            full = int(np.searchsorted(ends, _GROUP_BYTES)) + 1  # rows up to the one that fills the group
            stop = min(start + _GROUP_ROWS - self._n_rows, max(full, start + 1), batch.num_rows)
            self._held.append(batch.slice(start, stop - start))
            self._n_rows += stop - start
            self._n_bytes = int(ends[stop - 1])
            if self._n_rows == _GROUP_ROWS or self._n_bytes >= _GROUP_BYTES:
                self.flush()
                ends = ends - ends[stop - 1]  # of a new group
            start = stop

    def flush(self) -> None:
        """Write what is held."""
        if self._held:
            self._writer.write_table(pa.Table.from_batches(self._held).combine_chunks())
        self._held.clear()
        self._n_rows = self._n_bytes = 0


class _Counted(io.RawIOBase):
    """A stream that counts the bytes written to it: Parquet calls `tell`, which an archive member does not have."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._n_bytes = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, content: Any) -> int:
        """Pass the bytes on, and count them."""
        content = bytes(content)
        self._stream.write(content)
        self._n_bytes += len(content)
        return len(content)

    def tell(self) -> int:
        """Bytes written so far."""
        return self._n_bytes


def row_bytes(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Estimated bytes of each row, int64 `(n_rows,)`; they depend only on the row itself."""
    sizes = np.zeros(batch.num_rows, dtype=np.int64)
    for column in batch.columns:
        sizes += _value_bytes(column)
    return sizes


def _value_bytes(column: pa.Array) -> npt.NDArray[np.int64]:
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    kind = column.type
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        column = column.cast(pa.large_binary())
        kind = column.type
    if any(test(kind) for test in _OF_BYTES):
        return _numbers(pc.binary_length(column))
    if pa.types.is_map(kind):
        column = column.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
        kind = column.type
    if is_list(kind) or pa.types.is_fixed_size_list(kind):
        ends = np.cumsum(_numbers(pc.list_value_length(column)))
        inner = np.concatenate([[0], np.cumsum(_value_bytes(column.flatten()))])
        found = np.diff(inner[ends], prepend=0)
        if pa.types.is_fixed_size_list(kind):  # a missing list takes as much room as any other
            found[np.asarray(column.is_null())] = slot_bytes(kind)
        return found
    if pa.types.is_struct(kind):
        parts = [_value_bytes(part) for part in column.flatten()]
        return np.asarray(sum(parts, np.zeros(len(column), dtype=np.int64)))
    return np.full(len(column), 8, dtype=np.int64)


def _numbers(column: pa.Array) -> npt.NDArray[np.int64]:
    return np.asarray(column.fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)
