"""Parquet files -> record batches in bounded memory, for training and for scoring."""

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet

from moderation.errors import DataError
from moderation.tables import bounds
from moderation.tables.columns import show_names
from moderation.tables.compression import open_unpacked, unpacked_pieces
from moderation.tables.fixed_sizes import (
    expanded_bytes,
    holds_list_views,
    largest_list,
    nests_too_deep,
    row_bytes_at_least,
    stands_in_list,
)
from moderation.tables.parquet_pages import RowGroup, broken_parquet, check_decoded, deep_column, measure_pages

# Otherwise a row group would be read as a whole.
_IN_PIECES: dict[str, object] = {"pre_buffer": False, "buffer_size": 1 << 20}
_BROKEN = (pa.ArrowException, OSError, ValueError, KeyError)


@dataclass(frozen=True)
class ParquetTable:
    """An open Parquet file.

    Args:
        path: Its path.
        source: Its bytes.
        file: Open for reading.
        groups: Its row groups.
        n_packed: Size of the file on the disk.
        state: State of the file on the disk; it differs after each change.
    """

    path: Path
    source: IO[bytes]
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
        """Approximate bytes that the whole table takes in memory; more if values are repeated."""
        return sum(group.n_bytes for group in self.groups)

    @property
    def schema(self) -> pa.Schema:
        """Schema of the batches: the file's, with dictionary values instead of references to them, and no views."""
        return pa.schema([pa.field(field.name, _plain(field.type)) for field in self.file.schema_arrow])

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, some at a time.

        Raises:
            DataError: it is damaged, or decodes to far more than its size.
        """
        schema, n_bytes = self.schema, 0
        most_rows = max(1, bounds.DECODED_BYTES // max(1, sum(row_bytes_at_least(field.type) for field in schema)))
        try:
            for number, group in enumerate(self.groups):
                n_rows = min(most_rows, group.rows_at_once)
                self._check_expanded(number, n_rows, n_bytes)
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

    def _check_expanded(self, group: int, n_rows: int, n_before: int) -> None:
        """Refuse a row group whose lists of a fixed size would fill the memory; they are measured in another type."""
        kinds = {place: kind for place, kind in enumerate(self.schema.types) if stands_in_list(kind)}
        if not kinds:
            return
        n_bytes = n_before
        plain = pa.parquet.ParquetFile(self.source, metadata=_without_fixed_sizes(self.file.metadata), **_IN_PIECES)
        for found in plain.iter_batches(batch_size=n_rows, row_groups=[group]):
            sizes = {place: expanded_bytes(kind, found.column(place)) for place, kind in kinds.items()}
            n_bytes += sum(sizes.values())
            check_decoded(n_bytes, self.n_packed, str(self.path))
            if sum(sizes.values()) > 4 * bounds.DECODED_BYTES:
                name = self.schema.names[max(sizes, key=lambda place: sizes[place])]
                raise DataError(
                    f"{self.path}: the column {show_names([name])} contains lists of {max(sizes.values()) / 1e6:,.0f} "
                    f"MB in {found.num_rows:,} rows. Leave it out."
                )


@contextmanager
def open_parquet(path: Path, before: ParquetTable | None = None) -> Iterator[ParquetTable]:
    """Open a file whose end must be read first; for that, a compressed one is unpacked to the disk.

    Args:
        path: The file.
        before: The same file when it was opened before; its measurements are used again if it has not changed.

    Raises:
        DataError: as for `open_unpacked` and `measure_pages`, or it is not a Parquet file.
    """
    with open_unpacked(path) as (_, stream, packed), _seekable(path, stream, packed) as source:
        try:
            file = pa.parquet.ParquetFile(source, **_IN_PIECES)
        except MemoryError:
            raise
        except _BROKEN as error:
            if "too deeply nested" in str(error):
                raise deep_column(source, str(path)) from None
            raise broken_parquet(str(path)) from None
        with file:
            _check_types(file.schema_arrow, str(path))
            status = os.fstat(packed.fileno())
            state = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if before is not None and before.state == state:
                groups = before.groups
            else:
                groups = measure_pages(source, file.metadata, str(path), n_packed=status.st_size)
            yield ParquetTable(path, source, file, groups, status.st_size, state)


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
        for piece in unpacked_pieces(path):  # its own errors name the table
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
    with suppress(OSError):  # a failed write is tried again at the end
        file.close()


def _check_types(schema: pa.Schema, where: str) -> None:
    for field in schema:
        if nests_too_deep(field.type):
            raise DataError(
                f"{where}: the column {show_names([field.name])} contains nested values; expected "
                f"{bounds.NESTING} levels at most. Leave it out."
            )
        if holds_list_views(field.type):
            raise DataError(
                f"{where}: the column {show_names([field.name])} contains views of lists (list_view), which are not "
                "supported. Leave it out, or write it as lists."
            )
        n_bytes = max(largest_list(field.type), row_bytes_at_least(field.type))
        if n_bytes > bounds.CELL_BYTES:
            raise DataError(
                f"{where}: the column {show_names([field.name])} contains lists of {n_bytes:,} bytes. Leave it out."
            )


def _without_fixed_sizes(metadata: pa.parquet.FileMetaData) -> pa.parquet.FileMetaData:
    """A file's metadata without Arrow's types, so that lists of a fixed size are read as lists of any length."""
    content = io.BytesIO()
    metadata.write_metadata_file(content)
    return pa.parquet.read_metadata(io.BytesIO(content.getvalue().replace(b"ARROW:schema", b"arrow:schema")))


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type in which values are passed on: for texts and bytes, one whose lengths are known before reading."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_string_view(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(kind) else kind
