r"""Control characters are shown, never sent: everything for a terminal or a log passes through here.

A terminal obeys some characters instead of showing them: they move its cursor, fill the clipboard, or reverse the
direction of a line. An attacker can put them into names of labels, columns and files, and a library may repeat them in
a message. They become JSON escapes (`\u001b`), so that JSON stays JSON with the same content.

Newlines and tabs stay, and so do the joiners U+200C and U+200D, which some scripts and emoji need.
"""

import re
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import TextIO, cast

LONGEST_NAME = 200
"""How many characters of a name are shown."""

_KINDS = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f",  # C0 and C1
    r"\ud800-\udfff",  # surrogates, which Python also uses for bytes that are not UTF-8
    r"\u2028\u2029",  # line and paragraph separators
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069",  # direction
    r"\xad\u180e\u200b\u2060-\u2065\u206a-\u206f\ufeff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a",  # invisible
    r"\ufff9-\ufffb\U000e0000-\U000e007f",  # annotations and tags
)
CONTROLS = "".join(_KINDS)
"""Characters that are escaped, for a character set in a regular expression."""

_CONTROLS = re.compile(f"[{CONTROLS}]")
_CONTROLS_AND_BREAKS = re.compile(f"[{CONTROLS}\t\n]")
_CURSOR = re.compile(r"\r|(?:\x1b\[A)+\Z")  # how a progress bar returns to its place, at the start of a write


def escape(text: str) -> str:
    r"""Replace control characters with JSON escapes.

    >>> print(escape("a\x1b[31m\u202eb\n"), end="")
    a\u001b[31m\u202eb
    """
    return _CONTROLS.sub(_escape, text)


def escape_name(name: object) -> str:
    r"""A name from elsewhere, for use within a line: newlines and tabs are escaped too, and long names are cut.

    >>> print(escape_name("toxic\nmoderation: all is well"))
    toxic\u000amoderation: all is well
    """
    text = str(name)
    short = text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"
    return _CONTROLS_AND_BREAKS.sub(_escape, short)


def escape_json(content: bytes) -> bytes:
    r"""JSON in UTF-8 with the same content, in which a terminal finds nothing to obey.

    >>> escape_json('{"text": "\x9b2J"}'.encode())
    b'{"text": "\\u009b2J"}'
    """
    return escape(content.decode("utf-8")).encode("utf-8")


def _escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


class EscapingStream:
    """A text stream that escapes what is written to it. Everything else is passed to the stream itself.

    On a terminal, a progress bar may return to the start of its line, or move to a line above.

    Args:
        stream: Where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Escape and write; characters that the stream's encoding does not have are escaped, too."""
        moves = _CURSOR.match(text) if self._stream.isatty() else None
        start = moves.end() if moves else 0
        shown = text[:start] + escape(text[start:])
        try:
            self._stream.write(shown)
        except UnicodeEncodeError as error:
            self._stream.write(shown.encode(error.encoding, "backslashreplace").decode(error.encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write the lines one after another."""
        for line in lines:
            self.write(line)


def escape_output() -> None:
    """From now on, escape all text that Python writes to standard output and standard error in this process."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, EscapingStream):
            setattr(sys, name, cast("TextIO", EscapingStream(stream)))


class escaped_output:
    """Escape within a block. If an error leaves it, the streams keep escaping: its traceback is still to be printed."""

    def __enter__(self) -> None:
        self._streams = sys.stdout, sys.stderr
        escape_output()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, SystemExit):
            sys.stdout, sys.stderr = self._streams
