"""Finds the encoding of a text by its first bytes: UTF-8 or UTF-16, with or without a byte order mark."""

import codecs
import io
from dataclasses import dataclass
from typing import IO, Any

from moderation.errors import DataError

UTF8 = "utf-8-sig"
NO_UTF8, NO_UTF16 = "not UTF-8", "not UTF-16"
UTF16 = ("utf-16", "utf-16-le", "utf-16-be")
_BEGINNING, _PIECE = 1 << 20, 1 << 18
_OTHERS = {
    b"PK\3\4": "a zip archive, as Excel workbooks are",
    b"\x1f\x8b": "compressed by gzip",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"PAR1": "a Parquet file",
    b"\xd0\xcf\x11\xe0": "an Excel workbook or another document of Office",
    b"%PDF-": "a PDF document",
}
"""First bytes of files that are not text, whatever their name -> their format."""


def find_marked_encoding(beginning: bytes) -> str:
    """Tell UTF-8 from UTF-16 only by the byte order mark, for text in which anybody may have written the first line.

    Args:
        beginning: The first bytes of the text, at least two if it has that many.

    Returns:
        Name of the codec: `utf-16` with a byte order mark, otherwise `utf-8-sig`.
    """
    return "utf-16" if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else UTF8


def guess_encoding(beginning: bytes) -> str:
    r"""Tell UTF-8 from UTF-16 by the byte order mark or, without one, by the zero byte of the first Latin character.

    A file begins with the name of a column, a quote or a brace, which its author wrote. The texts in it do not count:
    a comment of letters and zero bytes would make a file in UTF-8 look like UTF-16.

    Args:
        beginning: The first bytes of the text, at least two if it has that many.

    Returns:
        Name of the codec: `utf-8-sig`, `utf-16` (with a byte order mark), `utf-16-le` or `utf-16-be`.

    >>> guess_encoding("you".encode("utf-16-le")), guess_encoding(b"\xfe\xff\0y"), guess_encoding(b"you\0")
    ('utf-16-le', 'utf-16', 'utf-8-sig')
    """
    first, second = (beginning[:1], beginning[1:2]) if len(beginning) > 1 else (b"?", b"?")
    if first == b"\0" != second:
        return "utf-16-be"
    if second == b"\0" != first:
        return "utf-16-le"
    return find_marked_encoding(beginning)


class Utf8Recoder:
    """Convert the bytes of a text, in any encoding of `guess_encoding`, to UTF-8, piece by piece.

    Bytes that are not text in the encoding become bytes that are not UTF-8 either, so that a reader notices them.

    Args:
        encoding: Name of the codec; a byte order mark at the beginning is dropped.
    """

    def __init__(self, encoding: str) -> None:
        self._mark = codecs.BOM_UTF8 if encoding == UTF8 else b""
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass") if encoding in UTF16 else None

    def recode(self, content: bytes, *, final: bool = False) -> bytes:
        """The next piece; `final`: it is the last one."""
        if self._decoder is None:
            if not self._mark:
                return content
            mark, self._mark = self._mark, b""
            return content.removeprefix(mark)
        try:
            text = self._decoder.decode(content, final)
        except UnicodeDecodeError:  # half of a character at the end
            self._decoder.reset()
            return b"\xff"
        return text.encode("utf-8", "surrogatepass")


class _Recoded(io.RawIOBase):
    """A stream's bytes from its beginning, as UTF-8."""

    def __init__(self, beginning: bytes, rest: IO[bytes], recoder: Utf8Recoder) -> None:
        self._rest, self._recoder = rest, recoder
        self._held = recoder.recode(beginning)
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held and not self._ended:
            content = self._rest.read(_PIECE)
            self._ended = not content
            self._held = self._recoder.recode(content, final=self._ended)
        piece, self._held = self._held[: len(buffer)], self._held[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)


def check_is_text(beginning: bytes, where: str) -> None:
    """Refuse a file that is named like a text but is in another format, since converting its text would not help.

    Args:
        beginning: Its first eight bytes or more, unpacked.
        where: Its name in the message.

    Raises:
        DataError: its first bytes belong to another format.
    """
    for first, what in _OTHERS.items():
        if beginning.startswith(first):
            raise DataError(
                f"{where}: the name says text, but the file is {what}. Rename it to match (.parquet, .csv.gz, "
                ".csv.zip, .csv.zst), or export it as CSV in UTF-8."
            )


@dataclass(frozen=True)
class Utf8Stream:
    """A stream as UTF-8, without the byte order mark at its beginning.

    Args:
        stream: The stream, from its first byte.
        beginning: Its beginning, at most a mebibyte; the rest is read from `stream`.
        encoding: The encoding of the bytes, from `guess_encoding`.
    """

    stream: io.BufferedReader
    beginning: bytes
    encoding: str


def as_utf8(stream: IO[bytes]) -> Utf8Stream:
    """Read the beginning of a stream to find its encoding, and return all of it as UTF-8.

    Args:
        stream: Bytes of a text; the caller closes it.

    Raises:
        OSError: anything that reading `stream` raises, here and later.
    """
    beginning = b""
    while len(beginning) < _BEGINNING and (content := stream.read(_BEGINNING - len(beginning))):
        beginning += content
    encoding = guess_encoding(beginning)
    recoded = _Recoded(beginning, stream, Utf8Recoder(encoding))
    return Utf8Stream(io.BufferedReader(recoded, _PIECE), Utf8Recoder(encoding).recode(beginning), encoding)


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: it contains no half of a surrogate pair."""
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:
        return False
    return True
