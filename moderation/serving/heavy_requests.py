"""Handles requests with large bodies off the main event loop, so that no other request waits for them.

Reading a body, checking it, finding sentences and assembling an answer all take time in proportion to the body. So a
request whose body is large, or of unknown size, runs on a second event loop in its own thread; the first loop only
receives and sends its bytes. Work that keeps a core busy runs in one more thread. So large requests wait for each
other: each key (without keys, each address) gets its turn, and a request that would wait too long is refused.
"""

import asyncio
import math
import threading
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ParamSpec, Self, TypeVar

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moderation.serving.admission import SENDER
from moderation.serving.bodies.media import read_coding
from moderation.serving.errors import ApiError
from moderation.serving.paths import BATCH_PATHS, route_path
from moderation.serving.turns import Turns

LARGE_BYTES = 8_192
"""Bodies above this size are large; smaller ones take a few milliseconds at most."""

_BODIES_AT_WORK = 32  # of the largest size: limits the memory of all bodies in progress
_LONGEST_STOP_S = 5.0
_LONGEST_LINE_S = 5.0  # heavy work that would wait longer for its thread is refused
_T = TypeVar("_T")
_P = ParamSpec("_P")
_WHO: ContextVar[str] = ContextVar("who", default="")  # the key or address that sent the request
_local = threading.local()  # in the second loop's thread: `thread` does the heavy work


class _HeavyThread:
    """One thread that serves all callers in turn; it starts on first use."""

    def __init__(self, name: str) -> None:
        self._waiting: Turns[tuple[Future[Any], Callable[[], Any]]] = Turns()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._starting = threading.Lock()
        self._usual_s = 0.0  # running mean of a task's duration

    def check_room(self, who: str) -> None:
        """Refuse work that would wait too long.

        Raises:
            ApiError: 429.
        """
        wait_s = self._waiting.n_before(who) * self._usual_s
        if wait_s > _LONGEST_LINE_S:
            raise _too_busy(retry_after_s=math.ceil(wait_s - _LONGEST_LINE_S))

    def submit(self, work: Callable[[], _T]) -> "Future[_T]":
        """Queue a task."""
        found: Future[_T] = Future()
        if not self._waiting.put((found, work), _WHO.get()):
            found.cancel()
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()
        return found

    def close(self) -> None:
        """Cancel the waiting tasks, and wait for the running one."""
        for found, _ in self._waiting.close():
            found.cancel()
        with self._starting:
            if self._thread.ident is not None:
                self._thread.join()

    def _work(self) -> None:
        while (task := self._waiting.get()) is not None:
            began = time.monotonic()
            is_done = _finish(*task)
            if is_done:
                self._usual_s += 0.1 * (time.monotonic() - began - self._usual_s)
            del task  # it holds the body


def _too_busy(*, retry_after_s: int) -> ApiError:
    message = "Too many large requests are running. Try again later."
    return ApiError(429, "queue_full", message, retry_after_s=retry_after_s)


def _finish(found: "Future[Any]", work: Callable[[], Any]) -> bool:
    """Run a task, unless nobody waits for it any more."""
    if not found.set_running_or_notify_cancel():
        return False
    try:
        found.set_result(work())
    except BaseException as error:
        found.set_exception(error)
    finally:
        del found, work  # an exception's traceback holds this frame
    return True


_FIRST_LOOPS = _HeavyThread("work aside")  # for small requests


async def run_heavy(work: Callable[_P, _T], *arguments: _P.args, **names: _P.kwargs) -> _T:
    """Run work that takes milliseconds of a core off the event loop; each of the two loops has one thread for it.

    Several threads would compete with the first loop for the interpreter and delay every answer.

    Raises:
        ApiError: 429, the work queued before it takes too long.
    """
    thread: _HeavyThread = getattr(_local, "thread", _FIRST_LOOPS)
    at_work = thread.submit(partial(copy_context().run, partial(work, *arguments, **names)))
    found = asyncio.wrap_future(at_work)
    try:
        await asyncio.wait([found], timeout=_LONGEST_LINE_S)
        if not found.done() and at_work.cancel():  # it has not started
            raise _too_busy(retry_after_s=1)
        return await found
    finally:
        found.cancel()  # the caller may be gone
        del at_work, found  # both may hold an exception, whose traceback holds this frame: the body would stay


async def read_by_size(work: Callable[[bytes], _T], body: bytes) -> _T:
    """Read a body: a small one here, a large one with `run_heavy`, since many large ones may arrive at once.

    Raises:
        ApiError: what `work` raises; 429, the work queued before it takes too long.
    """
    return await run_heavy(work, body) if len(body) > LARGE_BYTES else work(body)


