"""Windows of many requests -> micro-batches -> probabilities, in a queue that is limited by waiting time.

Threads take windows from a common queue, as many of one padded length as fit a batch, from any requests. No thread
waits for a batch to fill: it computes what is there when it is free.

Requests are served in order of arrival, but one that takes more than half a second by itself is moved back by the
excess. So a huge request blocks nobody, and is delayed by no more than its own duration.
"""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from moderation.inference.windows import Window
from moderation.serving.errors import ApiError

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float32]
MAX_TOKENS = 1_000_000
"""Maximum number of waiting tokens, to save memory; the longest request does not count and may be longer."""

_FIRST_GUESS = 1000.0  # tokens a second, until the first batch is measured
_PATIENCE_S = 0.5  # a request that takes longer than this lets others pass
_SEEN = 64  # requests searched for windows to fill a batch
_MEMORY = 0.9  # weight of the past in the running mean of the speed


class ComputesWindows(Protocol):
    """What the queue needs of a classifier; `moderation.Classifier` has it."""

    labels: tuple[str, ...]

    @property
    def workers(self) -> int:
        """Number of threads that can usefully compute at once."""

    @property
    def batch_tokens(self) -> int:
        """Maximum number of tokens of a batch; 0: each window is computed alone."""

    def padded_length(self, window: Window) -> int:
        """Tokens of a window with its padding."""

    def window_probabilities(self, windows: Sequence[Window]) -> FloatArray:
        """Probabilities, float32 `(n_windows, n_labels)`."""


class Watches(Protocol):
    """Observes the queue, for the metrics."""

    def batch(self, n_windows: int, n_tokens: int, seconds: float) -> None:
        """A batch was computed."""

    def waited(self, seconds: float) -> None:
        """A request waited this long until its first window was taken."""

    def waiting(self, n_tokens: int) -> None:
        """This many tokens wait now."""


@dataclass(eq=False)
class _Job:
    """The windows of one request that are not computed yet."""

    pending: dict[int, list[tuple[int, Window]]]  # padded length -> place of the text, window; taken from the end
    probabilities: FloatArray  # (n_texts, n_labels), the highest so far
    n_windows: npt.NDArray[np.int64]  # (n_texts,)
    n_tokens: int  # waiting
    n_open: int  # windows without an answer
    began: float
    taken: bool = False
    done: "Future[tuple[FloatArray, npt.NDArray[np.int64]]]" = field(default_factory=Future)


