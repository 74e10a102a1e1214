"""Zip archives of others: what opening one may take, and which methods of compression are unpacked."""

import zipfile
from typing import IO, Any, cast

_DIRECTORY_BYTES = 1 << 22  # some 50,000 files; Python holds an object for each of them
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def open_archive(file: IO[bytes]) -> zipfile.ZipFile:
    """Open a zip archive for reading, unless its directory alone would take much memory.

    Args:
        file: The archive; it stays the caller's to close.

    Raises:
        zipfile.BadZipFile: it is none, or its directory is too large.
    """
    return zipfile.ZipFile(cast(IO[bytes], _Bounded(file)))


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
