"""Lines of a pipe as they come, each of them a text; without Arrow, so that a pipe can be scored without it."""

import io
from collections.abc import Iterator

from moderation.errors import DataError

LONGEST = 1 << 26  # bytes of a line; a longer one would fill the memory
NO_UTF8 = "not UTF-8"

_BOM = b"\xef\xbb\xbf"
_PIPE_BYTES = 1 << 16  # read at once from a pipe: what has come so far, and no more than this

Line = tuple[str | None, str | None]


def pipe_lines(pipe: io.RawIOBase) -> Iterator[list[Line]]:
    """Lines of a pipe as they come; each line is a row, so that rows and lines stay in step.

    A line of more than `LONGEST` bytes is None and has an error; no more of it than that is ever held.

    Yields:
        The lines that ended in one read, each as its text and what is wrong with it (None: nothing): one line from
        somebody who types, many from a file.

    Raises:
        DataError: the pipe cannot be read.
    """
    for lines in _whole_lines(pipe):
        yield [_decode(line) for line in lines]


def _decode(line: bytes) -> Line:
    r"""A line as text, and what is wrong with it; bytes that are not UTF-8 are shown as `\xe9`."""
    if len(line) > LONGEST:
        return None, f"a line of more than {LONGEST >> 20} MiB"
    line = line.removesuffix(b"\r")
    try:
        return line.decode("utf-8"), None
    except UnicodeDecodeError:
        return line.decode("utf-8", "backslashreplace"), NO_UTF8


def _whole_lines(pipe: io.RawIOBase) -> Iterator[list[bytes]]:
    """Lines that ended in one read, the last one also without an end; of one that is too long, its beginning."""
    held, mark = bytearray(), _BOM
    while content := _read_pipe(pipe):
        end, *lines = content.split(b"\n")
        if len(held) <= LONGEST + len(_BOM):
            held += end
        if lines:
            *whole, rest = lines
            yield [bytes(held.removeprefix(mark)), *whole]
            held, mark = bytearray(rest), b""
    if last := held.removeprefix(mark):
        yield [bytes(last)]


def _read_pipe(pipe: io.RawIOBase) -> bytes | None:
    try:
        return pipe.read(_PIPE_BYTES)
    except OSError as error:
        raise DataError(f"standard input: cannot be read ({error.strerror}). Expected one text a line.") from None
