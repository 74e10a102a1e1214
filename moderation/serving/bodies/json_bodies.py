"""JSON bodies, including what real clients send: half an emoji, a byte order mark, no Content-Type."""

import re
from collections.abc import Callable, Collection, Coroutine, Iterable
from itertools import islice
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from moderation.serving.errors import ApiError
from moderation.serving.heavy_requests import read_by_size
from moderation.strict_json import parse_strictly

MAX_NAMES = 10_000
"""Maximum number of field names in one body: each one may be wrong, and would be reported."""

MAX_ITEMS = 100_000
"""Maximum number of strings, commas and opening brackets in one body: no other thread runs while they are parsed."""

_MOST_AROUND_BARE = 100_000  # bytes outside strings; a body with more is not searched for names without quotes
# A JSON string (and whether it is a name), or something else that begins an item. An unclosed string matches too;
# otherwise the search would restart inside it. Each alternative begins with a plain character, so that text that
# matches none is skipped fast: no other thread runs meanwhile.
_ITEM = re.compile(rb'"(?P<string>[^"\\]*+(?:\\.[^"\\]*+)*+)"?(?P<name>\s*+:)?|,|\[|\{', re.DOTALL)
_SURROGATES = re.compile(
    r"\\\\"  # a backslash, after which no escape begins
    r"|\\u[dD][89aAbB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a whole pair
    r"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_BARE_NAME = re.compile(
    r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'  # a string; an unclosed one matches too, or the search would restart inside it
    r"|(?<![\w$])(?P<name>[A-Za-z_$][\w$]*+)(?=\s*+:)",
    re.DOTALL,
)
_NOTHING = object()
_ANY_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(body: bytes, *, bare_names: bool = False) -> Any:
    r"""Check that a body has few enough fields and items, then read it as JSON in UTF-8.

    Half of a surrogate pair (left when a program cut a text inside an emoji) is read as U+FFFD: the author did not cut
    the text, and it should still be classified.

    Args:
        body: The raw bytes.
        bare_names: Whether field names may lack quotes, as in JavaScript.

    Raises:
        ApiError: 400, not JSON, or not UTF-8; 413, too many fields or items.

    >>> read_json(b'"cut here \\ud83d"') == "cut here \ufffd"
    True
    """
    n_around = check_items(body)
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ApiError(400, "invalid_request", "The body cannot be read: expected JSON in UTF-8.") from None
    if _ANY_SURROGATE.search(text):
        text = _SURROGATES.sub(lambda found: r"\ufffd" if found["half"] else found[0], text)
    found = _parse(text)
    if found is _NOTHING and bare_names and n_around <= _MOST_AROUND_BARE:
        text = _BARE_NAME.sub(_quote, text)
        check_items(text.encode())
        found = _parse(text)
    if found is _NOTHING:
        raise ApiError(400, "invalid_json", "The body is not valid JSON.")
    return found


def keep_one_unknown(given: Any, known: Collection[str]) -> Any:
    """The object with at most one of its unknown fields, so that the refusal reports only that one.

    >>> keep_one_unknown({"a": 1, "text": 2, "b": 3}, {"text"})
    {'text': 2, 'a': 1}
    """
    if not isinstance(given, dict):
        return given
    unknown = next((name for name in given if name not in known), None)
    if unknown is None:
        return given
    return {name: value for name, value in given.items() if name in known} | {unknown: given[unknown]}


def check_items(body: bytes) -> int:
    """Refuse a body with so many fields or items that parsing it and reporting errors would keep the server busy.

    Unlike parsing, this check lets other threads run.

    Returns:
        Number of bytes outside its strings.

    Raises:
        ApiError: 413.
    """
    n_names = n_within = 0
    for n_items, found in enumerate(_ITEM.finditer(body), 1):
        n_names += found["name"] is not None
        n_within += len(found["string"] or b"")
        if n_names > MAX_NAMES:
            raise ApiError(413, "too_large", f"The body has too many fields; expected {MAX_NAMES:,} at most.")
        if n_items > MAX_ITEMS:
            raise ApiError(413, "too_large", f"The body has too many items; expected {MAX_ITEMS:,} at most.")
    return len(body) - n_within


def check_items_together(bodies: Iterable[bytes], most: int) -> None:
    """Refuse the bodies of one batch if they have too many items together, before any of them is parsed.

    Raises:
        ApiError: 413.
    """
    room = most
    for body in bodies:
        room -= sum(1 for _ in islice(_ITEM.finditer(body), room + 1))
        if room < 0:
            message = f"The parts together have too many items; expected {most:,} at most. Send fewer at a time."
            raise ApiError(413, "too_large", message)


def _parse(text: str) -> Any:
    try:
        return parse_strictly(text, unique_names=False)
    except (ValueError, RecursionError):  # ValueError: also for NaN, 1e999, and a number of thousands of digits
        return _NOTHING


def _quote(found: re.Match[str]) -> str:
    return f'"{found["name"]}"' if found["name"] else found[0]


class JsonRoute(APIRoute):
    """A route whose body is JSON, whatever its headers say; the gate has checked them."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler; its request reads the body with `read_json`."""
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return handle_json


class _JsonRequest(Request):
    def __init__(self, scope: Any, receive: Any) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
        super().__init__({**scope, "headers": [*headers, (b"content-type", b"application/json")]}, receive)

    async def json(self) -> Any:
        return await read_by_size(read_json, await self.body())
