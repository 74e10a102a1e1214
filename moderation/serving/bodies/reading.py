"""The body of one request: decompressed, kept within limits, and given up if the client disconnects."""

import asyncio
import time
from collections.abc import Awaitable

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from moderation.serving.bodies.media import Media
from moderation.serving.errors import ApiError


class Body:
    """The body of a request, as the application receives it.

    Args:
        receive: The server's function for the next piece.
        headers: Of the request.
        media: The body's type and encoding.
        timeout_s: The body must arrive within this time, counted from the first read.
        max_bytes: Maximum size, both compressed and decompressed.

    Attributes:
        sender_left: Whether the client disconnected before it got its answer.
    """

    def __init__(self, receive: Receive, headers: Headers, media: Media, *, timeout_s: float, max_bytes: int) -> None:
        self._receive, self._headers, self._media = receive, headers, media
        self._timeout_s, self._max_bytes = timeout_s, max_bytes
        self._deadline: float | None = None  # set by the first read
        self._n_bytes = self._n_unpacked = 0
        self._complete = asyncio.Event()
        self.sender_left = False

    async def receive(self) -> Message:
        """The next piece; after the last one, waits until the client disconnects.

        Raises:
            ApiError: 400, 408, 413 or 415.
        """
        if self._complete.is_set():
            return await self._until_left()
        if not self._n_bytes:
            self._check_headers()
        now = time.monotonic()
        self._deadline = now + self._timeout_s if self._deadline is None else self._deadline
        try:
            async with asyncio.timeout(max(0.0, self._deadline - now)):
                message = await self._receive()
        except TimeoutError:
            raise ApiError(408, "slow_body", f"The body did not arrive within {self._timeout_s:g} s.") from None
        if message["type"] != "http.request":
            self.sender_left = True
            self._complete.set()
            return message
        self._n_bytes += len(message.get("body", b""))
        if self._n_bytes > self._max_bytes:
            raise self._too_large()
        last = not message.get("more_body", False)
        room = self._max_bytes - self._n_unpacked
        message["body"] = self._media.decode(message.get("body", b""), room=room, last=last)
        self._n_unpacked += len(message["body"])
        if self._n_unpacked > self._max_bytes:
            raise self._too_large()
        if last:
            self._complete.set()
        return message

    async def while_sender_waits(self, answer: Awaitable[None]) -> None:
        """Work on an answer; stop when the client disconnects, since nobody would read it, or on cancellation."""
        work = asyncio.ensure_future(answer)
        watch = asyncio.ensure_future(self._watch())
        try:
            await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                await asyncio.wait((work,))
            if not work.cancelled():
                work.result()
        finally:
            watch.cancel()
            work.cancel()  # does nothing if it is done; if this was cancelled, nobody waits for it any more
            work.add_done_callback(_look_at_error)

    async def _watch(self) -> None:
        await self._complete.wait()
        await self._until_left()

    async def _until_left(self) -> Message:
        message: Message = {"type": "http.disconnect"} if self.sender_left else await self._receive()
        while message["type"] != "http.disconnect":
            message = await self._receive()
        self.sender_left = True
        return message

    def _check_headers(self) -> None:
        """Refuse a body because of its headers, before any of it is read."""
        self._media.check()
        length = self._headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._max_bytes:
            raise self._too_large()

    def _too_large(self) -> ApiError:
        return ApiError(413, "too_large", f"The body is too large; expected {self._max_bytes:,} bytes at most.")


def _look_at_error(work: "asyncio.Future[None]") -> None:
    """Retrieve the error: asyncio logs errors that nobody retrieved, including texts in them."""
    if not work.cancelled():
        work.exception()
