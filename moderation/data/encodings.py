"""Which encoding some text is in, told by its first bytes: UTF-8 or UTF-16, with or without a byte order mark."""

import codecs

LONGEST = 1 << 26  # bytes of a line or a field; without a bound, one without an end would fill the memory
UTF8 = "utf-8-sig"
UTF16 = ("utf-16", "utf-16-le", "utf-16-be")


def guess_encoding(beginning: bytes) -> str:
    r"""Tell UTF-8 from UTF-16, by the byte order mark or, without one, by the zero bytes of its Latin letters.

    Args:
        beginning: The first bytes of the text, two or more where it has as many; the more, the surer.

    Returns:
        Name of the codec: `utf-8-sig`, `utf-16` (with a byte order mark), `utf-16-le` or `utf-16-be`.

    >>> guess_encoding("you".encode("utf-16-le")), guess_encoding(b"\xfe\xff\0y"), guess_encoding(b"you\0")
    ('utf-16-le', 'utf-16', 'utf-8-sig')
    """
    if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    whole = beginning[: len(beginning) // 2 * 2]
    first, second = whole[0::2].count(0), whole[1::2].count(0)  # zero bytes that lead a pair, and that end one
    few = len(whole) // 16
    if second * 4 >= len(whole) > 0 and first <= few:
        return "utf-16-le"
    if first * 4 >= len(whole) > 0 and second <= few:
        return "utf-16-be"
    return UTF8


class Utf8Recoder:
    """Bytes of a text in any encoding of `guess_encoding`, piece by piece, as bytes of UTF-8.

    What is no text in the encoding arrives as bytes that are not UTF-8 either, so that a reader finds it there.

    Args:
        encoding: As `guess_encoding` names it; a byte order mark at the beginning is dropped.
    """

    def __init__(self, encoding: str) -> None:
        self._mark = codecs.BOM_UTF8 if encoding == UTF8 else b""
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass") if encoding in UTF16 else None

    def recode(self, content: bytes, *, final: bool = False) -> bytes:
        """The next piece; `final` says that none follows."""
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
