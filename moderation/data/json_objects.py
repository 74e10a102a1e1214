"""Lines -> JSON objects, strictly: the one rule for training and for scoring.

A line is an object of its own, in which no name stands twice and no number is NaN or infinite.
"""

import json
from collections.abc import Iterator
from typing import IO, Any


def read_lines(stream: IO[bytes], longest: int) -> Iterator[str | None]:
    """Lines that are not blank, without white space around them; None: not UTF-8, or longer than `longest` bytes."""
    encoding = "utf-8-sig"
    while line := stream.readline(longest):
        fits = len(line) < longest or line.endswith(b"\n")
        rest = line
        while not fits and rest and not rest.endswith(b"\n"):
            rest = stream.readline(longest)
        try:
            text = line.decode(encoding).strip() if fits else None
        except UnicodeDecodeError:
            text = None
        encoding = "utf-8"
        if text != "":
            yield text


def parse_object(line: str | None) -> dict[str, Any] | None:
    """The object of a line; None: the line holds none, or one in which a name stands twice.

    >>> parse_object('{"text": "hi"}'), parse_object("null"), parse_object('{"text": "a", "text": "b"}')
    ({'text': 'hi'}, None, None)
    """
    if line is None:
        return None
    try:
        found = json.loads(line, object_pairs_hook=unique_pairs, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs of a JSON object; a hook for `json.loads`, which would keep the last of two values in silence.

    Raises:
        ValueError: a name stands twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
