"""How often each may ask: counted by every worker for itself, in its memory."""

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from typing import NamedTuple

from limits import RateLimitItem
from limits.strategies import SlidingWindowCounterRateLimiter

MOST_COUNTED = 100_000
"""Keys or addresses that are counted at once; of more, the one that has asked for nothing longest is forgotten."""

_NETWORK_BITS = 64  # of an IPv6 address: the rest is its owner's choice


class Taken(NamedTuple):
    """What was taken from the requests that somebody may make.

    Args:
        n: How many requests, at most as many as were asked for.
        wait_s: Seconds until there is one again; 0 if there were enough.
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
        self._windows: OrderedDict[str, _Window] = OrderedDict()  # the one that has asked last is last

    async def take(self, who: str, n: int = 1) -> Taken:
        """Take requests from those that somebody may make; where fewer are left, those."""
        window_s = float(self.rate.get_expiry())
        with self._lock:
            now = time.monotonic()  # in here, or another thread could already be a window ahead
            number, elapsed = int(now // window_s), now % window_s / window_s
            window = _go_on(self._windows.pop(who, _Window(number)), number)
            left = self.rate.amount - window.n_now - window.n_before * (1 - elapsed)
            n_taken = max(0, min(n, math.floor(left)))
            window = self._windows[who] = window._replace(n_now=window.n_now + n_taken)
            if len(self._windows) > MOST_COUNTED:
                self._windows.popitem(last=False)
        return Taken(n_taken, 0.0 if n_taken == n else window_s * _windows_to_wait(window, elapsed, self.rate.amount))

    def close(self) -> None:
        """Release connections and threads."""


class _Window(NamedTuple):
    """What somebody asked for in the window of time with this number, and in the one before.

    Each request counts in full in its own window; in the next it counts by the part of the window that is still to
    come: the sliding window counter, as Redis counts too.
    """

    number: int
    n_now: int = 0
    n_before: int = 0


def _go_on(window: _Window, number: int) -> _Window:
    if window.number == number:
        return window
    return _Window(number, 0, window.n_now if window.number == number - 1 else 0)


def _windows_to_wait(window: _Window, elapsed: float, most: int) -> float:
    """How many windows, or what part of one, it takes until one more request fits."""
    if window.n_now < most:
        share = (most - 1 - window.n_now) / window.n_before if window.n_before else 1.0
        return max(0.0, 1 - elapsed - share)
    return 1 - elapsed + 1 - (most - 1) / window.n_now


def budget_of(address: str) -> str:
    """Whom an address counts for: of IPv6 a whole network, since whoever has one has all of its addresses.

    An address of IPv4 may come in IPv6's form, where the server listens for both: each is one of its own there too.

    >>> budget_of("198.51.100.7"), budget_of("2001:db8:1:2:3:4:5:6"), budget_of("::ffff:198.51.100.7"), budget_of("")
    ('198.51.100.7', '2001:db8:1:2::/64', '198.51.100.7', '')
    """
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found.ipv4_mapped or ipaddress.ip_network((found, _NETWORK_BITS), strict=False))


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
