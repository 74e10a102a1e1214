"""How much to compute at once, so that each step takes a few seconds, whatever the texts and the machine are like."""

import time
from collections.abc import Callable, Iterator, Sequence

STEP_S = 3.0
_FIRST = 4_000  # characters
_MOST = 1 << 24
_PER_ROW = 50  # characters that a row costs beyond its text
_GROWTH = 4  # of a step over the one before, at most


class Pace:
    """Cuts rows into steps; learns from how long each took.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._room = _FIRST

    def steps(self, sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Ranges of rows, first and behind the last, that together hold all rows; each has one row or more.

        What the caller does before it asks for the next step is taken for the work of this one.

        Args:
            sizes: Characters of each row.
        """
        start = 0
        while start < len(sizes):
            stop, work = start + 1, sizes[start] + _PER_ROW
            while stop < len(sizes) and work + sizes[stop] + _PER_ROW <= self._room:
                work += sizes[stop] + _PER_ROW
                stop += 1
            began = self._clock()
            yield start, stop
            seconds = max(self._clock() - began, 1e-6)
            self._room = max(_FIRST, min(int(work * STEP_S / seconds), self._room * _GROWTH, _MOST))
            start = stop