class Batcher:
    """A queue of windows and the threads that process it.

    Args:
        classifier: Computes the windows.
        watch: Observes every batch and every wait.
        max_wait_s: A request that would have to wait longer for its answer is refused.
    """

    def __init__(self, classifier: ComputesWindows, watch: Watches, *, max_wait_s: float) -> None:
        self._classifier, self._watch, self._max_wait_s = classifier, watch, max_wait_s
        self._heap: list[tuple[float, int, _Job]] = []  # turn, order of arrival, job
        self._order = itertools.count()
        self._n_tokens = 0
        self._measured: float | None = None  # tokens a second, of all threads together
        self._fastest = 0.0
        self._ready = threading.Condition()
        self._closed = False
        self._n_free = 0  # threads that wait for work
        self._threads = [
            threading.Thread(target=self._work, name=f"batcher-{number}", daemon=True)
            for number in range(classifier.workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def n_tokens(self) -> int:
        """Tokens that wait."""
        return self._n_tokens

    @property
    def tokens_per_s(self) -> float:
        """Running mean of the speed of all threads together."""
        return _FIRST_GUESS if self._measured is None else self._measured

    @property
    def best_tokens_per_s(self) -> float:
        """Speed of all threads together in the fastest batch so far; 0 before the first.

        The mean is low if all batches were small or something else used the processor; this speed shows what the
        machine can do at most.
        """
        return self._fastest

    def check_room(self, n_tokens: int, n_coming: int = 0) -> None:
        """Refuse a request of about this many tokens if it would wait too long.

        Args:
            n_tokens: Tokens of the request.
            n_coming: Tokens of requests that were admitted but are not queued yet.

        Raises:
            ApiError: 429, with the seconds after which there should be room.
        """
        with self._ready:
            turn = self._turn(time.monotonic(), n_tokens)
            ahead = n_coming + sum(job.n_tokens for when, _, job in self._heap if when <= turn)
            waiting = n_coming + self._n_tokens
            beside_longest = waiting - max((job.n_tokens for _, _, job in self._heap), default=0)
            speed = self.tokens_per_s
        wait_s = (ahead + n_tokens) / speed
        if waiting and (wait_s > self._max_wait_s or beside_longest + n_tokens > MAX_TOKENS):
            raise ApiError(
                429,
                "queue_full",
                f"Too many texts are waiting: an answer would take about {wait_s:.0f} s. Try again later.",
                retry_after_s=max(1, round(wait_s - self._max_wait_s)),
            )

    def submit(
        self, windows: Sequence[tuple[int, Window]], n_texts: int
    ) -> "Future[tuple[FloatArray, npt.NDArray[np.int64]]]":
        """Queue the windows of a request.

        Args:
            windows: Each with the place of its text, 0 to `n_texts - 1`.
            n_texts: How many texts there are.

        Returns:
            A future of the highest probability over each text's windows, float32 `(n_texts, n_labels)`, and of the
            number of windows, int64 `(n_texts,)`. If it is cancelled, windows not computed yet are skipped.

        Raises:
            ApiError: 503, the server is shutting down.
        """
        pending: dict[int, list[tuple[int, Window]]] = {}
        for place, window in reversed(windows):
            pending.setdefault(self._classifier.padded_length(window), []).append((place, window))
        n_tokens = sum(length * len(some) for length, some in pending.items())
        job = _Job(
            pending=pending,
            probabilities=np.zeros((n_texts, len(self._classifier.labels)), dtype=np.float32),
            n_windows=np.bincount([place for place, _ in windows], minlength=n_texts).astype(np.int64),
            n_tokens=n_tokens,
            n_open=len(windows),
            began=time.monotonic(),
        )
        if not windows:
            job.done.set_result((job.probabilities, job.n_windows))
            return job.done
        self._tell(self._watch.waiting, self._n_tokens + n_tokens)
        with self._ready:
            if self._closed:
                raise ApiError(503, "shutting_down", "The server is shutting down. Try another one.")
            heapq.heappush(self._heap, (self._turn(job.began, n_tokens), next(self._order), job))
            self._n_tokens += n_tokens
            self._ready.notify(min(len(windows), len(self._threads)))
        job.done.add_done_callback(lambda done: self._forget(job) if done.cancelled() else None)
        return job.done

    @property
    def is_working(self) -> bool:
        """Whether all threads are alive."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def has_free_thread(self) -> bool:
        """Whether nothing waits, and a thread has nothing to do."""
        return self._n_tokens == 0 and self._n_free > 0

    def close(self) -> None:
        """Compute all waiting windows, then end the threads."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        for thread in self._threads:
            thread.join()

    def _turn(self, came: float, n_tokens: int) -> float:
        return came + max(0.0, n_tokens / self.tokens_per_s - _PATIENCE_S)

    def _work(self) -> None:
        while True:
            with self._ready:
                self._n_free += 1
                self._ready.wait_for(lambda: self._heap or self._closed)
                self._n_free -= 1
                if not self._heap:
                    return
                length, taken = self._take()
            if taken:
                self._compute(length, taken)

    def _take(self) -> tuple[int, list[tuple[_Job, int, Window]]]:
        """Windows of one length: those of the first request, then of others until the batch is full."""
        while self._heap and (self._heap[0][2].done.cancelled() or not self._heap[0][2].pending):
            _, _, gone = heapq.heappop(self._heap)
            self._forget(gone)
        if not self._heap:
            return 0, []
        first = self._heap[0][2]
        length = next(iter(first.pending))
        waiting = sum(len(job.pending.get(length, ())) for _, _, job in self._heap[:_SEEN])
        share = -(-waiting // len(self._threads))  # or one thread would take what two could compute at once
        room = max(1, min(self._classifier.batch_tokens // length, share))
        taken: list[tuple[_Job, int, Window]] = []
        for _, _, job in self._heap[:_SEEN]:
            some = job.pending.get(length, [])
            if not job.taken and some:
                job.taken = True
                self._tell(self._watch.waited, time.monotonic() - job.began)
            while some and len(taken) < room:
                taken.append((job, *some.pop()))
                job.n_tokens -= length
                self._n_tokens -= length
            if length in job.pending and not some:
                del job.pending[length]
            if len(taken) == room:
                break
        return length, taken

    def _compute(self, length: int, taken: list[tuple[_Job, int, Window]]) -> None:
        began = time.perf_counter()
        try:
            answers = self._classifier.window_probabilities([window for _, _, window in taken])
        except Exception as error:
            for job in {job for job, _, _ in taken}:
                self._fail(job, error)
            return
        seconds = time.perf_counter() - began
        self._tell(self._watch.batch, len(taken), length * len(taken), seconds)
        speed = length * len(taken) / max(seconds, 1e-6) * len(self._threads)
        finished = []
        with self._ready:
            before = speed if self._measured is None else self._measured
            self._measured = _MEMORY * before + (1 - _MEMORY) * speed
            self._fastest = max(self._fastest, speed)
            for (job, place, _), answer in zip(taken, answers, strict=True):
                np.maximum(job.probabilities[place], answer, out=job.probabilities[place])
                job.n_open -= 1
                if job.n_open == 0:
                    finished.append(job)
        self._tell(self._watch.waiting, self._n_tokens)
        for job in finished:
            if job.done.set_running_or_notify_cancel():
                job.done.set_result((job.probabilities, job.n_windows))

    def _tell(self, what: Callable[..., None], *numbers: float) -> None:
        """Notify the observer; its errors, such as a full disk, must not end this thread."""
        try:
            what(*numbers)
        except Exception as error:
            logger.warning("a metric was not counted", extra={"error": type(error).__name__})

    def _fail(self, job: _Job, error: Exception) -> None:
        with self._ready:  # two threads may fail with windows of one job
            self._forget(job)
            if not job.done.done() and job.done.set_running_or_notify_cancel():
                job.done.set_exception(error)

    def _forget(self, job: _Job) -> None:
        """Stop counting and computing a job, wherever it is in the queue."""
        with self._ready:
            self._n_tokens -= job.n_tokens
            job.n_tokens = 0
            job.pending.clear()
