"""How often each may ask, counted in Redis or Valkey by all workers of all machines together.

While the server there cannot be asked, each worker counts for itself: nobody is let through without a limit, and nobody
is refused for it. It is tried again every few seconds, by one request at a time.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from typing import ClassVar

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis import ConnectionPool, RedisError

from moderation.errors import ArtifactError
from moderation.serving.limiting import Limiter, take_from
from moderation.serving.redis_servers import open_pool, read_redis_url, tell_cause

SETTING = "--rate-limit-url"

_PREFIX = "moderation"  # of every key that is written there
_THREADS = 8  # of a worker, each with a connection of its own
_START_WITHIN_S = 5.0
_FAILURES = (RedisError, OSError, ValueError, ArithmeticError)  # the last two: somebody else wrote there

logger = logging.getLogger(__name__)


class SharedLimiter(Limiter):
    """Counts the requests that each makes, together with all who name the same server.

    Args:
        rate: Requests that each may make.
        url: Of the server, such as `redis://:PASSWORD@HOST:6379/0`.
        on_fallback: Called for each request that this worker counted for itself.

    Raises:
        ConfigError: a URL that cannot be read.

    Attributes:
        wait_s: A request waits no longer than that for the server.
        again_s: So long after a failure the server is tried again.
    """

    wait_s: ClassVar[float] = 1.0
    again_s: ClassVar[float] = 5.0

    def __init__(self, rate: RateLimitItem, url: str, on_fallback: Callable[[], None]) -> None:
        super().__init__(rate)
        self._server = read_redis_url(url, SETTING)
        self._pool = open_pool(self._server, self.wait_s)
        self._shared = _count_in(self._pool)
        self._on_fallback = on_fallback
        self._threads = _start_threads()
        self._is_away, self._try_after = False, 0.0

    def take(self, who: str) -> float | None:
        """As of `Limiter`; waits for the server, in a thread that may."""
        asked = self._ask_for(who)
        if asked is not None:
            wait([asked], timeout=self.wait_s)
        return self._settle(asked, who)

    async def take_soon(self, who: str) -> float | None:
        """As of `Limiter`."""
        asked = self._ask_for(who)
        if asked is not None:
            await asyncio.wait([asyncio.wrap_future(asked)], timeout=self.wait_s)
        return self._settle(asked, who)

    def close(self) -> None:
        """Close the connections; they are made anew where it is asked again."""
        old, self._threads = self._threads, _start_threads()
        old.shutdown(wait=False, cancel_futures=True)
        self._pool.disconnect()

    def _ask_for(self, who: str) -> "Future[float | Exception | None] | None":
        """The question to the server, under way; None while it is away, but for one request now and then."""
        with self._lock:
            if self._is_away and time.monotonic() < self._try_after:
                return None
            self._try_after = time.monotonic() + self.again_s
        return self._threads.submit(self._ask, who)

    def _ask(self, who: str) -> float | Exception | None:
        """In a thread: what the server says, or why it does not.

        Nothing is raised: where the request is gone by then, nobody would take it.
        """
        try:
            return take_from(self._shared, self.rate, hashlib.sha256(who.encode(errors="surrogatepass")).hexdigest())
        except _FAILURES as error:
            return error

    def _settle(self, asked: "Future[float | Exception | None] | None", who: str) -> float | None:
        """What the server said; where it did not, what this worker's own counts say."""
        if asked is not None:
            found = asked.result() if asked.done() else TimeoutError()
            if not isinstance(found, Exception):
                self._note_return()
                return found
            asked.cancel()
            self._note_loss(found)
        self._on_fallback()
        return super().take(who)

    def _note_loss(self, error: Exception) -> None:
        with self._lock:
            is_new, self._is_away = not self._is_away, True
            self._try_after = time.monotonic() + self.again_s
        if is_new:
            logger.warning(
                "this worker counts for --rate-limit by itself",
                extra={"server": self._server.name, "why": tell_cause(error)},
            )

    def _note_return(self) -> None:
        with self._lock:
            is_new, self._is_away = self._is_away, False
        if is_new:
            logger.warning("the workers count for --rate-limit together again", extra={"server": self._server.name})


def check_rate_limit_url(url: str) -> None:
    """Find out whether requests can be counted on a server, by counting one that nobody made.

    Raises:
        ConfigError: a URL that cannot be read.
        ArtifactError: they cannot be, with the cure.
    """
    server = read_redis_url(url, SETTING)
    with closing(open_pool(server, _START_WITHIN_S)) as pool:
        try:
            take_from(_count_in(pool), RateLimitItemPerSecond(1_000_000), "start")
        except _FAILURES as error:
            raise ArtifactError(
                f"{SETTING}: {server.name}: requests cannot be counted there ({tell_cause(error)}). Expected a server "
                "of Redis or Valkey that answers. Check its address, its password and that it runs; or leave "
                f"{SETTING} out: then each worker counts for itself."
            ) from None


def _count_in(pool: ConnectionPool) -> SlidingWindowCounterRateLimiter:
    return SlidingWindowCounterRateLimiter(RedisStorage("redis://", connection_pool=pool, key_prefix=_PREFIX))


def _start_threads() -> ThreadPoolExecutor:
    """Threads that start when they are needed."""
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="rate-limit")
