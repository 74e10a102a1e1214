"""Lines of a pipe, as they come: each is a text, or says why it is none. Needs no other package."""

import io
from collections.abc import Iterator

from moderation.data.encodings import LONGEST, UTF8, Utf8Recoder, guess_encoding
from moderation.errors import DataError

NO_UTF8 = "not UTF-8"
NO_UTF16 = "not UTF-16"
NUL = "holds a NUL character"

_PIPE_BYTES = 1 << 16  # read at once from a pipe: what has come so far, and no more than this

Line = tuple[str | None, str | None]
"""A text and what is wrong with it; a text that is too long is None, one that is not UTF-8 shows its bytes."""


def pipe_lines(pipe: io.RawIOBase) -> Iterator[list[Line]]:
    r"""Lines of a pipe as they come; each line is a row, so that rows and lines stay in step.

    Lines end in LF or CRLF. The text is UTF-8, or UTF-16 where a byte order mark or the zero bytes of its letters say
    so. A line of more than `LONGEST` bytes has an error, and no more of it than that is ever held.

    Args:
        pipe: Unbuffered, so that a read gives what has come.

    Yields:
        The lines that had come at the end of each read; the last one also without an end.

    Raises:
        DataError: the pipe cannot be read.

    >>> list(pipe_lines(io.BytesIO(b"one\ntwo\xff\n")))
    [[('one', None), ('two\\xff', 'not UTF-8')]]
    """
    beginning = _first_bytes(pipe)
    encoding = guess_encoding(beginning)
    wrong = NO_UTF8 if encoding == UTF8 else NO_UTF16
    held = bytearray()
    for content in _recoded(pipe, beginning, Utf8Recoder(encoding)):
        end, *lines = content.split(b"\n")
        if len(held) <= LONGEST:
            held += end
        if lines:
            *whole, rest = lines
            yield [_decode(line, wrong) for line in (bytes(held), *whole)]
            held = bytearray(rest)
    if held:
        yield [_decode(bytes(held), wrong)]


def _first_bytes(pipe: io.RawIOBase) -> bytes:
    """What comes first: enough to know the encoding, which takes the bytes of a byte order mark."""
    beginning = b""
    while len(beginning) < 3 and not beginning.endswith(b"\n"):
        content = _read(pipe)
        if not content:
            break
        beginning += content
    return beginning


def _recoded(pipe: io.RawIOBase, beginning: bytes, recoder: Utf8Recoder) -> Iterator[bytes]:
    content: bytes | None = beginning
    while content:
        yield recoder.recode(content)
        content = _read(pipe)
    yield recoder.recode(b"", final=True)


def _read(pipe: io.RawIOBase) -> bytes | None:
    try:
        return pipe.read(_PIPE_BYTES)
    except OSError as error:
        raise DataError(f"standard input: cannot be read ({error.strerror}). Expected one text a line.") from None


def _decode(line: bytes, wrong: str) -> Line:
    if len(line) > LONGEST:
        return None, f"a line of more than {LONGEST >> 20} MiB"
    line = line.removesuffix(b"\r")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("utf-8", "backslashreplace"), wrong
    return text, NUL if "\0" in text else None
