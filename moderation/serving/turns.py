"""A queue that serves callers in turn, so that a caller with many items delays only itself."""

import threading
from collections import OrderedDict, deque
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Turns(Generic[_T]):
    """Items that wait for a few threads, one line per caller.

    Args:
        most: Maximum number of waiting items; None: no limit. A named caller may not have more items than there is
            room left, so one caller alone fills at most half of the queue.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._lines: OrderedDict[str, deque[_T]] = OrderedDict()  # the next one's line first
        self._n_waiting = 0
        self._changed = threading.Condition()
        self._is_closed = False

    def put(self, item: _T, who: str = "") -> bool:
        """Add an item; False: there is no room for it, or the queue is closed.

        Args:
            item: The item.
            who: Its caller; "": unknown.
        """
        with self._changed:
            room = None if self._most is None else self._most - self._n_waiting
            if self._is_closed or (room is not None and (room <= 0 or (who and len(self._lines.get(who, ())) >= room))):
                return False
            self._lines.setdefault(who, deque()).append(item)
            self._n_waiting += 1
            self._changed.notify()
            return True

    def n_before(self, who: str) -> int:
        """How many items would be taken before one that `who` adds now."""
        with self._changed:
            own = len(self._lines.get(who, ()))
            return own + sum(min(len(line), own + 1) for name, line in self._lines.items() if name != who)

    def get(self) -> _T | None:
        """Wait for the next item, and take it; None: the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._is_closed)
            if self._is_closed:
                return None
            who, line = self._lines.popitem(last=False)
            item = line.popleft()
            if line:
                self._lines[who] = line
            self._n_waiting -= 1
            return item

    def close(self) -> list[_T]:
        """Wake the threads that wait for an item, and return the items that are left."""
        with self._changed:
            self._is_closed = True
            left = [item for line in self._lines.values() for item in line]
            self._lines.clear()
            self._changed.notify_all()
            return left
