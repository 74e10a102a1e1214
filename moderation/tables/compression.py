"""File -> a stream of the bytes of the one table in it, unpacked if it is compressed."""

import io
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import IO

import pyarrow as pa

from moderation.archives import is_unpackable, open_archive, open_member
from moderation.errors import DataError
from moderation.tables import bounds
from moderation.tables.formats import FORMATS, TABLES

_CODECS = {".gz": "gzip", ".zst": "zstd"}
_PIECE = 1 << 20
# What reading may raise. A caller's own OSError is not an error of the file, so it must not be caught with them.
_DAMAGED = (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, pa.ArrowException)


def unpacked_pieces(path: Path) -> Iterator[bytes]:
    """All bytes of the table in a file, some at a time.

    Raises:
        DataError: as for `open_unpacked`; broken compression; a part of the file unpacks to far more than its size.
    """
    with open_unpacked(path) as (_, stream, packed), reading(path):
        begin = n_before = n_unpacked = 0
        while piece := stream.read(_PIECE):
            yield piece
            n_unpacked += len(piece)
            if stream is not packed and n_unpacked >= bounds.UNPACKED_STRETCH:
                if n_unpacked > bounds.UNPACKED_RATIO * (packed.tell() - begin):
                    raise _unpacks_to_too_much(path, n_before)
                begin, n_before, n_unpacked = packed.tell(), n_before + n_unpacked, 0


def check_unpacked(path: Path) -> None:
    """Read a whole compressed file, so that a broken one, or one made to fill memory, is refused before work begins.

    Raises:
        DataError: as for `unpacked_pieces`.
    """
    if path.suffix.lower() in (*_CODECS, ".zip"):
        for _ in unpacked_pieces(path):
            pass


@contextmanager
def open_unpacked(path: Path) -> Iterator[tuple[str, IO[bytes], IO[bytes]]]:
    """Open a file as a stream of the table's bytes, in constant memory; wrap the code that reads it in `reading`.

    Args:
        path: A table, plain or with `.gz`, `.zst` or `.zip` after its ending; an archive contains one table.

    Yields:
        The ending of the table (`.csv`, `.tsv`, `.parquet`, `.jsonl` or `.ndjson`), its bytes unpacked, and the packed
        file, whose `tell` shows how far reading got.

    Raises:
        DataError: no such file, a folder, an unknown ending, an archive with a password or with no or several tables,
            or damaged compression.
    """
    _check_file(path)
    try:
        packed = path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from None
    with packed:
        ending = path.suffix.lower()
        if ending == ".zip":
            with reading(path):
                archive = open_archive(packed)
                member = _table_in(path, archive)
                unpacked = open_member(archive, member)  # a name that differs inside the archive is noticed only here
            with archive, unpacked as stream:
                yield _ending(path, member.filename), stream, packed
        elif ending in _CODECS:
            name = _ending(path, path.stem)
            if not path.stat().st_size:
                raise _damaged(path)
            with pa.CompressedInputStream(packed, _CODECS[ending]) as stream:
                yield name, io.BufferedReader(stream), packed
        else:
            yield _ending(path, path.name), packed, packed


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors from reading a packed file into an error about the file; running out of memory stays separate.

    Raises:
        DataError: the compression is broken.
    """
    try:
        yield
    except MemoryError:  # Arrow's, too, which is also one of its own errors
        raise
    except _DAMAGED as error:
        if "too much memory" in str(error):
            raise DataError(
                f"{path}: unpacking it takes more than 128 MiB of memory. Compress it again with a smaller window "
                "(zstd without --long and --ultra)."
            ) from None
        raise _damaged(path) from None


def _damaged(path: Path) -> DataError:
    return DataError(
        f"{path}: not a complete {path.suffix.lower()} file (truncated, damaged, or another format). "
        "Fetch or compress it again."
    )


def _unpacks_to_too_much(path: Path, begin: int) -> DataError:
    return DataError(
        f"{path}: {bounds.UNPACKED_STRETCH >> 20} MiB, from byte {begin:,} of the table on, are packed to less than a "
        f"{bounds.UNPACKED_RATIO}th of their size, as in files made to exhaust memory. If you trust it, unpack "
        "it and name the table."
    )


def _ending(path: Path, name: str) -> str:
    ending = PurePath(name).suffix.lower()
    if ending not in TABLES:
        raise DataError(f"{path}: unknown ending; expected {FORMATS}. Convert or rename the file.")
    return ending


def _check_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Check the path; it is relative to {Path.cwd()}.") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    if stat.S_ISDIR(mode):
        raise DataError(f"{path}: this is a folder; expected a file that ends in {FORMATS}.")
    if not stat.S_ISREG(mode):  # it will be read more than once
        raise DataError(f"{path}: this is a pipe or a device; expected a file. Write its content to one.")


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be read ({error.strerror}). Check the file's permissions.")


def _table_in(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The one table of an archive."""
    tables = [
        member
        for member in archive.infolist()
        if PurePath(member.filename).suffix.lower() in TABLES and not member.filename.startswith("__MACOSX/")
    ]
    if len(tables) != 1:
        raise DataError(
            f"{path}: the archive contains {len(tables)} tables; expected exactly one file that ends in "
            f"{', '.join(TABLES)}. Unpack it and name the table."
        )
    if tables[0].flag_bits & 1:
        raise DataError(f"{path}: the archive has a password. Unpack it and name the table.")
    if not is_unpackable(tables[0]):
        raise DataError(
            f"{path}: the archive is not compressed with deflate, the usual method of zip files. Unpack it and "
            "name the table."
        )
    return tables[0]
