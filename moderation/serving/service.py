"""Texts of many concurrent requests -> results: cache, tokenisation off the event loop, micro-batches, a time limit."""

import asyncio
import hashlib
import re
import secrets
import threading
import time
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

from moderation.errors import DataError
from moderation.inference.classifier import Classifier, TextResult
from moderation.inference.routing import Reading, Route
from moderation.inference.texts import check_texts
from moderation.inference.windows import Window
from moderation.serving.deadline import seconds_left
from moderation.serving.errors import ApiError
from moderation.serving.metrics import Metrics
from moderation.serving.queue import Batcher

LONG = 20_000
"""Requests with more characters are cut into windows in a separate thread, so that no short one waits for them."""

_TOKENS_PER_LANGUAGE = 8
_CHARACTERS_PER_TOKEN = 3  # too few rather than too many
_PIECE = 1_000
# Emoji and other signs that stand for words.
_EMOJI = re.compile(
    r"[\u2194-\u21ff\u2300-\u23ff\u2600-\u27bf\u2900-\u2bff\u3030\u303d\u3200-\u33ff\U0001f000-\U0001fbff]"
)
_IDEOGRAPH = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")  # the tokenizer puts blanks around each
_LONGEST_NAME = 12  # characters of the words that a tokenizer may read in place of an emoji
_WARM_UP = ("You are kind.", "A sentence of a few more words, as comments have them, to get the engine going.")
_LONG_WARM_UP = 200 * "A long text fills whole batches. "  # which shows how fast the engine can be
_USUAL_AT_MOST = 256  # tokens of a typical request
_LOOK_S = 0.02  # between two checks whether the queue is full
_Row = tuple[npt.NDArray[np.float32], int, Route]


def measure(texts: Sequence[str]) -> tuple[int, bool]:
    """Estimate how many tokens texts have, and whether they are long.

    Their length after normalisation counts: one letter may become 18, an emoji a word. For long texts, only the
    beginning is examined, and the rest is assumed to be like it.

    >>> measure(["kind river"]), measure(["kind river " * 2000]), measure(["\ufdfa" * 2000])
    ((5, False), (7335, True), (12002, True))
    """
    n_characters = n_tokens = 0
    for text in texts:
        length = len(text) if text.isascii() or n_characters > LONG else _normalised_length(text)
        n_characters += length
        n_tokens += length // _CHARACTERS_PER_TOKEN + 2
    return n_tokens, n_characters > LONG


def _normalised_length(text: str) -> int:
    """Upper bound of a text's characters after normalisation; an estimate if that is long."""
    length = end = 0
    while end < len(text) and length <= LONG:
        piece = text[end : end + _PIECE]
        length += len(unicodedata.normalize("NFKD", piece))
        length += (_LONGEST_NAME - 1) * len(_EMOJI.findall(piece)) + 2 * len(_IDEOGRAPH.findall(piece))
        end += len(piece)
    return length * len(text) // end


class _GivenUp(Exception):
    """Nobody waits for this work any more."""


