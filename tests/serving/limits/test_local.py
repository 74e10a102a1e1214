"""Requests that a worker counts by itself: the law of the sliding window, and how much it remembers."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.serving.limits import local as limiting
from moderation.serving.limits.local import Limiter, Taken, budget_of
from moderation.serving.limits.rates import read_rate

HOUR = 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000 * HOUR

    def __call__(self) -> float:
        return self.now


def take(limiter: Limiter, who: str, n: int = 1) -> Taken:
    return asyncio.run(limiter.take(who, n))


@given(
    st.integers(1, 20),
    st.lists(st.tuples(st.floats(0, 2 * HOUR), st.integers(1, 30)), min_size=1, max_size=20),
)
def test_no_window_lets_more_through_and_the_wait_is_sufficient(most: int, asked: list[tuple[float, int]]) -> None:
    limiter, clock = Limiter(read_rate(f"{most}/hour")), Clock()
    by_window: dict[float, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", clock)
        for pause, n in asked:
            clock.now += pause
            taken = take(limiter, "a", n)
            assert 0 <= taken.n <= n
            assert (taken.wait_s == 0) == (taken.n == n)
            by_window[clock.now // HOUR] = by_window.get(clock.now // HOUR, 0) + taken.n
        assert max(by_window.values()) <= most
        full = take(limiter, "a", most + 1)
        assert full.n <= most
        assert take(limiter, "a").n == 0
        came = clock.now
        clock.now = came + full.wait_s - 1
        assert full.wait_s < 2 or take(limiter, "a").n == 0
        clock.now = came + full.wait_s + 1
        assert take(limiter, "a").n == 1
        assert take(limiter, "b", most).n == most, "another one has requests of its own"


def test_requests_of_the_previous_window_count_by_its_remaining_part(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter, clock = Limiter(read_rate("10/hour")), Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    assert take(limiter, "a", 12).n == 10
    assert take(limiter, "a").wait_s > 0
    clock.now += 1.5 * HOUR
    assert take(limiter, "a", 10).n == 5
    clock.now += 2 * HOUR
    assert take(limiter, "a", 12).n == 10


@pytest.mark.hostile("rate limit: many addresses")
def test_memory_is_limited_and_active_callers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "MOST_COUNTED", 100)
    limiter = Limiter(read_rate("1/day"))
    assert take(limiter, "asks on").n == 1
    for number in range(1000):
        assert take(limiter, f"stranger {number}").n == 1
        assert take(limiter, "asks on").n == 0
    assert len(limiter._windows) == 100


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("198.51.100.7", "198.51.100.8", False),
        ("::ffff:198.51.100.7", "::ffff:198.51.100.8", False),
        ("::ffff:198.51.100.7", "198.51.100.7", True),
        ("::ffff:c633:6407", "::FFFF:198.51.100.7", True),
        ("", "unix", False),
    ],
)
def test_addresses_of_the_same_ipv6_network_count_together(one: str, other: str, same: bool) -> None:
    assert (budget_of(one) == budget_of(other)) == same
