"""Bodies as JSON, with what real clients make of it: half an emoji, a byte order mark, no Content-Type."""

import json
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from moderation.serving.problems import ApiProblem

_SURROGATES = re.compile(
    r"\\\\"  # a backslash, after which no escape begins
    r"|\\u[dD][89aAbB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a whole pair
    r"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_BARE_NAME = re.compile(
    r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'  # a string; one without an end matches too, or the search would begin again in it
    r"|(?<![\w$])(?P<name>[A-Za-z_$][\w$]*+)(?=\s*+:)",
    re.DOTALL,
)
_NOTHING = object()
_ANY_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(body: bytes, *, bare_names: bool = False) -> Any:
    r"""Read JSON in UTF-8.

    Half of a surrogate pair, as it is left where a text was cut inside an emoji, is read as U+FFFD: whoever wrote the
    text did not cut it, and it shall be looked at.

    Args:
        body: As it came.
        bare_names: Whether names of fields may stand without quotes, as in JavaScript.

    Raises:
        ApiProblem: 400, no JSON, or not in UTF-8.

    >>> read_json(b'"cut here \\ud83d"') == "cut here \ufffd"
    True
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ApiProblem(400, "invalid_request", "The body cannot be read: expected JSON in UTF-8.") from None
    if _ANY_SURROGATE.search(text):
        text = _SURROGATES.sub(lambda found: r"\ufffd" if found["half"] else found[0], text)
    found = _parse(text)
    if found is _NOTHING and bare_names:
        found = _parse(_BARE_NAME.sub(_quote, text))
    if found is _NOTHING:
        raise ApiProblem(400, "invalid_json", "The body is not valid JSON.")
    return found


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # ValueError: also of a number of thousands of digits
        return _NOTHING


def _quote(found: re.Match[str]) -> str:
    return f'"{found["name"]}"' if found["name"] else found[0]


class JsonRoute(APIRoute):
    """A route whose body is JSON, whatever its headers say; the gate has looked at them."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, given a request that reads its body as `read_json` does."""
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return handle_json


class _JsonRequest(Request):
    def __init__(self, scope: Any, receive: Any) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
        super().__init__({**scope, "headers": [*headers, (b"content-type", b"application/json")]}, receive)

    async def json(self) -> Any:
        return read_json(await self.body())
