"""Lines of a pipe, as they arrive: each is a text, or has an error. Needs no other package."""

import io
from collections.abc import Iterator

from moderation.errors import DataError
from moderation.tables import bounds
from moderation.tables.encodings import NO_UTF8, NO_UTF16, UTF8, Utf8Recoder, find_marked_encoding

NUL = "holds a NUL character"
TOO_LONG = f"a line of more than {bounds.CELL_BYTES >> 20} MiB"

_PIPE_BYTES = 1 << 16  # read at once from a pipe: what has arrived so far, up to this limit

Line = tuple[str | None, str | None]
"""A text and its error; a text that is too long is None, and invalid UTF-8 is shown as escaped bytes."""


def pipe_lines(pipe: io.RawIOBase) -> Iterator[list[Line]]:
    r"""Lines of a pipe as they arrive; each line is a row, even an empty or broken one.

    Lines end in LF or CRLF. The text is UTF-8, or UTF-16 if it begins with a byte order mark. Nothing else in the
    first line decides the encoding: anybody may have written it, and it applies to all lines.
    A line of more than `bounds.CELL_BYTES` gets an error as soon as it is that long, and no more of it is held in
    memory.

    Args:
        pipe: Unbuffered, so that a read returns what has arrived.

    Yields:
        The lines that had arrived at the end of each read; the last line may lack a line end.

    Raises:
        DataError: the pipe cannot be read, or one of its lines does not end.

    >>> list(pipe_lines(io.BytesIO(b"one\ntwo\xff\n")))
    [[('one', None), ('two\\xff', 'not UTF-8')]]
    """
    beginning = _first_bytes(pipe)
    encoding = find_marked_encoding(beginning)
    wrong = NO_UTF8 if encoding == UTF8 else NO_UTF16
    held = bytearray()
    n_lines = n_skipped = 0  # complete lines; bytes of the current line that were not held
    for content in _recoded(pipe, beginning, Utf8Recoder(encoding)):
        end, *lines = content.split(b"\n")
        if n_skipped:
            n_skipped += len(end)
        else:
            held += end
        found: list[Line] = []
        if not n_skipped and bounds.is_too_long(len(held) - held.endswith(b"\r")):  # report it now: it may never end
            found, n_skipped = [(None, TOO_LONG)], 1
            held.clear()
        if lines:
            *whole, rest = lines
            first = [] if n_skipped else [bytes(held)]
            found += [_decode(line, wrong) for line in (*first, *whole)]
            held, n_skipped = bytearray(rest), 0
            n_lines += len(lines)
        if n_skipped > bounds.SKIPPED_BYTES:
            raise bounds.endless_line("standard input", n_lines + 1)
        if found:
            yield found
    if held:
        yield [_decode(bytes(held), wrong)]


def _first_bytes(pipe: io.RawIOBase) -> bytes:
    """The first bytes: enough for a byte order mark, to find the encoding."""
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
        raise DataError(f"standard input: cannot be read ({error.strerror}). Expected one text per line.") from None


def _decode(line: bytes, wrong: str) -> Line:
    line = line.removesuffix(b"\r")
    if bounds.is_too_long(len(line)):
        return None, TOO_LONG
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("utf-8", "backslashreplace"), wrong
    return text, NUL if "\0" in text else None
