"""How often each may ask: counted by every worker for itself, in its memory."""

import threading
import time

from limits import RateLimitItem
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter


class Limiter:
    """Counts the requests that each makes. Threads may share it.

    Args:
        rate: Requests that each may make.
    """

    def __init__(self, rate: RateLimitItem) -> None:
        self.rate = rate
        self._lock = threading.Lock()
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())

    def take(self, who: str) -> float | None:
        """Take one request from those that somebody may make.

        Returns:
            None where there was one left; else the seconds until there is one again.
        """
        with self._lock:
            return take_from(self._own, self.rate, who)

    async def take_soon(self, who: str) -> float | None:
        """As `take`, on an event loop, which goes on meanwhile."""
        return self.take(who)

    def close(self) -> None:
        """Let go of what is held."""


def take_from(counts: SlidingWindowCounterRateLimiter, rate: RateLimitItem, who: str) -> float | None:
    """Take one request from those that are left by these counts; see `Limiter.take`."""
    if counts.hit(rate, who):
        return None
    wait_s = counts.get_window_stats(rate, who).reset_time - time.time()
    return min(max(wait_s, 0.0), float(rate.get_expiry()))
