"""Lines -> JSON objects, strictly, by one rule for training and scoring.

Each line is one object, in which no name is repeated and no number is NaN or infinite.
"""

import re
from collections.abc import Iterator
from typing import IO, Any

from moderation.strict_json import parse_strictly
from moderation.tables import bounds

_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]')


def read_lines(stream: IO[bytes], where: str) -> Iterator[str | None]:
    """Lines that are not blank, without white space around them; None: not UTF-8, or longer than `bounds.CELL_BYTES`.

    Args:
        stream: UTF-8, with or without a byte order mark.
        where: The file's name in messages.

    Raises:
        DataError: a line, or empty lines, without end.
    """
    encoding = "utf-8-sig"
    n_lines = n_empty = 0  # from the beginning, and since the last line that is not empty
    while line := stream.readline(bounds.CELL_BYTES + bounds.LINE_END):
        fits = not bounds.is_too_long(len(line.removesuffix(b"\n").removesuffix(b"\r")))
        n_lines += 1
        if not fits and not line.endswith(b"\n"):
            _skip_line(stream, n_lines, where)
        try:
            text = line.decode(encoding).strip() if fits else None
        except UnicodeDecodeError:
            text = None
        encoding = "utf-8"
        if text != "":
            n_empty = 0
            yield text
            continue
        n_empty += 1
        if n_empty > bounds.EMPTY_LINES:
            raise bounds.too_many_empty_lines(where, n_lines)


def _skip_line(stream: IO[bytes], n_lines: int, where: str) -> None:
    n_skipped = 0
    while (rest := stream.readline(bounds.CELL_BYTES)) and not rest.endswith(b"\n"):
        n_skipped += len(rest)
        if n_skipped > bounds.SKIPPED_BYTES:
            raise bounds.endless_line(where, n_lines)


def parse_object(line: str | None) -> dict[str, Any] | None:
    """The object in a line; None: there is none, a name in it is repeated, or it is nested too deeply.

    >>> parse_object('{"text": "hi"}'), parse_object("null"), parse_object('{"text": "a", "text": "b"}')
    ({'text': 'hi'}, None, None)
    """
    if line is None or _nests_too_deep(line):
        return None
    try:
        found = parse_strictly(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _nests_too_deep(line: str) -> bool:
    r"""Whether more than `bounds.NESTING` brackets are open at once; those within texts do not count.

    >>> _nests_too_deep("[" * 101), _nests_too_deep("[]" * 101), _nests_too_deep('"\\"' + "[" * 101 + '"')
    (True, False, False)
    """
    if line.count("[") + line.count("{") <= bounds.NESTING:
        return False
    depth = 0
    for found in _BRACKETS.finditer(line):
        sign = found[0]
        if len(sign) == 1:
            depth += 1 if sign in "[{" else -1
            if depth > bounds.NESTING:
                return True
    return False
