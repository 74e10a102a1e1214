"""The sizes of a Parquet file's pages, read from their headers before anything is unpacked.

The file's own directory may be wrong; readers rely on the headers of the pages. These are structures of Thrift's
compact protocol; a few of their numbers matter here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet

from moderation.errors import DataError
from moderation.tables import bounds
from moderation.tables.columns import show_names

_MOST_ROWS = 10_000  # decoded at once
_LARGEST_HEADER = 1 << 24  # that Arrow reads
_DEEPEST = 12  # nested structures and lists
_LEVEL_BYTES = 8  # approximate; of a value that repeats the one before, or is missing: its offset and its level
_SUSPECT = 64  # factor by which a page may grow if its values are lists
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}  # bytes of a value
_DECIMAL_BYTES = 32  # of the widest decimal number that Arrow makes, even if the file stores fewer

_BITS = {4: 16, 5: 32, 6: 64}  # of Thrift's numbers
_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12  # types of Thrift
_CODECS = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3  # types of pages
_DELTA_BYTE_ARRAY = 7  # an encoding in which a value may repeat the one before
_ENCODING = {_DATA: (5, 2), _DICTIONARY: (7, 2), _DATA_V2: (8, 4)}  # places of a page's own header and encoding


@dataclass(frozen=True)
class RowGroup:
    """The memory that reading a row group takes.

    Args:
        n_rows: Its rows.
        n_bytes: Approximate size of its columns when decoded; they may take more if values are repeated.
        rows_at_once: Rows that can be decoded together in bounded memory.
    """

    n_rows: int
    n_bytes: int
    rows_at_once: int


@dataclass(frozen=True)
class _Chunk:
    """Position of a column's pages in a row group, according to the file's directory."""

    begin: int
    end: int
    n_values: int
    codec: int


@dataclass(frozen=True)
class _Page:
    kind: int
    begin: int  # of its content in the file
    packed_bytes: int
    n_bytes: int
    n_values: int
    repeats: bool  # its values may repeat something that is stored once


@dataclass(frozen=True)
class _Column:
    """A column of a row group: values, bytes of all pages, and maximum bytes of a row, except for a page or two."""

    n_values: int
    n_bytes: int
    row_bytes: int


def measure_pages(file: IO[bytes], metadata: pa.parquet.FileMetaData, where: str, *, n_packed: int) -> list[RowGroup]:
    """Measure how much memory reading each row group takes, and refuse a file that would fill it.

    Args:
        file: The Parquet file, unpacked.
        metadata: Of that file.
        where: Its name in messages.
        n_packed: Size of the file on the disk.

    Raises:
        DataError: a limit of `bounds` is exceeded, or the headers contradict the file's directory.
    """
    if metadata.num_columns > bounds.COLUMNS:
        raise DataError(f"{where}: {metadata.num_columns:,} columns; expected {bounds.COLUMNS:,} or fewer.")
    try:
        directory = list(_read_directory(file, where))
    except DataError:
        raise
    except (EOFError, IndexError, ValueError, KeyError, TypeError, AttributeError, OSError):
        raise broken_parquet(where) from None
    groups = [_measure_group(file, metadata, n_rows, chunks, where) for n_rows, chunks in directory]
    if sum(group.n_rows for group in groups) != metadata.num_rows:
        raise broken_parquet(where)
    check_decoded(sum(group.n_bytes for group in groups), n_packed, where)
    return groups


def check_decoded(n_bytes: int, n_packed: int, where: str) -> None:
    """Refuse a file that decodes to far more than its size.

    Args:
        n_bytes: Bytes that have been decoded, or will be.
        n_packed: Size of the file on the disk.
        where: Its name in the message.

    Raises:
        DataError: it does.
    """
    if n_bytes > max(bounds.UNPACKED_STRETCH, bounds.UNPACKED_RATIO * n_packed):
        raise DataError(
            f"{where}: its columns take {n_bytes / 1e6:,.0f} MB or more, over {bounds.UNPACKED_RATIO} times the file, "
            "as in files made to exhaust memory. If you trust it, write it as CSV."
        )


def broken_parquet(where: str) -> DataError:
    """The error for a file that is not what its name claims."""
    return DataError(
        f"{where}: not a complete Parquet file (truncated, damaged, or another format). Fetch or write it again."
    )


def deep_column(file: IO[bytes], where: str) -> DataError:
    """The error for a file with a column that is nested more deeply than Arrow reads."""
    try:
        name = show_names([_deepest(_read_fields(file, where, keeps_texts=True)[2, _LIST])])
    except (EOFError, IndexError, ValueError, KeyError, TypeError, AttributeError, OSError):
        return broken_parquet(where)
    return DataError(
        f"{where}: the column {name} contains nested lists or objects, over {bounds.NESTING} levels as Parquet "
        f"counts them (two for each list); expected {bounds.NESTING} at most. Leave it out, or write it as JSON text."
    )


def _deepest(elements: list[dict[tuple[int, int], Any]]) -> str:
    """The most deeply nested column in a schema, whose elements are in the order of a walk through the tree."""
    deepest, name, column = 0, "", ""
    left = [elements[0][5, _I32]]  # children still to come, at each level
    for element in elements[1:]:
        while left and not left[-1]:
            left.pop()
        left[-1] -= 1
        if len(left) == 1:
            column = element[4, _BINARY].decode("utf-8", "replace")
        if len(left) > deepest:
            deepest, name = len(left), column
        left.append(element.get((5, _I32), 0))
    return name


def _read_directory(file: IO[bytes], where: str) -> Iterator[tuple[int, list[_Chunk]]]:
    """Rows and columns of each row group; pyarrow's access to them crashes the process if some numbers are wrong."""
    for group in _read_fields(file, where).get((4, _LIST), []):
        n_rows = group[3, _I64]
        if n_rows < 0:
            raise ValueError("a negative number of rows")
        yield n_rows, [_as_chunk(column[3, _STRUCT]) for column in group[1, _LIST]]


