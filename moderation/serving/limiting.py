"""How often each may ask: counted by every worker for itself, in its memory."""

import threading
import time
from typing import NamedTuple

from limits import RateLimitItem
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter


class Taken(NamedTuple):
    """What was taken from the requests that somebody may make.

    Args:
        n: How many requests, at most as many as were asked for.
        wait_s: Seconds until there is one again; 0 where there were enough.
    """

    n: int
    wait_s: float = 0.0


class Limiter:
    """Counts the requests that each makes. Threads and event loops may share it.

    Args:
        rate: Requests that each may make.
    """

    def __init__(self, rate: RateLimitItem) -> None:
        self.rate = rate
        self._lock = threading.Lock()
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def take(self, who: str, n: int = 1) -> Taken:
        """Take requests from those that somebody may make; where fewer are left, those."""
        with self._lock:
            return take_from(self._own, self.rate, who, n)

    def close(self) -> None:
        """Release connections and threads."""


def take_from(counts: SlidingWindowCounterRateLimiter, rate: RateLimitItem, who: str, n: int = 1) -> Taken:
    """Take requests from those that are left by these counts; see `Limiter.take`.

    The counts are asked once where enough are left, and a few times where there are fewer, however many are wanted.
    """
    n_taken, left = n, None
    while n_taken and not counts.hit(rate, who, cost=n_taken):
        most = n_taken - 1 if left is None else n_taken // 2  # from the second time on: others have just taken some
        left = counts.get_window_stats(rate, who)
        n_taken = min(most, left.remaining)
    if left is None:
        return Taken(n)
    if n_taken:
        left = counts.get_window_stats(rate, who)
    return Taken(n_taken, min(max(left.reset_time - time.time(), 0.0), float(rate.get_expiry())))