class PredictionService:
    """A classifier that many requests share.

    Args:
        classifier: Loaded; closed with this object.
        metrics: Where to count.
        max_wait_s: A request that would have to wait longer for its answer is refused at once (429).
        timeout_s: A request without an answer by then is given up (504); counted from its admission.
        cache_texts: Results to cache, for all keys together; 0: none. No text is stored, and a key finds only its own.

    Attributes:
        draining: Set when the server is about to stop: it reports "not ready" but still answers.
        leaving: Set when this process is about to end, replaced or not: connections are closed after their answer.
        on_results: Called with the scored texts (without sentences of other texts) and their results; must not raise.
    """

    on_results: Callable[[Sequence[str], Sequence[TextResult]], None] | None = None

    def __init__(
        self, classifier: Classifier, metrics: Metrics, *, max_wait_s: float, timeout_s: float, cache_texts: int
    ) -> None:
        self.classifier = classifier
        self.draining = self.leaving = False
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._cache: LRUCache[bytes, _Row] = LRUCache(cache_texts)
        self._cache_lock = threading.Lock()
        self._secret = secrets.token_bytes(32)  # so that nobody can guess a text from its hash in memory
        for text in _WARM_UP:
            classifier.probabilities([text])
        self._batcher = Batcher(classifier, metrics, max_wait_s=max_wait_s)
        self._cutter, self._long_cutter = (ThreadPoolExecutor(1, thread_name_prefix="cutter") for _ in range(2))
        self._n_coming = {self._cutter: 0, self._long_cutter: 0}  # tokens that are admitted but not queued yet
        self._coming_lock = threading.Lock()  # requests are read on two event loops
        self._usual: float | None = None  # running mean of a request's tokens
        self._looked_at = 0.0
        self._full: ApiError | None = None  # result of the last check
        self._batcher.submit(self._cut((*_WARM_UP, _LONG_WARM_UP)), len(_WARM_UP) + 1).result()

    async def read(
        self, texts: Sequence[str], *, caller: str | None = None, owners: Sequence[int] = ()
    ) -> list[TextResult]:
        """Results of texts, in order.

        Args:
            texts: Any number.
            caller: Name of the request's key, which finds only its own earlier results in the cache; None: no key.
            owners: The last texts may be sentences of others: for each of them the index of the text that it is from.
                They are decided at that text's thresholds, and not counted in the metrics.

        Raises:
            ApiError: 400, an invalid text; 429, a long queue; 503, the server is stopping; 504, no answer in time.
        """
        try:
            texts = check_texts(texts)
        except DataError as error:
            raise ApiError(400, "invalid_request", str(error)) from None
        if not texts:
            return []
        keys = self._hash(texts, caller)
        rows = self._look_up(keys)
        known = set(rows)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in rows}
        if missing:
            found = await self._compute(list(missing.values()))
            rows |= dict(zip(missing, found, strict=True))
            with self._cache_lock:
                for key, row in zip(missing, found, strict=True):
                    if self._cache.maxsize:
                        self._cache[key] = row
        of_text = [rows[key] for key in keys]
        probabilities = np.stack([row for row, _, _ in of_text])
        n_windows = np.array([count for _, count, _ in of_text], dtype=np.int64)
        routes = [route for _, _, route in of_text]
        n_counted = len(texts) - len(owners)
        decided_as = [*routes[:n_counted], *(routes[owner] for owner in owners)]
        results = self.classifier.decide(Reading(probabilities, n_windows, routes), decided_as)
        self._metrics.texts(results[:n_counted], sum(key in known for key in keys[:n_counted]))
        if self.on_results is not None:
            self.on_results(texts[:n_counted], results[:n_counted])
        return results

    def check_size(self, texts: Sequence[str]) -> None:
        """Refuse texts that `read` would refuse, before any work is done on them.

        Raises:
            ApiError: 413 or 429.
        """
        if texts:
            n_tokens, long = self._measure(texts)
            self._admit(n_tokens, long=long)

    def check_room(self) -> None:
        """Refuse any request while one of typical length would be refused: cheaper than reading its body first.

        Raises:
            ApiError: 429.
        """
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_S:
            self._looked_at, self._full = now, None
            try:
                self._batcher.check_room(round(self._usual or 0), self._n_coming[self._cutter])
            except ApiError as problem:
                self._full = problem
        if self._full is not None:
            raise self._full.with_traceback(None)

    @property
    def is_ready(self) -> bool:
        """Whether requests should be sent here."""
        return self._batcher.is_working and not self.draining

    @property
    def has_free_thread(self) -> bool:
        """Whether no text waits to be cut or computed, and a thread has nothing to do."""
        return not any(self._n_coming.values()) and self._batcher.has_free_thread

    def close(self) -> None:
        """Finish waiting requests, and release the engine."""
        self._cutter.shutdown()
        self._long_cutter.shutdown()
        self._batcher.close()
        self.classifier.close()

    def _hash(self, texts: Sequence[str], caller: str | None) -> list[bytes]:
        own = hashlib.blake2b((caller or "").encode(), key=self._secret).digest()
        return [hashlib.blake2b(text.encode(), key=own, digest_size=16).digest() for text in texts]

    def _look_up(self, keys: Sequence[bytes]) -> dict[bytes, _Row]:
        with self._cache_lock:
            return {key: row for key in keys if (row := self._cache.get(key)) is not None}

    async def _compute(self, texts: list[str]) -> list[_Row]:
        n_tokens, long = self._measure(texts)
        try:
            async with asyncio.timeout(min(self._timeout_s, seconds_left())):
                windows = await self._cut_aside(texts, n_tokens, long=long)
                n_found = sum(len(window.ids) for _, window in windows)
                if n_found > n_tokens:  # for example letters that the tokenizer splits into many tokens
                    self._admit(n_found, long=long)
                answer = await asyncio.wrap_future(self._batcher.submit(windows, len(texts)))
        except TimeoutError:
            raise ApiError(
                504,
                "timeout",
                f"No answer within {self._timeout_s:g} s. Send fewer or shorter texts at a time.",
            ) from None
        probabilities, n_windows = answer
        routes = {place: window.route for place, window in windows}
        rows = enumerate(zip(probabilities, n_windows.tolist(), strict=True))
        return [(row.copy(), count, routes[place]) for place, (row, count) in rows]

    def _measure(self, texts: Sequence[str]) -> tuple[int, bool]:
        """As `measure`; recognising a language takes about as long as computing some tokens, however short the text."""
        n_tokens, long = measure(texts)
        n_more = _TOKENS_PER_LANGUAGE * len(texts) if self.classifier.router is not None else 0
        return n_tokens + n_more, long or n_more > LONG // _CHARACTERS_PER_TOKEN

    def _admit(self, n_tokens: int, *, long: bool) -> None:
        """Refuse a request that takes too long by itself (413), or would wait too long (429)."""
        self._check_alone(n_tokens)
        n_coming = sum(self._n_coming.values()) if long else self._n_coming[self._cutter]
        self._batcher.check_room(n_tokens, n_coming)

    def _check_alone(self, n_tokens: int) -> None:
        if n_tokens > self._timeout_s * self._batcher.best_tokens_per_s:
            raise ApiError(
                413,
                "too_large",
                f"These texts would take longer than the {self._timeout_s:g} s that a request may take. "
                "Send fewer or shorter texts at a time.",
            )

    async def _cut_aside(self, texts: Sequence[str], n_tokens: int, *, long: bool) -> list[tuple[int, Window]]:
        """Admit texts, and cut them in a thread, which stops once nobody waits for it.

        Raises:
            ApiError: 413 or 429.
        """
        given_up = threading.Event()
        cutter = self._long_cutter if long else self._cutter
        with self._coming_lock:  # requests of two event loops may not both find the same room
            self._admit(n_tokens, long=long)
            self._n_coming[cutter] += n_tokens
        counted = min(n_tokens, _USUAL_AT_MOST)
        self._usual = counted if self._usual is None else self._usual + 0.02 * (counted - self._usual)
        try:
            return await asyncio.get_running_loop().run_in_executor(cutter, self._cut, texts, given_up)
        finally:
            given_up.set()
            with self._coming_lock:
                self._n_coming[cutter] -= n_tokens

    def _cut(self, texts: Sequence[str], given_up: threading.Event | None = None) -> list[tuple[int, Window]]:
        began = time.perf_counter()
        windows: list[tuple[int, Window]] = []
        n_tokens = 0

        def watch(n_more: int) -> None:
            if given_up is None:  # the warm-up
                return
            if given_up.is_set():
                raise _GivenUp
            self._check_alone(n_tokens + n_more)

        for place, text in enumerate(texts):
            watch(0)
            found = self.classifier.windows(text, watch)
            windows += [(place, window) for window in found]
            n_tokens += sum(len(window.ids) for window in found)
        self._metrics.tokenised(time.perf_counter() - began)
        return windows
