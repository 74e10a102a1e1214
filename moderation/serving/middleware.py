"""What every request passes before a route sees it: identity, key, rate, and what its answer must carry.

The gate writes one log line per request. It names the route's pattern, never the address that was asked, which may hold
a key; and of a bug its kind and its place in the code, never its message, which may hold a text.
"""

import asyncio
import logging
import re
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moderation.errors import ModerationError
from moderation.serving.bodies.media import Media, read_coding
from moderation.serving.bodies.multipart import MAX_HEAD_BYTES, BrokenPart, Part, read_first_part
from moderation.serving.bodies.reading import Body
from moderation.serving.errors import ApiError
from moderation.serving.heavy_requests import HeavyRequests
from moderation.serving.keys import Keys
from moderation.serving.limits.local import Limiter, budget_of
from moderation.serving.metrics import Metrics
from moderation.serving.paths import BATCH_PATHS, route_path


class KeyedBatch:
    """The body of a batch that came without a key of its own.

    Args:
        receive: Its pieces.
        headers: Of the batch.
        check: Raises where the first part has no valid key. The part may be cut off behind its first bytes.
    """

    def __init__(self, receive: Receive, headers: Headers, check: Callable[[Part | BrokenPart], None]) -> None:
        self._receive, self._headers, self._check = receive, headers, check
        self._is_checked = False

    async def receive(self) -> Message:
        """The next piece; the first one is as long as it takes to know the key.

        Raises:
            ApiError: 401, no valid key; or what the receiving of the pieces raises.
        """
        if self._is_checked:
            return await self._receive()
        if read_coding(self._headers):
            needed = "A batch that is packed needs its API key in a header of its own, not in its parts alone."
            raise ApiError(401, "unauthorized", needed)
        held, more = bytearray(), True
        while more and len(held) < MAX_HEAD_BYTES:
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            held += message.get("body", b"")
            more = message.get("more_body", False)
        begun = bytes(held[:MAX_HEAD_BYTES])
        self._check(read_first_part(self._headers.get("content-type", ""), begun))
        self._is_checked = True
        return {"type": "http.request", "body": bytes(held), "more_body": more}


OPEN_PATHS = frozenset({"/", "/livez", "/readyz", "/openapi.json", "/$discovery/rest"})
"""Answered without a key: the page, health, and what describes the server."""

IDENTIFY_PART = "moderation.identify_part"
"""Under this name the scope of a batch holds what names the key of one of its parts, or refuses it."""

COUNT_PARTS = "moderation.count_parts"
"""Under this name the scope of a batch holds what counts its parts, by the names of their keys, and refuses some."""

CALLER = "moderation.caller"
"""Under this name a scope holds the name of the key that asks; None where nobody needs one."""

QUIET_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
"""Asked every few seconds by machines: a line of the log only where the answer is a refusal."""

_KEY_HEADERS = ("authorization", "x-api-key", "x-goog-api-key")
_OPEN_PREFIX = "/page/"
_MOST_QUERY_BYTES = 4_096  # a key and some parameters of Google's; to take longer ones apart costs milliseconds
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CLIENT_GONE = 499  # for the log and the metrics: nobody is there to be answered
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}

logger = logging.getLogger(__name__)


