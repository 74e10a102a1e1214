"""Who may ask, and how often: the key of a request, of a batch, and of each part of one."""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from moderation.serving.bodies.media import read_coding
from moderation.serving.bodies.multipart import MAX_HEAD_BYTES, BrokenPart, Part, read_first_part
from moderation.serving.errors import ApiError
from moderation.serving.keys import Keys
from moderation.serving.limits.local import Limiter, budget_of
from moderation.serving.paths import BATCH_PATHS

OPEN_PATHS = frozenset({"/", "/livez", "/readyz", "/openapi.json", "/$discovery/rest"})
"""Answered without a key: the page, health, and what describes the server."""

CALLER = "moderation.caller"
"""Under this name a scope holds the name of the key that asks; None where nobody needs one."""

SENDER = "moderation.sender"
"""Under this name a scope holds for whom a request counts: the name of its key, or its address where it has none."""

IDENTIFY_PART = "moderation.identify_part"
"""Under this name the scope of a batch holds what names the key of one of its parts, or refuses it."""

COUNT_PARTS = "moderation.count_parts"
"""Under this name the scope of a batch holds what counts its parts, by the names of their keys, and refuses some."""

_BATCH = "moderation.batch"
_OPEN_PREFIX = "/page/"
_KEY_HEADERS = ("authorization", "x-api-key", "x-goog-api-key")
_MOST_QUERY_BYTES = 4_096  # a key and some parameters of Google's; to take longer ones apart costs milliseconds


class Admission:
    """Lets requests in, or refuses them.

    Args:
        keys: Who may ask; None: everybody.
        limiter: Counts the requests of each key (without keys: of each address); None: any number may come.
    """

    def __init__(self, keys: Keys | None, limiter: Limiter | None) -> None:
        self._keys, self._limiter = keys, limiter

    async def admit(self, scope: Scope, path: str, headers: Headers) -> str | None:
        """Name of the key that asks; None where nobody needs one, or where each part of a batch has its own.

        Raises:
            ApiError: a query that is too long, no key, a wrong one, or too many requests.
        """
        query = scope.get("query_string", b"")
        _check_query(query)
        address = scope[SENDER] = budget_of(str((scope.get("client") or ("",))[0]))
        if path in OPEN_PATHS or path.startswith(_OPEN_PREFIX):
            return None
        key = _find_key(query, headers)
        if path in BATCH_PATHS:  # each of its parts is a request of its own, with its own key or this one
            caller = self._identify(key) if key else None
            scope[IDENTIFY_PART] = partial(self._identify_part, key)
            batch = scope[_BATCH] = _Batch(self._count)
            if self._keys is None or caller is not None:
                await batch.begin(caller or address)
            scope[COUNT_PARTS] = batch.count_parts
            scope[SENDER] = caller or address
            return caller
        caller = self._identify(key)
        scope[SENDER] = caller or address
        (refusal,) = await self._count([caller or address])
        if refusal is not None:
            raise refusal
        return caller

    async def guard(self, scope: Scope, headers: Headers, receive: Receive) -> Receive:
        """How the body of an admitted request is received: a batch without a key has to show one in its first part.

        As much of it as that takes is read here, so that a batch without any key costs nobody else's time.

        Raises:
            ApiError: 401, no valid key; 429, one that has no request left; or what `receive` raises.
        """
        batch: _Batch | None = scope.get(_BATCH)
        if batch is None or batch.sender is not None or scope["method"] != "POST":
            return receive
        first: Message | None = await self._read_first_part(batch, headers, receive)
        scope[SENDER] = batch.sender or scope[SENDER]

        async def go_on() -> Message:
            nonlocal first
            message, first = first, None
            return message or await receive()

        return go_on

    async def _read_first_part(self, batch: "_Batch", headers: Headers, receive: Receive) -> Message:
        """As many pieces of a batch as it takes to know the key of its first part, as one."""
        if read_coding(headers):
            needed = "A compressed batch needs its API key in its own headers, not only in its parts."
            raise ApiError(401, "unauthorized", needed)
        held, more = bytearray(), True
        while more and len(held) < MAX_HEAD_BYTES:
            message = await receive()
            if message["type"] != "http.request":
                return message
            held += message.get("body", b"")
            more = message.get("more_body", False)
        begun = bytes(held[:MAX_HEAD_BYTES])  # the part may be cut off behind them
        await self._check_first_part(batch, read_first_part(headers.get("content-type", ""), begun))
        return {"type": "http.request", "body": bytes(held), "more_body": more}

    def _identify_part(self, key: str, part: Part | BrokenPart) -> tuple[Part, str | None]:
        """A part of a batch, which may share the batch's key, and the name of its key."""
        if isinstance(part, BrokenPart):
            message = "This part is not an HTTP request with Content-Type: application/http."
            raise ApiError(400, "invalid_request", message)
        return part, self._identify(_find_part_key(part) or key)

    async def _check_first_part(self, batch: "_Batch", part: Part | BrokenPart) -> None:
        """Refuse a batch none of which was looked at, unless its first part has a key, which then is the sender."""
        sender = self._identify("" if isinstance(part, BrokenPart) else _find_part_key(part))
        if sender is not None:
            await batch.begin(sender)

    def _identify(self, key: str) -> str | None:
        """Name of a key; None where nobody needs one."""
        if self._keys is None:
            return None
        if not key:
            raise ApiError(401, "unauthorized", "An API key is required: Authorization: Bearer KEY.")
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


class _Batch:
    """Counts each part of a batch as a request.

    One request of the sender is counted before the body is read: many batches at once cannot share the last one that is
    left, and a batch whose parts are never read counts too. It pays for the sender's first part.

    Args:
        count: As `Admission._count`.

    Attributes:
        sender: Whom the batch counts for; None: not known yet.
    """

    def __init__(self, count: Callable[[Sequence[str]], Awaitable[list[ApiError | None]]]) -> None:
        self.sender: str | None = None
        self._count = count

    async def begin(self, sender: str) -> None:
        """Count one request for the sender.

        Raises:
            ApiError: 429, none is left.
        """
        (refusal,) = await self._count([sender])
        if refusal is not None:
            raise refusal
        self.sender = sender

    async def count_parts(self, callers: Sequence[str | None]) -> list[ApiError | None]:
        """Why each part is refused, if it is; a part without a key, or with a wrong one, counts for the sender."""
        parts = [caller or self.sender or "" for caller in callers]
        if self.sender not in parts:
            return await self._count(parts)
        paid = parts.index(self.sender)
        refusals = await self._count(parts[:paid] + parts[paid + 1 :])
        return [*refusals[:paid], None, *refusals[paid:]]


def _refuse_rate(limiter: Limiter, wait_s: float) -> ApiError:
    message = f"Too many requests: the limit is {limiter.rate}."
    return ApiError(429, "rate_limited", message, retry_after_s=max(1, math.ceil(wait_s)))


def _check_query(query: bytes) -> None:
    if len(query) > _MOST_QUERY_BYTES:
        message = f"The query is too long; expected {_MOST_QUERY_BYTES:,} bytes at most after the question mark."
        raise ApiError(414, "too_large", message)


def _find_key(query: bytes, headers: Headers) -> str:
    """The key that came with a request, "" where none did.

    Raises:
        ApiError: 401, two of them in one place: a proxy may have looked at the other one.
    """
    in_query = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("key", [])
    in_headers = ([key.strip() for key in headers.getlist(name)] for name in _KEY_HEADERS)
    if any(len(set(keys)) > 1 for keys in (in_query, *in_headers)):
        raise ApiError(401, "invalid_key", "The request has two different API keys; expected one.")
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
