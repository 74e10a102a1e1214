"""Bursts: refused in time, and worked off."""

import asyncio
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from moderation import Classifier
from moderation.inference.classifier import TextResult
from moderation.inference.windows import Watch, Window
from moderation.serving.errors import ApiError
from moderation.serving.metrics import Metrics
from moderation.serving.service import LONG, PredictionService, measure
from tests.attack_table import Attack

N_TEXTS = 1000


def test_a_burst_is_refused_before_it_is_tokenised(tiny_bundle: Path) -> None:
    async def burst(service: PredictionService) -> list[TextResult | BaseException]:
        reading = [service.read([f"comment {number} of a burst"]) for number in range(N_TEXTS)]
        found = await asyncio.gather(*reading, return_exceptions=True)
        return [answer if isinstance(answer, BaseException) else answer[0] for answer in found]

    service = PredictionService(
        Classifier.load(tiny_bundle, threads=1), Metrics(), max_wait_s=1e-3, timeout_s=30, cache_texts=0
    )
    answers = asyncio.run(burst(service))
    answered = sum(isinstance(answer, TextResult) for answer in answers)
    refused = sum(isinstance(answer, ApiError) and answer.status == 429 for answer in answers)
    assert answered + refused == N_TEXTS
    assert 0 < answered < N_TEXTS / 2
    again = asyncio.run(service.read(["what was let in was worked off"]))
    assert len(again) == 1
    service.close()


@pytest.mark.hostile("letters that become many")
@pytest.mark.parametrize(
    "text", ["1" + "\ufdfa" * 19_900, "\U0001f9a7 " * 9_000, *(letter * 19_000 for letter in "\u337f\uc548\u6c34")]
)
def test_a_short_text_that_becomes_long_does_not_delay_short_ones(text: str, tiny_bundle: Path) -> None:
    """It is cut in the other thread, and not at all where it takes too long anyway."""
    classifier = Classifier.load(tiny_bundle, threads=1)
    service = PredictionService(classifier, Metrics(), max_wait_s=10, timeout_s=30, cache_texts=0)
    cut, threads = classifier.windows, list[int]()

    def note(text: str, watch: Watch | None = None) -> list[Window]:
        threads.append(threading.get_ident())
        return cut(text[:9], watch)

    classifier.windows = note  # type: ignore[method-assign]

    async def read() -> None:
        await service.read(["kind river"])
        service._batcher._fastest = 1.0  # tokens a second
        with pytest.raises(ApiError, match="Send fewer or shorter texts"):
            await service.read([text])
        service._batcher._fastest = 1e9
        await service.read([text])

    try:
        asyncio.run(read())
    finally:
        service.close()
    assert len(threads) == len(set(threads)) == 2


@pytest.mark.hostile("letters that become many")
def test_no_text_is_longer_than_it_is_measured(attack: Attack) -> None:
    """As the built-in model reads it, with its words for emoji."""
    classifier = Classifier.load(threads=1)
    n_cases = attack.cases(400, 20_000)
    for seed in range(n_cases):
        rng = random.Random(seed)
        top = rng.choice((0x300, 0x3400, 0x20000))
        codes = (rng.randrange(0x80, top) for _ in range(40))
        text = "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
        assert measure([text + "."])[0] * 3 >= len(classifier.normalise(text)), seed
        attack.tried()
    assert measure(["é" * LONG, "\ufdfa" * 1_000_000])[1]


def test_a_full_queue_refuses_early_until_it_has_shrunk(tiny_bundle: Path) -> None:
    classifier = Classifier.load(tiny_bundle, threads=1)
    service = PredictionService(classifier, Metrics(), max_wait_s=1e-3, timeout_s=30, cache_texts=0)
    engine, go = classifier.window_probabilities, threading.Event()
    classifier.window_probabilities = lambda windows: go.wait(60) and engine(windows)  # type: ignore[method-assign]

    async def fill() -> None:
        reading: list[asyncio.Task[list[TextResult]]] = []
        service.check_room()
        refused: ApiError | None = None
        while refused is None:
            assert len(reading) < 2000, "never full"
            reading.append(asyncio.create_task(service.read([f"a {len(reading):04d}"])))
            await asyncio.sleep(0.001)
            try:
                service.check_room()
            except ApiError as problem:
                refused = problem
        assert (refused.status, refused.kind) == (429, "queue_full")
        go.set()
        answers = await asyncio.gather(*reading, return_exceptions=True)
        assert any(isinstance(answer, list) for answer in answers)
        while True:  # until the next look
            try:
                service.check_room()
            except ApiError:
                await asyncio.sleep(0.001)
            else:
                break

    try:
        asyncio.run(fill())
    finally:
        go.set()
        service.close()


def test_a_slow_spell_of_small_batches_refuses_no_long_text(tiny_bundle: Path) -> None:
    classifier = Classifier.load(tiny_bundle, threads=1)
    service = PredictionService(classifier, Metrics(), max_wait_s=10, timeout_s=30, cache_texts=0)
    engine, pause_s = classifier.window_probabilities, 0.02

    def slow(windows: Sequence[Window]) -> npt.NDArray[np.float32]:
        time.sleep(pause_s)
        return engine(windows)

    classifier.window_probabilities = slow  # type: ignore[method-assign]

    async def read() -> list[TextResult]:
        nonlocal pause_s
        for number in range(40):
            await service.read([f"short {number}"])
        pause_s = 0
        return await service.read(["kind river " * 20_000])

    try:
        assert len(asyncio.run(read())) == 1
    finally:
        service.close()


def test_work_beyond_the_machines_capacity_is_refused_at_once(tiny_bundle: Path) -> None:
    service = PredictionService(
        Classifier.load(tiny_bundle, threads=1), Metrics(), max_wait_s=10, timeout_s=1e-3, cache_texts=0
    )
    try:
        with pytest.raises(ApiError, match="Send fewer or shorter texts") as refused:
            asyncio.run(service.read(["kind river " * 100_000]))
        assert refused.value.status == 413
    finally:
        service.close()


@pytest.mark.hostile("cache oracle")
def test_no_key_finds_in_the_cache_what_another_key_sent(tiny_bundle: Path, attack: Attack) -> None:
    classifier, computed = Classifier.load(tiny_bundle, threads=1), 0
    service = PredictionService(classifier, Metrics(), max_wait_s=1e6, timeout_s=1e6, cache_texts=4)
    engine = classifier.window_probabilities

    def count(windows: Sequence[Window]) -> npt.NDArray[np.float32]:
        nonlocal computed
        computed += len(windows)
        return engine(windows)

    classifier.window_probabilities = count  # type: ignore[method-assign]

    def n_computed(caller: str | None, text: str) -> int:
        before = computed
        asyncio.run(service.read([text], caller=caller))
        return computed - before

    try:
        for number in range(attack.cases(20, 500)):
            text = f"asked by one key, {number}"
            for caller in ("forum", "blog", None, "forumblog"):
                assert [n_computed(caller, text), n_computed(caller, text)] == [1, 0], caller
            assert len(service._cache) == 4, "one bound for all of them"
            assert n_computed("forum", text) == 0
            attack.tried()
    finally:
        service.close()


def test_hashes_in_the_cache_differ_from_process_to_process(tiny_bundle: Path) -> None:
    classifier = Classifier.load(tiny_bundle, threads=1)
    one, other = (
        PredictionService(classifier, Metrics(), max_wait_s=1, timeout_s=1, cache_texts=1)._hash(["a text"], None)
        for _ in range(2)
    )
    assert one != other
