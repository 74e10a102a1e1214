"""Reads texts that are held in memory as a whole: their bytes as UTF-8, if they fit into the free memory."""

import codecs
from collections.abc import Iterator
from pathlib import Path

from moderation.errors import DataError
from moderation.memory import free_bytes
from moderation.tables import bounds
from moderation.tables.compression import unpacked_pieces
from moderation.tables.encodings import Utf8Recoder, guess_encoding

HELD_PER_BYTE, HELD_PER_LINE = 6, 150
"""Peak memory of a table, per byte of its texts and per line; measured with `check`."""


class Room:
    """The memory that is free at the start; a table, and everything made from it, must fit into it.

    Args:
        path: Path of the table.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._free = path, free_bytes()

    def check(self, n_bytes: int) -> None:
        """Refuse a table that would take too many bytes.

        Raises:
            DataError: fewer are free.
        """
        if self._free is not None and n_bytes > self._free:
            raise DataError(
                f"{self._path}: too large for the memory here: the table is held as a whole, which takes "
                f"{n_bytes / 1e9:,.1f} GB or more, and {self._free / 1e9:,.1f} GB are free. Use a part of its rows or "
                "columns, or a machine with more memory."
            )


def text_pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a text as UTF-8, piece by piece, as long as the table fits into memory.

    Raises:
        DataError: they are not UTF-8, or too many.
    """
    room, checked, recoder = Room(path), _Utf8Check(path), None
    n_bytes = n_lines = 0
    for piece in unpacked_pieces(path):
        n_bytes, n_lines = n_bytes + len(piece), n_lines + piece.count(b"\n")
        room.check(n_bytes * HELD_PER_BYTE + n_lines * HELD_PER_LINE)
        recoder = recoder or Utf8Recoder(guess_encoding(piece))
        recoded = recoder.recode(piece)
        checked.feed(recoded)
        yield recoded
    if recoder is not None:
        yield recoder.recode(b"", final=True)
    checked.feed(b"", final=True)


def read_lines_whole(path: Path) -> bytes:
    """A text whose lines end in line feeds; a line over the limit is cut just after it.

    Raises:
        DataError: as for `text_pieces`; a line has no end.
    """
    lines = _Lines(path)
    return b"".join(map(lines.shorten, text_pieces(path)))


class _Lines:
    """Cuts off the part of a line beyond its limit."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._n_bytes = self._n_ended = 0  # bytes of the unfinished line; number of finished lines

    def shorten(self, content: bytes) -> bytes:
        """The next bytes, without the cut-off part of a line that began before them.

        Raises:
            DataError: a line without end.
        """
        end = content.find(b"\n")
        tail = content if end < 0 else content[:end]
        kept = max(0, bounds.CELL_BYTES + 1 - self._n_bytes)
        self._n_bytes += len(tail)
        if self._n_bytes > bounds.SKIPPED_BYTES:
            raise bounds.endless_line(str(self._path), self._n_ended + 1)
        if end >= 0:
            self._n_bytes = len(content) - content.rfind(b"\n") - 1
            self._n_ended += content.count(b"\n")
        return content if len(tail) <= kept else tail[:kept] + content[len(tail) :]


class _Utf8Check:
    """Finds the first byte that is not UTF-8."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._n_bytes = self._n_lines = 0

    def feed(self, content: bytes, *, final: bool = False) -> None:
        """The next bytes.

        Raises:
            DataError: they are not UTF-8.
        """
        pending = self._decoder.getstate()[0]
        try:
            self._decoder.decode(content, final)
        except UnicodeDecodeError as error:
            offset, foreign = error.start, (pending + content)[error.start]
        else:
            self._n_bytes += len(content)
            self._n_lines += content.count(b"\n")
            return
        line = self._n_lines + content.count(b"\n", 0, max(0, offset - len(pending))) + 1
        raise DataError(
            f"{self._path}: not UTF-8; the first invalid byte is 0x{foreign:02x} at offset "
            f"{self._n_bytes - len(pending) + offset}, line {line}. Convert the unpacked file, for example: "
            "iconv -f LATIN1 -t UTF-8 FILE > FILE.utf8 (or, from Excel, save as 'CSV UTF-8')."
        )
