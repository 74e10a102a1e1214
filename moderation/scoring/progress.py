"""Progress of a run: a bar on a terminal, a log line per minute elsewhere. The rate is that of this run only."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from moderation.durations import duration

logger = logging.getLogger(__name__)

STEP_S = 3.0
_FIRST = 4_000  # characters
_MOST = 1 << 24
_PER_ROW = 50  # cost of a row in addition to its text, in characters
_GROWTH = 4  # maximum growth from one step to the next
EVERY_S = 60.0
_TEXTS_AT_ONCE = 500  # results do not depend on it
CHARACTERS_AT_ONCE = 1 << 18
"""Maximum for texts that are yielded together; a longer text is yielded by itself."""


class Pace:
    """Cuts rows into steps; adapts to how long each took.

    Args:
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._room = _FIRST

    def steps(self, sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Ranges of rows (start, and end exclusive) that together hold all rows; each has one row or more.

        The time until the caller asks for the next step counts as the work of this one.

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


def some_at_once(texts: Sequence[str], what: str) -> Iterator[Sequence[str]]:
    """Texts in parts of limited size, with a progress bar on a terminal that moves when a part is done.

    Args:
        texts: All of them.
        what: Text next to the bar.
    """
    with tqdm(total=len(texts), desc=what, unit=" texts", disable=None) as bar:
        start = 0
        while start < len(texts):
            stop, n_characters = start + 1, len(texts[start])
            while stop < min(len(texts), start + _TEXTS_AT_ONCE) and (
                n_characters + len(texts[stop]) <= CHARACTERS_AT_ONCE
            ):
                n_characters += len(texts[stop])
                stop += 1
            yield texts[start:stop]
            bar.update(stop - start)
            start = stop


class Progress:
    """Counts rows while they are scored. Rows that an earlier run finished do not count for the speed.

    Args:
        n_rows: Of the table; None: not known before they are read, so it is estimated from the share of the file.
        on_terminal: Draw a bar; None: if standard error is a terminal.
        clock: A monotonic clock, in seconds.

    Attributes:
        n_new: Rows that this run computed.
        n_kept: Rows that an earlier run computed.
    """

    def __init__(
        self, n_rows: int | None = None, *, on_terminal: bool | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.n_new = self.n_kept = 0
        self._total, self._is_known = n_rows, n_rows is not None
        self._clock = clock
        self._on_terminal = sys.stderr.isatty() if on_terminal is None else on_terminal
        self._bar: tqdm[Any] | None = None
        self._started = self._logged = clock()

    def expect(self, n_rows: int, share: float) -> None:
        """If the number of rows is not known, estimate it from what has been read.

        Args:
            n_rows: Rows read so far, whether scored or not.
            share: Their share of the file, 0 to 1; 0: not known.
        """
        if not self._is_known and share > 0:
            self._total = max(round(n_rows / share), n_rows)

    def keep(self, n_rows: int) -> None:
        """Count rows that an earlier run finished."""
        self.n_kept += n_rows
        if self._bar is None and not self.n_new:
            self._started = self._logged = self._clock()  # reading them again does not count as scoring
        elif self._bar is not None:
            self._bar.initial += n_rows
            self._bar.n += n_rows
            self._bar.last_print_n += n_rows

    def advance(self, n_rows: int) -> None:
        """Count rows that were scored just now."""
        self.n_new += n_rows
        if self._on_terminal:
            self._draw(n_rows)
        elif (now := self._clock()) - self._logged >= EVERY_S:
            self._logged = now
            logger.info("%s", self.describe())

    def describe(self) -> str:
        """One line: rows, share, rows per second of this run, and how long the rest will take at that speed."""
        seconds = self._clock() - self._started
        speed = self.n_new / seconds if seconds > 0 else 0.0
        done, total = self.n_new + self.n_kept, self._total
        if total is None:
            return f"{done:,} rows, {speed:,.1f} rows/s"
        left = f", about {duration(max(total - done, 0) / speed)} left" if speed > 0 else ""
        about = "" if self._is_known else "about "
        return f"{done:,} of {about}{total:,} rows ({done / max(total, 1):.0%}), {speed:,.1f} rows/s{left}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def _draw(self, n_rows: int) -> None:
        if self._bar is None:
            before = self.n_kept + self.n_new - n_rows
            self._bar = tqdm(desc="Score", unit=" rows", initial=before, total=self._total, smoothing=0.1)
            self._bar.start_t -= self._clock() - self._started  # the first rows took their time too
        self._bar.total = self._total
        self._bar.update(n_rows)