class Gate:
    """ASGI middleware in front of the routes.

    Args:
        app: The routes.
        heavy_requests: Where they run.
        keys: Who may ask; None: everybody.
        limiter: Counts the requests of each key (without keys: of each address); None: any number may come.
        metrics: Counts the answers.
        render: Puts a problem into the words of the dialect that a path belongs to.
        check_room: Raises where the model has no room for a request to this path.
        model_version: Stands in every answer.
        is_leaving: Whether this process is about to end, so that no connection is kept for another request.
        body_timeout_s: Within which a request's body must have come.
        max_body_bytes: That a body may have.
        origins: Whose pages may ask.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        heavy_requests: HeavyRequests,
        keys: Keys | None,
        limiter: Limiter | None,
        metrics: Metrics,
        render: Callable[[str, ApiError], Response],
        check_room: Callable[[str], None],
        model_version: Callable[[], str],
        is_leaving: Callable[[], bool],
        body_timeout_s: float,
        max_body_bytes: int,
        origins: Collection[str] = (),
    ) -> None:
        self._app, self._heavy_requests, self._keys, self._limiter = app, heavy_requests, keys, limiter
        self._metrics, self._render, self._model_version = metrics, render, model_version
        self._check_room, self._is_leaving = check_room, is_leaving
        self._body_timeout_s, self._max_body_bytes = body_timeout_s, max_body_bytes
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        status = 0
        path = route_path(scope)
        media = Media(headers, path, self._origins)
        body = Body(receive, headers, media, timeout_s=self._body_timeout_s, max_bytes=self._max_body_bytes)

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = _CLIENT_GONE if body.sender_left else message["status"]
                self._complete(MutableHeaders(scope=message), request_id, status)
            await send(message)

        caller = None
        try:
            caller = scope[CALLER] = await self._admit(scope, path, headers)
            media.has_key = caller is not None
            take = body.receive
            if path in BATCH_PATHS and self._keys is not None and caller is None:
                take = KeyedBatch(body.receive, headers, self._check_first_part).receive
            await body.while_sender_waits(self._heavy_requests.run(self._app, scope, take, send_on))
        except ApiError as problem:
            if not status:
                await self._render(path, problem)(scope, receive, send_on)
        except ClientDisconnect:
            pass
        except Exception as error:
            self._log_fault(error, request_id)
            if not status:
                fault = ApiError(500, "internal", f"A fault of the server; its log names it: {request_id}")
                await self._render(path, fault)(scope, receive, send_on)
        finally:
            self._record(scope, status or _CLIENT_GONE, time.perf_counter() - began, request_id, caller)

    async def _admit(self, scope: Scope, path: str, headers: Headers) -> str | None:
        """Name of the key that asks.

        Raises:
            ApiError: a query that is too long, no key, a wrong one, too many requests, or no room.
        """
        query = scope.get("query_string", b"")
        _check_query(query)
        if path in OPEN_PATHS or path.startswith(_OPEN_PREFIX):
            return None
        address = budget_of(str((scope.get("client") or ("",))[0]))
        key = _find_key(query, headers)
        if path in BATCH_PATHS:  # each of its parts is a request of its own, with its own key or this one
            caller = self._identify(key) if key else None
            scope[IDENTIFY_PART] = partial(self._identify_part, key)
            scope[COUNT_PARTS] = partial(self._count_parts, caller or address)
        else:
            caller = self._identify(key)
            (refusal,) = await self._count([caller or address])
            if refusal is not None:
                raise refusal
        self._check_room(path)
        return caller

    def _identify_part(self, key: str, part: Part | BrokenPart) -> tuple[Part, str | None]:
        """A part of a batch, which may share the batch's key, and the name of its key."""
        if isinstance(part, BrokenPart):
            message = "This part is no HTTP request of Content-Type: application/http."
            raise ApiError(400, "invalid_request", message)
        return part, self._identify(_find_part_key(part) or key)

    async def _count_parts(self, sender: str, callers: Sequence[str | None]) -> list[ApiError | None]:
        """As `_count`; a part without a key, or with a wrong one, counts for the batch's sender."""
        return await self._count([caller or sender for caller in callers])

    def _check_first_part(self, part: Part | BrokenPart) -> None:
        """Refuse a batch none of which was looked at, unless its first part has a key."""
        self._identify("" if isinstance(part, BrokenPart) else _find_part_key(part))

    def _identify(self, key: str) -> str | None:
        """Name of a key; None where nobody needs one."""
        if self._keys is None:
            return None
        if not key:
            raise ApiError(401, "unauthorized", "An API key is needed: Authorization: Bearer KEY.")
        caller = self._keys.find(key)
        if caller is None:
            raise ApiError(401, "invalid_key", "This API key is not valid.")
        return caller

    async def _count(self, requests: Sequence[str]) -> list[ApiError | None]:
        """Count requests, each for a key, or an address where there are no keys; why each is refused, if it is.

        All that count for the same key are taken at once, however many they are; the first ones are let through.
        """
        if self._limiter is None:
            return [None] * len(requests)
        asked = Counter(requests)
        found = await asyncio.gather(*(self._limiter.take(who, n) for who, n in asked.items()))
        taken = dict(zip(asked, found, strict=True))
        seen: Counter[str] = Counter()
        refusals: list[ApiError | None] = []
        for who in requests:
            seen[who] += 1
            is_over = seen[who] > taken[who].n
            refusals.append(_refuse_rate(self._limiter, taken[who].wait_s) if is_over else None)
        return refusals

    def _complete(self, headers: MutableHeaders, request_id: str, status: int) -> None:
        if status == 408 or self._is_leaving():
            headers["Connection"] = "close"  # or the rest may go on dripping in; or the next request comes too late
        headers["X-Request-Id"] = request_id
        headers["X-Model-Version"] = self._model_version()
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)

    def _record(self, scope: Scope, status: int, seconds: float, request_id: str, caller: str | None) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.request(route, _method(scope), status, seconds)
        quiet = route in QUIET_PATHS and status < 400
        logger.log(
            logging.DEBUG if quiet else logging.INFO,
            "request",
            extra={
                "request_id": request_id,
                "method": _method(scope),
                "route": route,
                "status": status,
                "ms": round(1000 * seconds, 1),
                "key": caller,
            },
        )

    def _log_fault(self, error: Exception, request_id: str) -> None:
        if isinstance(error, ModerationError):  # of the bundle, say: its message has the cure, and no text
            logger.error("fault", extra={"request_id": request_id, "error": str(error)})
            return
        places = [
            f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
        ]
        logger.error("fault", extra={"request_id": request_id, "error": type(error).__name__, "trace": places})


def _refuse_rate(limiter: Limiter, wait_s: float) -> ApiError:
    message = f"Too many requests: the limit is {limiter.rate}."
    return ApiError(429, "rate_limited", message, retry_after_s=max(1, round(wait_s)))


def _check_query(query: bytes) -> None:
    if len(query) > _MOST_QUERY_BYTES:
        message = f"The address is too long; expected {_MOST_QUERY_BYTES:,} bytes at most behind its question mark."
        raise ApiError(414, "too_large", message)


def _find_key(query: bytes, headers: Headers) -> str:
    """The key that came with a request, "" where none did.

    Raises:
        ApiError: 401, two of them in one place: a proxy may have looked at the other one.
    """
    in_query = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("key", [])
    in_headers = ([key.strip() for key in headers.getlist(name)] for name in _KEY_HEADERS)
    if any(len(set(keys)) > 1 for keys in (in_query, *in_headers)):
        raise ApiError(401, "invalid_key", "Two different API keys came; expected one.")
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    if key := headers.get("x-api-key", "").strip() or headers.get("x-goog-api-key", "").strip():
        return key
    return in_query[0] if in_query else ""


def _find_part_key(part: Part) -> str:
    query = part.query.encode()
    _check_query(query)
    return _find_key(query, part.headers)


def _method(scope: Scope) -> str:
    """The method, of which a stranger cannot invent new ones in the metrics."""
    method = str(scope["method"])
    return method if method in _METHODS else "other"
