"""Zip archives from elsewhere: how much memory opening one may take, and which compression methods are unpacked."""

import errno
import struct
import zipfile
from typing import IO, Any, cast

_DIRECTORY_BYTES = 1 << 22  # about 50,000 files; Python keeps an object for each
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def open_archive(file: IO[bytes]) -> zipfile.ZipFile:
    """Open a zip archive for reading, unless its directory by itself would take too much memory.

    Args:
        file: The archive; the caller closes it.

    Raises:
        zipfile.BadZipFile: it is not a zip archive, or its directory is damaged or too large.
    """
    try:
        return zipfile.ZipFile(cast(IO[bytes], _Bounded(file)))
    except (ValueError, struct.error) as error:  # a name that is not UTF-8, an offset before the start of the file
        raise zipfile.BadZipFile("its directory is damaged") from error


def open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    """Open a file in an archive for reading.

    Raises:
        zipfile.BadZipFile: the archive is damaged where the file begins.
    """
    try:
        return archive.open(member)
    except (ValueError, OverflowError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # an error of the disk, not of the archive
            raise
        raise zipfile.BadZipFile("a file in it is damaged") from error


def is_unpackable(member: zipfile.ZipInfo) -> bool:
    """Whether it can be unpacked without a password, in memory that does not depend on what the archive claims."""
    return member.compress_type in _METHODS and not member.flag_bits & 1


class _Bounded:
    """A file that is never read in large pieces, as `ZipFile` would read a directory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        """Read this many bytes, or everything that follows.

        Raises:
            zipfile.BadZipFile: they are too many.
        """
        content = self._file.read(_DIRECTORY_BYTES + 1 if size < 0 else min(size, _DIRECTORY_BYTES + 1))
        if len(content) > _DIRECTORY_BYTES:
            raise zipfile.BadZipFile("its directory is too large")
        return content
