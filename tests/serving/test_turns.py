"""Everybody is served in turn, and nobody known by name fills a queue alone."""

import threading
from itertools import count

import pytest

from moderation.serving.turns import Turns


def test_each_is_served_in_turn_and_in_their_own_order() -> None:
    turns: Turns[str] = Turns()
    for item in ("a1", "a2", "a3", "b1", "c1", "b2"):
        assert turns.put(item, item[0])
    assert [turns.get() for _ in range(4)] == ["a1", "b1", "c1", "a2"]
    assert turns.put("c2", "c")
    assert [turns.get() for _ in range(3)] == ["b2", "a3", "c2"]


def test_what_comes_before_the_next_item_of_somebody_is_known() -> None:
    turns: Turns[str] = Turns()
    for item in ("a1", "a2", "a3", "b1", "c1", "c2"):
        turns.put(item, item[0])
    assert {who: turns.n_before(who) for who in "abcd"} == {"a": 6, "b": 5, "c": 6, "d": 3}
    turns.put("last", "b")
    assert [turns.get() for _ in range(5)] == ["a1", "b1", "c1", "a2", "last"]
    turns.close()


@pytest.mark.hostile("queue: one key fills it")
def test_there_is_always_room_for_somebody_else() -> None:
    turns: Turns[int] = Turns(100)
    for who, most in (("a", 50), ("b", 25), ("c", 13), ("d", 6)):
        assert next(n for n in count() if not turns.put(n, who)) == most
    assert next(n for n in count() if not turns.put(n)) == 6  # not known by name: all that is left
    assert not turns.put(0, "e")


def test_who_waits_is_let_go_and_what_waits_is_given_back() -> None:
    turns: Turns[str] = Turns()
    found: list[str | None] = []
    threads = [threading.Thread(target=lambda: found.append(turns.get())) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert turns.close() == []
    for thread in threads:
        thread.join(60)
    assert found == [None] * 3
    full: Turns[str] = Turns()
    full.put("a")
    assert full.close() == ["a"]
    assert full.get() is None and not full.put("b")
