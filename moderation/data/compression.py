"""File -> bytes of the one table in it, unpacked where it is compressed."""

import io
import zipfile
import zlib
from pathlib import Path, PurePath

import pyarrow as pa

from moderation.errors import DataError

FORMATS = ".csv, .tsv, .parquet, .jsonl or .ndjson, each also with .gz, .zip or .zst"
_TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
_CODECS = {".gz": "gzip", ".zst": "zstd"}


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
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, pa.ArrowException):
        raise DataError(
            f"{path}: not a complete {path.suffix.lower()} file (truncated, damaged, or another format). "
            "Fetch or compress it again."
        ) from None
    ending = PurePath(name).suffix.lower()
    if ending not in _TABLES:
        raise DataError(f"{path}: unknown ending; expected {FORMATS}. Convert or rename the file.")
    return ending, content


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise DataError(f"{path}: this is a folder; expected a file that ends in {FORMATS}.")
    if not path.exists():
        raise DataError(f"{path}: no such file. Check the path; it was looked up from {Path.cwd()}.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the rights of the file.") from None


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
        return tables[0].filename, archive.read(tables[0])