class HeavyRequests:
    """Runs an application; large requests run on a second event loop.

    Args:
        max_body_bytes: Maximum size of a body.
    """

    def __init__(self, max_body_bytes: int) -> None:
        self._room = _Room(_BODIES_AT_WORK * max_body_bytes)
        self._heavy_thread = _FIRST_LOOPS
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Start the thread; until then every request runs on the caller's loop."""
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(ready)), name="heavy_requests", daemon=True
        )
        self._thread.start()
        ready.wait()

    def close(self) -> None:
        """Stop the thread, and whatever still runs on it."""
        if self._loop is not None and self._stop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_LONGEST_STOP_S)
            self._loop = None

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application here, or in the thread if the body is large or a batch, which may hold many requests.

        Raises:
            ApiError: 429, too many large bodies are in progress; raised before the body is read, if possible.
        """
        who = scope.get(SENDER, "")
        _WHO.set(who)
        if self._loop is None or (_is_small(Headers(scope=scope)) and route_path(scope) not in BATCH_PATHS):
            await app(scope, receive, send)
            return
        self._heavy_thread.check_room(who)
        here = asyncio.get_running_loop()
        with _Share(self._room, who) as share:
            body = _WholeBody(receive, here, share)
            work = app(scope, body.receive, lambda message: _on(here, send(message)))
            await _on(self._loop, work)

    async def _run(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        _local.thread = self._heavy_thread = _HeavyThread("heavy work")
        try:
            ready.set()
            await self._stop.wait()
        finally:
            _local.thread.close()


def _is_small(headers: Headers) -> bool:
    """Whether a body is small, by its headers; a compressed or chunked one may have any size."""
    if "transfer-encoding" in headers or read_coding(headers):
        return False
    length = headers.get("content-length", "")
    return not (length.isdecimal() and len(length) < 20) or int(length) <= LARGE_BYTES


@dataclass
class _Room:
    """Memory for all bodies in progress.

    A sender's bodies may not hold more than there is room left, so one sender alone fills at most half of it.
    """

    most: int
    n_bytes: int = 0
    by_sender: Counter[str] = field(default_factory=Counter)

    def change(self, who: str, n_bytes: int) -> None:
        """Record that a body of this sender holds so many bytes more, or less."""
        self.n_bytes += n_bytes
        self.by_sender[who] += n_bytes
        if not self.by_sender[who]:
            del self.by_sender[who]


class _Share:
    """The part of the room that one body holds until the end of the block; used on one loop only.

    It grows with the bytes that arrive. If it were the announced size, clients that send nothing could block others.
    """

    def __init__(self, room: _Room, who: str) -> None:
        self._room, self._who, self._n_bytes, self._is_over = room, who, 0, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._room.change(self._who, -self._n_bytes)

    def grow_to(self, n_bytes: int) -> None:
        """Hold this many bytes, if it holds fewer now.

        Raises:
            ApiError: 429, there is no room left.
        """
        more = n_bytes - self._n_bytes
        if more <= 0 or self._is_over:
            return
        room = self._room.most - self._room.n_bytes
        own = self._room.by_sender[self._who] if self._who else 0
        if own + more > room:
            raise _too_busy(retry_after_s=1)
        self._room.change(self._who, more)
        self._n_bytes = n_bytes


class _WholeBody:
    """A body that arrives on another loop and is passed on in one piece.

    That loop reads all of it: this one may be busy, while the time limit for sending the body runs.
    """

    def __init__(self, receive: Receive, loop: asyncio.AbstractEventLoop, share: _Share) -> None:
        self._receive, self._loop, self._share = receive, loop, share
        self._is_read = False

    async def receive(self) -> Message:
        """The whole body; after it, the client's disconnect.

        Raises:
            ApiError: what receiving the pieces raises; 429, there is no room left.
        """
        if self._is_read:
            return await _on(self._loop, self._receive())
        message = await _on(self._loop, self._read())
        self._is_read = True
        return message

    async def _read(self) -> Message:
        """On the other loop: join all pieces."""
        pieces: list[bytes] = []
        n_bytes = 0
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            pieces.append(message.get("body", b""))
            n_bytes += len(pieces[-1])
            self._share.grow_to(n_bytes)
            if not message.get("more_body", False):
                return {"type": "http.request", "body": b"".join(pieces), "more_body": False}


async def _on(loop: asyncio.AbstractEventLoop, work: Awaitable[_T]) -> _T:
    """Run a coroutine on another loop; cancelling it here cancels it there."""
    found = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_settle(work), loop))
    if isinstance(found, Exception):
        raise found
    return found


async def _settle(work: Awaitable[_T]) -> _T | Exception:
    """The result, or the exception: asyncio would log a task's exception that nobody retrieves, text and all.

    The frames of its traceback are cleared: they would keep the whole body until the garbage collector runs.
    """
    try:
        return await work
    except Exception as error:
        traceback.clear_frames(error.__traceback__)
        return error
