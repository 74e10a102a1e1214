"""Rate limits counted in Redis or Valkey, for all workers on all machines together.

While that server cannot be reached, each worker counts by itself: there is always a limit, and no request is refused
because of the failure. One request every few seconds tries the server again.
"""

import asyncio
import hashlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis import ConnectionPool

from moderation.errors import ArtifactError
from moderation.serving.limits.local import Limiter, Taken, take_from
from moderation.serving.limits.redis_connections import within
from moderation.serving.limits.redis_servers import RedisServer, open_pool, read_redis_url, tell_cause

SETTING = "--rate-limit-url"

_PREFIX = "moderation"  # of every key that is written there
_THREADS = 8  # of a worker, each with its own connection
_START_WITHIN_S = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Question:
    """A query to the server.

    Args:
        answer: Its result. An exception is a result, too, since nobody may be left to retrieve it.
        term: Number of the limiter's term in which it was sent.
    """

    answer: "Future[Taken | Exception]"
    term: int


class SharedLimiter(Limiter):
    """Counts the requests of each client, together with all workers that use the same server.

    Its life is a sequence of terms: a new one begins when the server is lost, and when it is back. An answer from an
    earlier term is good for its request, but does not show whether the server is there now.

    Args:
        rate: Requests that each client may make.
        url: Of the server, such as `redis://:PASSWORD@HOST:6379/0`.
        on_fallback: Called with the number of requests that this worker counted by itself.

    Raises:
        ConfigError: an invalid URL.

    Attributes:
        wait_s: Seconds that a request waits for the server at most.
        again_s: Seconds after a failure until the server is tried again.
    """

    wait_s: ClassVar[float] = 1.0
    again_s: ClassVar[float] = 5.0

    def __init__(self, rate: RateLimitItem, url: str, on_fallback: Callable[[int], None]) -> None:
        super().__init__(rate)
        self._server = read_redis_url(url, SETTING)
        self._pool = open_pool(self._server, self.wait_s)
        self._shared = _count_in(self._pool)
        self._on_fallback = on_fallback
        self._threads: ThreadPoolExecutor | None = None
        self._is_away, self._try_after, self._term = False, 0.0, 0

    async def take(self, who: str, n: int = 1) -> Taken:
        """Like `Limiter.take`; waits for the server without blocking the event loop."""
        question = self._ask(who, n)
        if question is not None:
            await asyncio.wait([asyncio.wrap_future(question.answer)], timeout=self.wait_s)
            taken = self._hear(question)
            if taken is not None:
                return taken
        self._on_fallback(n)
        return await super().take(who, n)

    def close(self) -> None:
        """Release connections and threads; the next query opens new ones."""
        with self._lock:
            threads, self._threads = self._threads, None
            self._term += 1  # queries interrupted now do not show that the server is away
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)
        self._pool.disconnect()

    def _ask(self, who: str, n: int) -> _Question | None:
        """Send a query to the server; None while it is away, except for one request now and then."""
        with self._lock:
            now = time.monotonic()
            if self._is_away:
                if now < self._try_after:
                    return None
                self._try_after = now + self.again_s
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="rate-limit")
            try:
                return _Question(self._threads.submit(self._take_there, who, n), self._term)
            except RuntimeError as error:  # no thread could be started
                failed: Future[Taken | Exception] = Future()
                failed.set_result(error)
                return _Question(failed, self._term)

    def _take_there(self, who: str, n: int) -> Taken | Exception:
        """In a thread: take requests from the shared counts."""
        try:
            name = hashlib.sha256(who.encode(errors="surrogatepass")).hexdigest()
            with within(self.wait_s):
                return take_from(self._shared, self.rate, name, n)
        except Exception as error:  # of any kind: a store that fails must not refuse a request
            return error

    def _hear(self, question: _Question) -> Taken | None:
        """The server's answer; None if it did not count."""
        try:
            found = question.answer.result(timeout=0)
        except (TimeoutError, CancelledError) as error:
            question.answer.cancel()
            found = error
        failure = found if isinstance(found, Exception) else None
        self._note(question.term, failure)
        return found if isinstance(found, Taken) else None

    def _note(self, term: int, failure: Exception | None) -> None:
        """Note whether the server is there, from an answer of this term; if that changes, the next term begins."""
        with self._lock:
            if term != self._term:
                return
            if failure is not None:
                self._try_after = time.monotonic() + self.again_s
            if self._is_away == (failure is not None):
                return
            self._is_away = failure is not None
            self._term += 1
        if failure is None:
            logger.warning("the workers count for --rate-limit together again", extra={"server": self._server.name})
        else:
            logger.warning(
                "this worker counts for --rate-limit by itself",
                extra={"server": self._server.name, "why": tell_cause(failure)},
            )


def check_rate_limit_url(url: str) -> None:
    """Check that requests can be counted on a server, by counting one that nobody made.

    It runs in a thread of its own, since nothing can stop a DNS lookup; the thread ends with the process.

    Raises:
        ConfigError: an invalid URL.
        ArtifactError: they cannot be counted; the message says what to do.
    """
    server = read_redis_url(url, SETTING)
    found: list[Exception | None] = []
    thread = threading.Thread(target=lambda: found.append(_try_to_count(server)), daemon=True)
    thread.start()
    thread.join(_START_WITHIN_S)
    failure = found[0] if found else TimeoutError()
    if failure is not None:
        raise ArtifactError(
            f"{SETTING}: {server.name}: requests cannot be counted there ({tell_cause(failure)}). Expected a Redis or "
            "Valkey server that answers. Check its address, its password and that it runs; or leave "
            f"{SETTING} out: then each worker keeps its own count."
        )


def _try_to_count(server: RedisServer) -> Exception | None:
    """Count one request; return the error, if any."""
    try:
        with closing(open_pool(server, _START_WITHIN_S)) as pool, within(_START_WITHIN_S):
            take_from(_count_in(pool), RateLimitItemPerSecond(1_000_000), "start")
    except Exception as error:
        return error
    return None


def _count_in(pool: ConnectionPool) -> SlidingWindowCounterRateLimiter:
    return SlidingWindowCounterRateLimiter(RedisStorage("redis://", connection_pool=pool, key_prefix=_PREFIX))
