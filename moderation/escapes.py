r"""Control characters are shown, never sent: what goes to a terminal or into a log passes here.

A terminal obeys some characters instead of showing them: they move its cursor, fill the clipboard, turn the direction
of a line. Names of labels, columns and files hold such characters where somebody wants them to, and so does what a
library says of a file. They become the escapes of JSON (`\u001b`), so that JSON stays JSON with the same content.

Newlines and tabs stay, and so do the joiners U+200C and U+200D, without which some scripts and emoji fall apart.
"""

import re
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import TextIO, cast

LONGEST_NAME = 200
"""Characters of a name that are shown."""

_KINDS = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f",  # C0 and C1
    r"\ud800-\udfff",  # surrogates, which are also how Python holds bytes that are not UTF-8
    r"\u2028\u2029",  # line and paragraph separators
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069",  # direction
    r"\xad\u180e\u200b\u2060-\u2065\u206a-\u206f\ufeff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a",  # nothing to see
    r"\ufff9-\ufffb\U000e0000-\U000e007f",  # annotations and tags
)
CONTROLS = "".join(_KINDS)
"""Characters that are escaped, for a set of characters in a regular expression."""

_CONTROLS = re.compile(f"[{CONTROLS}]")
_CONTROLS_AND_BREAKS = re.compile(f"[{CONTROLS}\t\n]")
_CURSOR = re.compile(r"\r|(?:\x1b\[A)+\Z")  # how a progress bar goes back to its place, at the start of a write


def escape(text: str) -> str:
    r"""Write control characters as JSON's escapes.

    >>> print(escape("a\x1b[31m\u202eb\n"), end="")
    a\u001b[31m\u202eb
    """
    return _CONTROLS.sub(_escape, text)


def escape_name(name: object) -> str:
    r"""A name of a stranger within a line: newlines and tabs are escaped too, and what is too long is cut.

    >>> print(escape_name("toxic\nmoderation: all is well"))
    toxic\u000amoderation: all is well
    """
    text = str(name)
    short = text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"
    return _CONTROLS_AND_BREAKS.sub(_escape, short)


def escape_json(content: bytes) -> bytes:
    r"""JSON in UTF-8, with the same content, that a terminal shows instead of obeying it.

    >>> escape_json('{"text": "\x9b2J"}'.encode())
    b'{"text": "\\u009b2J"}'
    """
    return escape(content.decode("utf-8")).encode("utf-8")


def _escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


class EscapingStream:
    """A text stream that escapes what is written to it. All else is asked of the stream itself.

    On a terminal a progress bar may go back to the start of its line, and to a line above.

    Args:
        stream: Where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Escape and write; characters that the stream's encoding lacks are escaped too."""
        moves = _CURSOR.match(text) if self._stream.isatty() else None
        start = moves.end() if moves else 0
        shown = text[:start] + escape(text[start:])
        try:
            self._stream.write(shown)
        except UnicodeEncodeError as error:
            self._stream.write(shown.encode(error.encoding, "backslashreplace").decode(error.encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write one after another."""
        for line in lines:
            self.write(line)


def escape_output() -> None:
    """Let this process escape all that Python writes to standard output and standard error as text from now on."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, EscapingStream):
            setattr(sys, name, cast("TextIO", EscapingStream(stream)))


class escaped_output:
    """Escape within a block. An error that leaves it finds the streams still escaping: its traceback is yet to come."""

    def __enter__(self) -> None:
        self._streams = sys.stdout, sys.stderr
        escape_output()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, SystemExit):
            sys.stdout, sys.stderr = self._streams
