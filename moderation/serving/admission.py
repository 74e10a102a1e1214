"""Who may send requests, and how many: checks the key of a request, of a batch, and of each part of a batch."""

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
"""Paths that need no key: the page, health, and descriptions of the server."""

CALLER = "moderation.caller"
"""Under this name a scope holds the name of the request's key; None if no key is needed."""

SENDER = "moderation.sender"
"""Under this name a scope holds whom a request counts for: the name of its key or, without one, its address."""

IDENTIFY_PART = "moderation.identify_part"
"""Under this name the scope of a batch holds the function that finds the key of a part, or refuses the part."""

COUNT_PARTS = "moderation.count_parts"
"""Under this name the scope of a batch holds the function that counts its parts by key and refuses the excess."""

_BATCH = "moderation.batch"
_OPEN_PREFIX = "/page/"
_KEY_HEADERS = ("authorization", "x-api-key", "x-goog-api-key")
_MOST_QUERY_BYTES = 4_096  # room for a key and Google's parameters; parsing longer ones takes milliseconds


class Admission:
    """Admits requests, or refuses them.

    Args:
        keys: The valid keys; None: no key is needed.
        limiter: Counts the requests of each key (without keys, of each address); None: no limit.
    """

    def __init__(self, keys: Keys | None, limiter: Limiter | None) -> None:
        self._keys, self._limiter = keys, limiter

    async def admit(self, scope: Scope, path: str, headers: Headers) -> str | None:
        """Name of the request's key; None if no key is needed, or if each part of a batch has its own.

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
        """How to receive the body of an admitted request: a batch without a key needs one in its first part.

        This reads as much of the body as that takes, so that a batch without any key costs other requests no time.

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
        """As many pieces of a batch as it takes to find the key of its first part, joined."""
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
        begun = bytes(held[:MAX_HEAD_BYTES])  # the part may be cut off there
        await self._check_first_part(batch, read_first_part(headers.get("content-type", ""), begun))
        return {"type": "http.request", "body": bytes(held), "more_body": more}

    def _identify_part(self, key: str, part: Part | BrokenPart) -> tuple[Part, str | None]:
        """A part of a batch, and the name of its key; without one of its own, it uses the batch's key."""
        if isinstance(part, BrokenPart):
            message = "This part is not an HTTP request with Content-Type: application/http."
            raise ApiError(400, "invalid_request", message)
        return part, self._identify(_find_part_key(part) or key)

    async def _check_first_part(self, batch: "_Batch", part: Part | BrokenPart) -> None:
        """Refuse a batch unless its first part has a valid key, which the batch then counts for."""
        sender = self._identify("" if isinstance(part, BrokenPart) else _find_part_key(part))
        if sender is not None:
            await batch.begin(sender)

    def _identify(self, key: str) -> str | None:
        """Name of a key; None if no key is needed."""
        if self._keys is None:
            return None
        if not key:
            raise ApiError(401, "unauthorized", "An API key is required: Authorization: Bearer KEY.")
        caller = self._keys.find(key)
        if caller is None:
            raise ApiError(401, "invalid_key", "This API key is not valid.")
        return caller

    async def _count(self, requests: Sequence[str]) -> list[ApiError | None]:
        """Count requests, each for a key or (without keys) an address, and return why each is refused, if it is.

        Those that count for the same key are taken at once; the first ones are admitted.
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

    One request of the sender is counted before the body is read. So many batches at once cannot share the last allowed
    request, and a batch whose parts are never read counts too. This request pays for the sender's first part.

    Args:
        count: As `Admission._count`.

    Attributes:
        sender: Key or address that the batch counts for; None: not known yet.
    """

    def __init__(self, count: Callable[[Sequence[str]], Awaitable[list[ApiError | None]]]) -> None:
        self.sender: str | None = None
        self._count = count

    async def begin(self, sender: str) -> None:
        """Count one request for the sender.

        Raises:
            ApiError: 429, it has none left.
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
    """The key that came with a request; "" if none did.

    Raises:
        ApiError: 401, two keys in one place: a proxy may have checked the other one.
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
