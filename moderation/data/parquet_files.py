"""Parquet files -> record batches in bounded memory, for training and for scoring."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet

from moderation.data import bounds
from moderation.data.columns import show_names
from moderation.data.compression import open_unpacked, unpacked_pieces
from moderation.data.parquet_pages import RowGroup, broken_parquet, check_decoded, measure_pages
from moderation.errors import DataError

_BROKEN = (pa.ArrowException, OSError, ValueError, KeyError)


@dataclass(frozen=True)
class ParquetTable:
    """An open Parquet file.

    Args:
        path: Where it lies.
        file: Open for reading.
        groups: Its row groups.
        n_packed: Bytes of the file as it lies on the disk.
        state: Of the file on the disk, another one after each change.
    """

    path: Path
    file: pa.parquet.ParquetFile
    groups: list[RowGroup]
    n_packed: int
    state: tuple[int, ...]

    @property
    def n_rows(self) -> int:
        """Its rows."""
        return sum(group.n_rows for group in self.groups)

    @property
    def n_bytes(self) -> int:
        """About what all of it takes in memory; more where values are repeated."""
        return sum(group.n_bytes for group in self.groups)

    @property
    def schema(self) -> pa.Schema:
        """Of the batches: the file's, with the values of dictionaries in place of what refers to them, and no views."""
        return pa.schema([pa.field(field.name, _plain(field.type)) for field in self.file.schema_arrow])

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, some at a time.

        Raises:
            DataError: damaged; what is decoded becomes very much more than the file.
        """
        schema, n_bytes = self.schema, 0
        most_rows = max(1, bounds.DECODED_BYTES // max(1, sum(_fixed_bytes(field.type) for field in schema)))
        try:
            for number, group in enumerate(self.groups):
                n_rows = min(most_rows, group.rows_at_once)
                for found in self.file.iter_batches(batch_size=n_rows, row_groups=[number]):
                    columns = [column.cast(field.type) for column, field in zip(found.columns, schema, strict=True)]
                    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
                    n_bytes += batch.nbytes
                    check_decoded(n_bytes, self.n_packed, str(self.path))
                    yield batch
        except (MemoryError, DataError):
            raise
        except _BROKEN:
            raise broken_parquet(str(self.path)) from None


@contextmanager
def open_parquet(path: Path, before: ParquetTable | None = None) -> Iterator[ParquetTable]:
    """Open a file whose end must be read first; a compressed one is unpacked to the disk for that.

    Args:
        path: The file.
        before: The same as it was opened before; what was measured then is taken where it has not changed.

    Raises:
        DataError: as `open_unpacked` and `measure_pages`, or it is no Parquet file.
    """
    with open_unpacked(path) as (_, stream, packed), _seekable(path, stream, packed) as source:
        try:  # without pre_buffer and with a buffer, or a row group would be read as a whole
            file = pa.parquet.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20)
        except MemoryError:
            raise
        except _BROKEN:
            raise broken_parquet(str(path)) from None
        with file:
            _check_fixed_sizes(file.schema_arrow, str(path))
            status = os.fstat(packed.fileno())
            state = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if before is not None and before.state == state:
                groups = before.groups
            else:
                groups = measure_pages(source, file.metadata, str(path), n_packed=status.st_size)
            yield ParquetTable(path, file, groups, status.st_size, state)


@contextmanager
def _seekable(path: Path, stream: IO[bytes], packed: IO[bytes]) -> Iterator[IO[bytes]]:
    """The bytes of a table in a file whose end can be read first."""
    if stream is packed:
        yield packed
        return
    with _unpack(path) as unpacked:
        yield unpacked


def _unpack(path: Path) -> IO[bytes]:
    """Unpack a file into a temporary one, which is removed when it is closed."""
    with ExitStack() as stack:
        with _writing_temporary_file(path):
            unpacked = tempfile.TemporaryFile()  # noqa: SIM115
        stack.callback(_close, unpacked)
        for piece in unpacked_pieces(path):  # whose own errors name the table
            with _writing_temporary_file(path):
                unpacked.write(piece)
        with _writing_temporary_file(path):
            unpacked.flush()
        stack.pop_all()
        return unpacked


@contextmanager
def _writing_temporary_file(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: could not be unpacked into the folder for temporary files ({error.strerror}). Free some space "
            "there, name another folder with TMPDIR, or unpack the file yourself."
        ) from None


def _close(file: IO[bytes]) -> None:
    with suppress(OSError):  # what could not be written is tried again at the end
        file.close()


def _check_fixed_sizes(schema: pa.Schema, where: str) -> None:
    for field in schema:
        n_bytes = _fixed_bytes(field.type)
        if n_bytes > bounds.CELL_BYTES:
            raise DataError(
                f"{where}: the column {show_names([field.name])} holds lists of {n_bytes:,} bytes. Leave it out."
            )


def _fixed_bytes(kind: pa.DataType) -> int:
    """What lists of a fixed size take in a row; also where they are missing, and take next to nothing in the file."""
    if pa.types.is_fixed_size_list(kind):
        size: int = kind.list_size
        return size * max(1, _fixed_bytes(kind.value_type) or _value_bytes(kind.value_type))
    if pa.types.is_struct(kind):
        return sum(_fixed_bytes(kind.field(place).type) for place in range(kind.num_fields))
    return 0


def _value_bytes(kind: pa.DataType) -> int:
    try:
        return int(kind.bit_width) // 8
    except ValueError:  # a type whose values differ in length
        return 16


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type in which values are handed on: for texts and bytes one whose lengths are known before they are read."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_string_view(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(kind) else kind
