"""A queue from which everybody is served in turn, so that one who brings much delays only their own."""

import threading
from collections import OrderedDict, deque
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Turns(Generic[_T]):
    """What waits for some threads, by whom it is for.

    Args:
        most: Items that may wait; None: any number. Nobody who is known by name may have more than there is room left:
            one alone fills half of it, and there is always room for somebody else.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._lines: OrderedDict[str, deque[_T]] = OrderedDict()  # the next one's line first
        self._n_waiting = 0
        self._changed = threading.Condition()
        self._is_closed = False

    def put(self, item: _T, who: str = "") -> bool:
        """Add an item; False: there is no room for it, or nobody takes any more.

        Args:
            item: What waits.
            who: For whom; "": not known.
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
        """How many items would be taken before one that is put in now for `who`."""
        with self._changed:
            own = len(self._lines.get(who, ()))
            return own + sum(min(len(line), own + 1) for name, line in self._lines.items() if name != who)

    def get(self) -> _T | None:
        """Wait for the next item, and take it; None: it is closed."""
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
        """Let whoever waits for an item go; what still waits is given back."""
        with self._changed:
            self._is_closed = True
            left = [item for line in self._lines.values() for item in line]
            self._lines.clear()
            self._changed.notify_all()
            return left
