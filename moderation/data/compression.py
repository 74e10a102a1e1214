"""File -> bytes of the one table in it, unpacked where it is compressed; at once or as a stream."""

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import IO

import pyarrow as pa

from moderation.data.formats import FORMATS as FORMATS
from moderation.data.formats import TABLES as _TABLES
from moderation.errors import DataError

_CODECS = {".gz": "gzip", ".zst": "zstd"}
# What reading may raise; not all are errors of the file: a caller's own OSError must not be caught with them.
DAMAGED = (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, pa.ArrowException)


def read_unpacked(path: Path) -> tuple[str, bytes]:
    """Read a file and unpack what its endings name.

    Args:
        path: A table, plain or with one of `.gz`, `.zst` and `.zip` behind its ending; an archive holds one table.

    Returns:
        The ending of the table (`.csv`, `.tsv`, `.parquet`, `.jsonl` or `.ndjson`) and its bytes.

    Raises:
        DataError: no such file, a folder, an unknown ending, an archive with a password or with no or several tables,
            or damaged compression.
    """
    packed = _read_bytes(path)
    try:
        name, content = _unpack(path, packed)
    except DAMAGED:
        raise damaged(path) from None
    return _ending(path, name), content


@contextmanager
def open_unpacked(path: Path) -> Iterator[tuple[str, IO[bytes], IO[bytes]]]:
    """Open a file as a stream of the table's bytes, in constant memory.

    Yields:
        The ending of the table, its bytes unpacked, and the packed file below, whose `tell` says how far reading got.
        A read raises one of `DAMAGED` where the compression is broken; `damaged` makes the error of it.

    Raises:
        DataError: as `read_unpacked`.
    """
    _check_file(path)
    try:
        packed = path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from None
    with packed:
        ending = path.suffix.lower()
        if ending == ".zip":
            try:
                archive = zipfile.ZipFile(packed)
                member = _table_in(path, archive)
                unpacked = archive.open(member)  # an unknown method, or two names of it, come up only here
            except DAMAGED:
                raise damaged(path) from None
            with archive, unpacked as stream:
                yield _ending(path, member.filename), stream, packed
        elif ending in _CODECS:
            name = _ending(path, path.stem)
            if not path.stat().st_size:
                raise damaged(path)
            with pa.CompressedInputStream(packed, _CODECS[ending]) as stream:
                yield name, io.BufferedReader(stream), packed
        else:
            yield _ending(path, path.name), packed, packed


def damaged(path: Path) -> DataError:
    """The error of a file whose compression is broken."""
    return DataError(
        f"{path}: not a complete {path.suffix.lower()} file (truncated, damaged, or another format). "
        "Fetch or compress it again."
    )


def _ending(path: Path, name: str) -> str:
    ending = PurePath(name).suffix.lower()
    if ending not in _TABLES:
        raise DataError(f"{path}: unknown ending; expected {FORMATS}. Convert or rename the file.")
    return ending


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise DataError(f"{path}: this is a folder; expected a file that ends in {FORMATS}.")
    if not path.exists():
        raise DataError(f"{path}: no such file. Check the path; it was looked up from {Path.cwd()}.")


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be read ({error.strerror}). Check the rights of the file.")


def _read_bytes(path: Path) -> bytes:
    _check_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unpack(path: Path, packed: bytes) -> tuple[str, bytes]:
    """Name and content of the table in the file."""
    ending = path.suffix.lower()
    if ending == ".zip":
        return _unzip(path, packed)
    if ending not in _CODECS:
        return path.name, packed
    if not packed:  # pyarrow takes no bytes for an empty table; here it is a broken download
        raise EOFError
    with pa.CompressedInputStream(pa.BufferReader(packed), _CODECS[ending]) as stream:
        return path.stem, stream.read()


def _unzip(path: Path, content: bytes) -> tuple[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        member = _table_in(path, archive)
        return member.filename, archive.read(member)


def _table_in(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The one table of an archive."""
    tables = [
        member
        for member in archive.infolist()
        if PurePath(member.filename).suffix.lower() in _TABLES and not member.filename.startswith("__MACOSX/")
    ]
    if len(tables) != 1:
        raise DataError(
            f"{path}: the archive holds {len(tables)} tables; expected exactly one file that ends in "
            f"{', '.join(_TABLES)}. Unpack it and name the table."
        )
    if tables[0].flag_bits & 1:
        raise DataError(f"{path}: the archive has a password. Unpack it and name the table.")
    return tables[0]
