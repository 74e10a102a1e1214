"""The queue: micro-batches of one length, short requests first, a bound in time, failures that reach their own."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import wait

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.inference.windows import Window
from moderation.serving.errors import ApiError
from moderation.serving.queue import MAX_TOKENS, Batcher
from tests.serving.conftest import wait_until


class Counting:
    """An engine whose probability of a window is its first token / 1000; it notes what it was given."""

    labels = ("a", "b")
    batch_tokens = 64

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self.batches: list[list[Window]] = []
        self.go = threading.Event()
        self.go.set()
        self.called = threading.Event()
        self.seconds = 0.0  # that a batch takes

    def padded_length(self, window: Window) -> int:
        return len(window.ids)

    def window_probabilities(self, windows: Sequence[Window]) -> npt.NDArray[np.float32]:
        self.called.set()
        self.go.wait(60)
        time.sleep(self.seconds)
        self.batches.append(list(windows))
        if any(window.ids[0] == 999 for window in windows):
            raise RuntimeError("the engine broke")
        return np.float32([[window.ids[0] / 1000, 0.5] for window in windows])


class Noting:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.waits: list[float] = []

    def batch(self, n_windows: int, n_tokens: int, seconds: float) -> None:
        self.tokens.append(n_tokens)

    def waited(self, seconds: float) -> None:
        self.waits.append(seconds)

    def waiting(self, n_tokens: int) -> None:
        self.n_waiting = n_tokens


def window(value: int, length: int = 8) -> Window:
    return Window((value, *[1] * (length - 1)), 0, length)


@pytest.fixture
def engine() -> Counting:
    return Counting()


@pytest.fixture
def batcher(engine: Counting) -> Iterator[Batcher]:
    batcher = Batcher(engine, Noting(), max_wait_s=5)
    yield batcher
    engine.go.set()
    batcher.close()


def test_a_text_has_the_highest_of_its_windows_and_their_number(batcher: Batcher) -> None:
    probabilities, n_windows = batcher.submit([(0, window(100)), (0, window(300)), (1, window(200))], 3).result(60)
    assert probabilities.tolist() == np.float32([[0.3, 0.5], [0.2, 0.5], [0, 0]]).tolist()
    assert n_windows.tolist() == [2, 1, 0]


def test_a_thread_is_free_while_another_computes_and_nothing_waits() -> None:
    engine = Counting(workers=2)
    batcher = Batcher(engine, Noting(), max_wait_s=5)
    wait_until(lambda: batcher.has_free_thread)
    engine.go.clear()
    first = batcher.submit([(0, window(100))], 1)
    assert engine.called.wait(60)
    wait_until(lambda: batcher.has_free_thread)
    engine.called.clear()
    others = [batcher.submit([(0, window(200))], 1)]
    assert engine.called.wait(60)
    assert not batcher.has_free_thread, "both compute"
    others.append(batcher.submit([(0, window(300))], 1))
    assert not batcher.has_free_thread
    engine.go.set()
    wait([first, *others])
    wait_until(lambda: batcher.has_free_thread)
    batcher.close()


def test_a_text_without_windows_gets_an_answer_too(batcher: Batcher) -> None:
    assert batcher.submit([], 0).result(60)[0].shape == (0, 2)


def test_windows_of_one_length_share_a_batch_across_requests(engine: Counting, batcher: Batcher) -> None:
    engine.go.clear()
    first = batcher.submit([(0, window(1, 16))], 1)  # keeps the only thread busy
    assert engine.called.wait(60)
    rest = [batcher.submit([(0, window(10 + i, 8 if i % 2 else 16))], 1) for i in range(12)]
    engine.go.set()
    wait([first, *rest], 5)
    lengths = [[len(one.ids) for one in batch] for batch in engine.batches[1:]]
    assert all(len(set(some)) == 1 and sum(some) <= 64 for some in lengths)
    assert len(lengths) == 3  # six of 8 tokens in one batch, six of 16 in two
    assert [round(float(done.result()[0][0, 0]), 3) for done in rest] == [round((10 + i) / 1000, 3) for i in range(12)]


def test_a_window_longer_than_a_batch_is_computed_by_itself(engine: Counting, batcher: Batcher) -> None:
    assert batcher.submit([(0, window(7, 200)), (1, window(8, 200))], 2).result(60)[1].tolist() == [1, 1]
    assert [len(batch) for batch in engine.batches] == [1, 1]


def test_a_short_request_passes_a_huge_one_that_came_before(engine: Counting, batcher: Batcher) -> None:
    engine.seconds = 0.002
    batcher.submit([(0, window(1))], 1).result(60)  # tells the speed
    engine.go.clear()
    long = batcher.submit([(i, window(i + 1, 64)) for i in range(500)], 500)
    short = batcher.submit([(0, window(2, 32))], 1)
    engine.go.set()
    short.result(60)
    long.result(20)
    position = next(i for i, batch in enumerate(engine.batches) if len(batch[0].ids) == 32)
    assert position < 20, "the short one waited for the long one"


def test_nobody_overtakes_a_request_of_usual_length(engine: Counting, batcher: Batcher) -> None:
    engine.go.clear()
    batcher._measured = 4000.0  # tokens a second: measured, a busy machine would make the next request a long one
    usual = batcher.submit([(i, window(i + 1, 64)) for i in range(20)], 20)  # a third of a second, by what is known
    short = batcher.submit([(0, window(2, 32))], 1)
    engine.go.set()
    wait([usual, short], 5)
    position = next(i for i, batch in enumerate(engine.batches) if len(batch[0].ids) == 32)
    assert position == len(engine.batches) - 1


def test_a_request_that_would_wait_too_long_is_refused_with_a_time_to_retry(engine: Counting) -> None:
    batcher = Batcher(engine, Noting(), max_wait_s=1)
    engine.go.clear()
    batcher.check_room(10**9)  # nobody waits: even the longest is let in
    waiting = [batcher.submit([(0, window(1, 500))], 1) for _ in range(4)]
    assert engine.called.wait(60)
    with pytest.raises(ApiError) as refused:
        batcher.check_room(500)
    assert (refused.value.status, refused.value.kind) == (429, "queue_full")
    assert refused.value.retry_after_s is not None and refused.value.retry_after_s >= 1
    engine.go.set()
    wait(waiting, 5)
    batcher.check_room(500)
    batcher.close()


def test_memory_is_limited_whatever_the_speed(engine: Counting) -> None:
    batcher = Batcher(engine, Noting(), max_wait_s=1e9)
    engine.go.clear()
    done = [batcher.submit([(0, window(1, 500))], 1) for _ in range(3)]  # one is computed, one the longest that waits
    assert engine.called.wait(60)
    with pytest.raises(ApiError, match="waiting"):
        batcher.check_room(MAX_TOKENS)
    engine.go.set()
    wait(done, 5)
    batcher.close()


def test_a_single_long_request_keeps_nobody_out(engine: Counting, batcher: Batcher) -> None:
    engine.go.clear()
    busy = batcher.submit([(0, window(1))], 1)
    assert engine.called.wait(60)
    long = batcher.submit([(0, window(2, MAX_TOKENS))], 1)
    batcher.check_room(8)
    engine.go.set()
    wait([busy, long], 5)


def test_a_failure_reaches_only_the_requests_of_its_batch(engine: Counting, batcher: Batcher) -> None:
    broken = batcher.submit([(0, window(999, 32)), (1, window(5, 8))], 2)
    with pytest.raises(RuntimeError, match="broke"):
        broken.result(60)
    assert batcher.submit([(0, window(5))], 1).result(60)[1].tolist() == [1]
    assert batcher.n_tokens == 0


def test_windows_that_nobody_waits_for_are_skipped(engine: Counting, batcher: Batcher) -> None:
    engine.go.clear()
    busy = batcher.submit([(0, window(1))], 1)
    assert engine.called.wait(60)
    gone = batcher.submit([(0, window(77, 40)), (0, window(78, 40))], 1)
    assert gone.cancel()
    assert batcher.n_tokens == 0
    engine.go.set()
    busy.result(60)
    batcher.submit([(0, window(2))], 1).result(60)
    assert not any(one.ids[0] in (77, 78) for batch in engine.batches for one in batch)
    assert batcher.n_tokens == 0


def test_a_cancelled_request_is_forgotten_once(engine: Counting, batcher: Batcher) -> None:
    """Between the cancelling and its callback a thread may find the request gone by itself."""
    engine.go.clear()
    busy = batcher.submit([(0, window(1))], 1)
    assert engine.called.wait(60)
    gone = batcher.submit([(0, window(77, 40))], 1)
    with batcher._ready:
        canceller = threading.Thread(target=gone.cancel)
        canceller.start()
        while not gone.cancelled():
            time.sleep(0.001)
        batcher._take()
    canceller.join(60)
    engine.go.set()
    busy.result(60)
    assert batcher.n_tokens == 0


def test_a_failing_observer_does_no_harm(engine: Counting) -> None:
    class Failing(Noting):
        def batch(self, n_windows: int, n_tokens: int, seconds: float) -> None:
            raise OSError("the disk of the metrics is full")

    batcher = Batcher(engine, Failing(), max_wait_s=5)
    assert batcher.submit([(0, window(5))], 1).result(60)[1].tolist() == [1]
    assert batcher.submit([(0, window(5))], 1).result(60)[1].tolist() == [1]
    assert batcher.is_working
    batcher.close()


def test_closing_answers_waiting_requests_and_accepts_no_more(engine: Counting) -> None:
    batcher = Batcher(engine, Noting(), max_wait_s=5)
    done = [batcher.submit([(0, window(i, 8 + i % 5))], 1) for i in range(50)]
    batcher.close()
    assert all(one.done() for one in done)
    with pytest.raises(ApiError, match="shutting down"):
        batcher.submit([(0, window(1))], 1)


@settings(max_examples=30, deadline=None)
@given(
    requests=st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.integers(1, 900), st.integers(1, 40)), max_size=12), max_size=12
    ),
    workers=st.integers(1, 3),
)
def test_every_request_gets_its_own_answer(requests: list[list[tuple[int, int, int]]], workers: int) -> None:
    batcher = Batcher(Counting(workers), Noting(), max_wait_s=5)
    futures = [
        batcher.submit([(place, window(value, length)) for place, value, length in request], 4) for request in requests
    ]
    for request, future in zip(requests, futures, strict=True):
        probabilities, n_windows = future.result(60)
        for place in range(4):
            values = [value for at, value, _ in request if at == place]
            assert n_windows[place] == len(values)
            assert probabilities[place, 0] == np.float32(max(values, default=0) / 1000)
    assert batcher.n_tokens == 0
    batcher.close()
