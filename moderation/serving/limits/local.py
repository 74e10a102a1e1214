"""Rate limits that each worker counts by itself, in memory."""

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from typing import NamedTuple

from limits import RateLimitItem
from limits.strategies import SlidingWindowCounterRateLimiter

MOST_COUNTED = 100_000
"""Maximum number of keys or addresses to count; beyond it, the one that has been idle longest is forgotten."""

_NETWORK_BITS = 64  # of an IPv6 address: its owner chooses the rest


class Taken(NamedTuple):
    """Requests granted to a client.

    Args:
        n: How many, at most as many as were requested.
        wait_s: Seconds until one more is allowed; 0 if all were granted.
    """

    n: int
    wait_s: float = 0.0


class Limiter:
    """Counts the requests of each client. Threads and event loops may share it.

    Args:
        rate: Requests that each client may make.
    """

    def __init__(self, rate: RateLimitItem) -> None:
        self.rate = rate
        self._lock = threading.Lock()
        self._windows: OrderedDict[str, _Window] = OrderedDict()  # the longest idle client first

    async def take(self, who: str, n: int = 1) -> Taken:
        """Take requests from a client's allowance; if fewer are left, take those."""
        window_s = float(self.rate.get_expiry())
        with self._lock:
            now = time.monotonic()  # under the lock, or another thread could already be a window ahead
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
    """A client's requests in the time window with this number, and in the one before.

    A request counts in full in its own window. In the next one it counts by the share of that window still to come: a
    sliding window counter, as in the shared limiter.
    """

    number: int
    n_now: int = 0
    n_before: int = 0


def _go_on(window: _Window, number: int) -> _Window:
    if window.number == number:
        return window
    return _Window(number, 0, window.n_now if window.number == number - 1 else 0)


def _windows_to_wait(window: _Window, elapsed: float, most: int) -> float:
    """Windows, or the fraction of one, until one more request fits."""
    if window.n_now < most:
        share = (most - 1 - window.n_now) / window.n_before if window.n_before else 1.0
        return max(0.0, 1 - elapsed - share)
    return 1 - elapsed + 1 - (most - 1) / window.n_now


def budget_of(address: str) -> str:
    """What an address counts as: for IPv6 its whole network, since a client has all addresses of its network.

    If the server listens on IPv4 and IPv6, IPv4 addresses may come in IPv6 form; each still counts by itself.

    >>> budget_of("198.51.100.7"), budget_of("2001:db8:1:2:3:4:5:6"), budget_of("::ffff:198.51.100.7"), budget_of("")
    ('198.51.100.7', '2001:db8:1:2::/64', '198.51.100.7', '')
    """
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found.ipv4_mapped or ipaddress.ip_network((found, _NETWORK_BITS), strict=False))


def take_from(counts: SlidingWindowCounterRateLimiter, rate: RateLimitItem, who: str, n: int = 1) -> Taken:
    """Take requests from what these counts leave; see `Limiter.take`.

    It makes one query if enough are left, and a few if not, however many are requested.
    """
    n_taken, left = n, None
    while n_taken and not counts.hit(rate, who, cost=n_taken):
        most = n_taken - 1 if left is None else n_taken // 2  # half: others have just taken some
        left = counts.get_window_stats(rate, who)
        n_taken = min(most, left.remaining)
    if left is None:
        return Taken(n)
    if n_taken:
        left = counts.get_window_stats(rate, who)
    return Taken(n_taken, min(max(left.reset_time - time.time(), 0.0), float(rate.get_expiry())))