def _read_fields(file: IO[bytes], where: str, *, keeps_texts: bool = False) -> dict[tuple[int, int], Any]:
    """The directory at the end of a file."""
    n_bytes = file.seek(-8, 2)
    size = int.from_bytes(file.read(4), "little")
    if size > n_bytes:
        raise ValueError("a directory that is larger than the file")
    if size > bounds.DIRECTORY_BYTES:
        raise DataError(
            f"{where}: a directory (footer) of {size / 1e6:,.0f} MB; expected {bounds.DIRECTORY_BYTES / 1e6:,.0f} MB "
            "at most. Write the file again with fewer and larger row groups, or with fewer columns."
        )
    file.seek(n_bytes - size)
    return _Compact(file.read(size), keeps_texts=keeps_texts).read_struct()


def _as_chunk(about: dict[tuple[int, int], Any]) -> _Chunk:
    begin, first = about[9, _I64], about.get((11, _I64), 0)
    begin = first if 0 < first < begin else begin
    return _Chunk(begin, begin + about[7, _I64], about[5, _I64], about[4, _I32])


def _measure_group(
    file: IO[bytes], metadata: pa.parquet.FileMetaData, n_rows: int, chunks: list[_Chunk], where: str
) -> RowGroup:
    if len(chunks) != metadata.num_columns:
        raise broken_parquet(where)
    columns = []
    for place, chunk in enumerate(chunks):
        shape = metadata.schema.column(place)
        if (shape.length or 0) > bounds.CELL_BYTES:
            raise DataError(f"{_column_name(where, shape)} contains values of {shape.length:,} bytes. Leave it out.")
        columns.append(_measure_column(file, n_rows, chunk, shape, where))
    row_bytes = sum(column.row_bytes for column in columns)
    at_once = min(_MOST_ROWS, max(1, bounds.DECODED_BYTES // max(1, row_bytes)))
    n_bytes = sum(column.n_bytes + _LEVEL_BYTES * column.n_values for column in columns)
    return RowGroup(n_rows, n_bytes, at_once)


def _measure_column(file: IO[bytes], n_rows: int, chunk: _Chunk, shape: Any, where: str) -> _Column:
    is_list, width = shape.max_repetition_level > 0, _width(shape)
    n_values = n_bytes = density = inflated = 0
    longest = width or 0
    try:
        for page in _pages(file, chunk):
            _check_page(page, n_values, shape, where)
            n_bytes += page.n_bytes
            if page.kind == _DICTIONARY:
                longest = width or max(longest, _longest_value(file, page, chunk))
                continue
            n_values += page.n_values
            if not width:
                density = max(density, -(-page.n_bytes // max(1, page.n_values)))
                longest = max(longest, page.n_bytes if page.repeats else 0)
            decoded = page.n_values * (_LEVEL_BYTES + longest)
            inflated += decoded if is_list and decoded > _SUSPECT * page.n_bytes else 0
    except DataError:
        raise
    except (EOFError, ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError):
        raise broken_parquet(where) from None
    if n_values < n_rows or (n_values != n_rows and not is_list):
        raise broken_parquet(where)
    if inflated > 8 * bounds.DECODED_BYTES:
        raise DataError(
            f"{_column_name(where, shape)} contains lists of {inflated / 1e9:,.1f} GB in one row group. "
            "Leave it out, or write the file again with fewer rows in a row group."
        )
    in_row = -(-n_values // max(1, n_rows))
    return _Column(n_values, n_bytes, in_row * (_LEVEL_BYTES + density + longest))


def _check_page(page: _Page, n_before: int, shape: Any, where: str) -> None:
    n_bytes = max(page.n_bytes, page.packed_bytes)
    if n_bytes <= bounds.PAGE_BYTES and page.n_values <= bounds.PAGE_VALUES:
        return
    rows = f", from value {n_before + 1} of a row group on," if page.kind != _DICTIONARY else ""
    raise DataError(
        f"{_column_name(where, shape)}{rows} has a page of {n_bytes / 1e6:,.0f} MB and {page.n_values:,} values; "
        f"expected {bounds.PAGE_BYTES / 1e6:,.0f} MB and {bounds.PAGE_VALUES:,} values at most. Is a cell very large? "
        "Shorten it, or write the file again with usual pages (1 MiB)."
    )


def _column_name(where: str, shape: Any) -> str:
    return f"{where}: the column {show_names([shape.path.split('.')[0]])}"


def _pages(file: IO[bytes], chunk: _Chunk) -> Iterator[_Page]:
    """Headers of a column's pages, up to the one with which a reader has all values."""
    at, n_values = chunk.begin, 0
    while at < chunk.end and n_values < chunk.n_values:
        page = _read_header(file, at)
        yield page
        n_values += page.n_values if page.kind != _DICTIONARY else 0
        at = page.begin + page.packed_bytes


def _read_header(file: IO[bytes], at: int) -> _Page:
    size = 1 << 9
    while True:
        file.seek(at)
        content = file.read(size)
        try:
            reader = _Compact(content)
            fields = reader.read_struct()
            break
        except IndexError:
            if len(content) < size or size >= _LARGEST_HEADER:
                raise EOFError from None
            size <<= 5
    kind = fields.get((1, _I32), -1)
    n_bytes, packed_bytes = fields[2, _I32], fields[3, _I32]
    place, encoding = _ENCODING.get(kind, (0, 0))
    own = fields.get((place, _STRUCT), {})
    n_values = own.get((1, _I32), 0)
    if min(n_bytes, packed_bytes, n_values) < 0:
        raise ValueError("a negative size")
    repeats = own.get((encoding, _I32)) == _DELTA_BYTE_ARRAY
    return _Page(kind, at + reader.at, packed_bytes, n_bytes, n_values, repeats)


def _width(shape: Any) -> int | None:
    """Bytes of each value when it is decoded; None: they differ in length."""
    if shape.physical_type == "BYTE_ARRAY":
        return None
    width = _WIDTHS.get(shape.physical_type) or max(1, shape.length or 0)
    return max(width, _DECIMAL_BYTES) if shape.logical_type.type == "DECIMAL" else width


def _longest_value(file: IO[bytes], page: _Page, chunk: _Chunk) -> int:
    """Bytes of the longest value in a dictionary, or of all of it if it cannot be unpacked here."""
    file.seek(page.begin)
    content = file.read(page.packed_bytes)
    try:
        if chunk.codec:
            content = pa.decompress(content, page.n_bytes, _CODECS[chunk.codec], asbytes=True)
    except (pa.ArrowException, ValueError, KeyError, OSError):
        return page.n_bytes
    longest = at = 0
    while at + 4 <= len(content):
        size = int.from_bytes(content[at : at + 4], "little")
        longest, at = max(longest, size), at + 4 + size
    return min(longest, page.n_bytes)


class _Compact:
    """Reads structures of Thrift's compact protocol; raises `IndexError` if the bytes end too early."""

    def __init__(self, content: bytes, *, keeps_texts: bool = False) -> None:
        self._content = content
        self._keeps_texts = keeps_texts
        self.at = 0

    def read_struct(self, depth: int = 0) -> dict[tuple[int, int], Any]:
        """Values by field and type: readers ignore a field that does not have the expected type."""
        if depth > _DEEPEST:
            raise ValueError("structures are nested too deeply")
        fields: dict[tuple[int, int], Any] = {}
        number, seen = 0, set[int]()
        while head := self._byte():
            delta, kind = head >> 4, head & 15
            number = number + delta if delta else self._signed()
            if not 0 < number < 1 << 15 or number in seen:
                raise ValueError("a field that is repeated, or whose number other readers would cut off")
            seen.add(number)
            # The value of a boolean is encoded in its type.
            fields[number, kind] = None if kind in (1, 2) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2, 3):
            return self._byte()
        if kind in (4, 5, 6):
            return self._signed(_BITS[kind])
        if kind == _BINARY:
            size = self._unsigned()
            self._skip(size)
            return self._content[self.at - size : self.at] if self._keeps_texts else None
        if kind == 7:
            return self._skip(8)
        if kind == _STRUCT:
            return self.read_struct(depth + 1)
        if kind in (9, 10):
            head = self._byte()
            size = head >> 4 if head >> 4 < 15 else self._unsigned()
            if size > len(self._content) or depth > _DEEPEST:
                raise ValueError("a list that is too long, or nested too deeply")
            return [self._value(head & 15, depth + 1) for _ in range(size)]
        raise ValueError("a type that page headers do not have")

    def _byte(self) -> int:
        byte = self._content[self.at]
        self.at += 1
        return byte

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                if shift > 7 and not byte:
                    raise ValueError("a number that is longer than necessary")
                return value
            if shift > 63:
                raise ValueError("a number that is too long")

    def _signed(self, bits: int = 16) -> int:
        value = self._unsigned()
        if value >> bits:
            raise ValueError("a number that other readers would cut off")
        return (value >> 1) ^ -(value & 1)

    def _skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self._content):
            raise IndexError
