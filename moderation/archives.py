"""Zip archives of others: what opening one may take, and which methods of compression are unpacked."""

import errno
import struct
import zipfile
from typing import IO, Any, cast

_DIRECTORY_BYTES = 1 << 22  # some 50,000 files; Python holds an object for each of them
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def open_archive(file: IO[bytes]) -> zipfile.ZipFile:
    """Open a zip archive for reading, unless its directory alone would take much memory.

    Args:
        file: The archive; it stays the caller's to close.

    Raises:
        zipfile.BadZipFile: it is none, or its directory is damaged or too large.
    """
    try:
        return zipfile.ZipFile(cast(IO[bytes], _Bounded(file)))
    except (ValueError, struct.error) as error:  # a name that is not UTF-8, a place before the file's beginning
        raise zipfile.BadZipFile("its directory is damaged") from error


def open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    """Open a file in an archive for reading.

    Raises:
        zipfile.BadZipFile: the archive is damaged where the file begins.
    """
    try:
        return archive.open(member)
    except (ValueError, OverflowError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which is of the disk, not of the archive
            raise
        raise zipfile.BadZipFile("a file in it is damaged") from error


def is_unpackable(member: zipfile.ZipInfo) -> bool:
    """Whether it can be unpacked in memory that does not depend on what it says of itself, and without a password."""
    return member.compress_type in _METHODS and not member.flag_bits & 1


class _Bounded:
    """A file that is never read in large pieces, which `ZipFile` does with a directory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes, or all that follow.

        Raises:
            zipfile.BadZipFile: they are too many.
        """
        content = self._file.read(_DIRECTORY_BYTES + 1 if size < 0 else min(size, _DIRECTORY_BYTES + 1))
        if len(content) > _DIRECTORY_BYTES:
            raise zipfile.BadZipFile("its directory is too large")
        return content
