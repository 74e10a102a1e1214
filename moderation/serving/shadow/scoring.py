"""A second bundle that scores a share of the texts after they were answered, to show what it would change.

No answer waits for it. It gets a text when the answer has been sent; one thread computes it, window by window, each
only while the main bundle has a thread to spare. Texts that do not fit its small queue are dropped and counted. Errors
here are logged once and counted, and no client sees them.
"""

import hashlib
import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path

import numpy as np
from starlette.types import ASGIApp, Receive, Scope, Send

from moderation.bundles import Bundle, read_bundle
from moderation.errors import ConfigError, ModerationError
from moderation.evaluation.chosen_thresholds import GivenThresholds
from moderation.inference.backends import choose_backend
from moderation.inference.classifier import Classifier, TextResult
from moderation.inference.routing import Reading
from moderation.serving.service import PredictionService
from moderation.serving.shadow.counts import ShadowCounts

MAX_TEXTS = 1_000
"""Maximum number of texts that wait."""

MAX_CHARACTERS = 1_000_000
"""Maximum for all texts that wait; a longer text is dropped."""

MAX_TOKENS = 500_000
"""Maximum for one text; a text with more tokens is dropped."""

_PAUSE_S = 0.005  # between two checks whether the main bundle has a thread to spare
_LONGEST_STOP_S = 1.0  # for the window that is being computed

logger = logging.getLogger(__name__)

_Answered = tuple[str, TextResult]
_unsent: ContextVar[list[_Answered] | None] = ContextVar("unsent", default=None)
"""Texts of the current request, which is not answered yet; None: outside of a request."""


class _Dropped(Exception):
    """This text is not compared: it is too long, or the server stops."""


def is_chosen(text: str, share: float) -> bool:
    """Whether a text is in a share of all texts: the same in every process; it is also in every larger share.

    >>> [text for text in ("kind", "river", "bread", "stone") if is_chosen(text, 0.5)]
    ['river', 'bread', 'stone']
    """
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"shadow").digest()
    return int.from_bytes(digest) < share * 2**64


def find_common_labels(main: Bundle, shadow: Bundle) -> tuple[str, ...]:
    """The labels that both bundles have, in the main one's order.

    Raises:
        ConfigError: there are none.
    """
    common = tuple(label for label in main.labels if label in shadow.labels)
    if not common:
        raise ConfigError(
            f"--shadow {shadow.path}: no label in common with {main.path}, so nothing can be compared. Its labels "
            f"are {', '.join(shadow.labels)}; the main bundle's are {', '.join(main.labels)}."
        )
    return common


def choose_shadow_backend(bundle: Bundle, name: str) -> str:
    """The engine of a shadow: the one chosen for the main bundle, but never torch.

    torch has one thread count for the whole process, so the shadow would take threads from the main bundle.

    Raises:
        ModerationError: the bundle has no other form, or the engine is not installed.
    """
    found = choose_backend(bundle, "auto" if name.startswith("torch") else name)
    if found.startswith("torch"):
        raise ConfigError(
            f"--shadow {bundle.path}: only torch can run it here, and would share its threads with the main bundle. "
            "Export it with another form: moderation export RUN --to DIR --formats onnx,onnx-int8"
        )
    return found


def open_shadow(
    path: str | Path,
    service: PredictionService,
    counts: ShadowCounts,
    *,
    share: float,
    backend: str = "auto",
    thresholds: GivenThresholds = None,
) -> "Shadow":
    """Load a bundle, and from now on let it score texts that the service scores.

    Raises:
        ConfigError: no label in common, invalid thresholds, or an unavailable engine.
        ArtifactError: not a bundle, or a damaged one.
    """
    main, bundle = service.classifier, read_bundle(Path(path))
    labels = find_common_labels(main.bundle, bundle)
    engine = choose_shadow_backend(bundle, backend)
    classifier = Classifier.load(bundle.path, backend=engine, threads=1, thresholds=thresholds)
    counts.started(main, classifier, labels)
    facts = {"model_version": classifier.model_version, "share": share, "labels": list(labels)}
    logger.info("a shadow scores a share of the texts", extra=facts)
    for side, other in ((main, "the shadow"), (classifier, "the main bundle")):
        if missing := [label for label in side.labels if label not in labels]:
            logger.warning(f"labels that {other} lacks are not compared", extra={"labels": missing})
    shadow = Shadow(classifier, counts, share=share, may_work=lambda: service.has_free_thread)
    service.on_results = shadow.offer
    return shadow


class Shadow:
    """A classifier that scores texts after they were answered, in one thread of its own.

    Args:
        classifier: Loaded; closed with this object.
        counts: Started.
        share: Of the texts, above 0 and at most 1.
        may_work: Whether the main bundle has a thread to spare.
    """

    def __init__(
        self, classifier: Classifier, counts: ShadowCounts, *, share: float, may_work: Callable[[], bool]
    ) -> None:
        self.classifier, self.counts, self.share = classifier, counts, share
        self._may_work = may_work
        self._waiting: deque[_Answered] = deque()
        self._n_characters = 0
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._logged: set[tuple[str, str]] = set()
        self._told_full = False
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
        self._thread.start()

    def offer(self, texts: Sequence[str], results: Sequence[TextResult]) -> None:
        """Take the texts in the share once the current request is answered; outside of a request, at once."""
        try:
            unsent = _unsent.get()
            if unsent is None:
                self.take(list(zip(texts, results, strict=True)))
            else:
                unsent += zip(texts, results, strict=True)
        except Exception as error:
            self._log_once(error)

    def take(self, answered: Sequence[_Answered]) -> None:
        """Queue the texts in the share, with their results, as far as there is room."""
        try:
            self._queue([pair for pair in answered if is_chosen(pair[0], self.share)])
        except Exception as error:
            self._log_once(error)

    def _queue(self, chosen: Sequence[_Answered]) -> None:
        n_dropped = 0
        with self._changed:
            for text, result in chosen:
                n_characters = self._n_characters + len(text)
                if self._closing.is_set() or len(self._waiting) >= MAX_TEXTS or n_characters > MAX_CHARACTERS:
                    n_dropped += 1
                else:
                    self._waiting.append((text, result))
                    self._n_characters = n_characters
            n_waiting = len(self._waiting)
            tell = n_dropped > 0 and not (self._closing.is_set() or self._told_full)
            self._told_full |= tell
            self._changed.notify()
        self._count_dropped(n_dropped)
        if tell:
            logger.warning("the shadow cannot keep up; texts are dropped", extra={"waiting": n_waiting})

    def close(self) -> None:
        """Drop waiting texts, and end the thread; if it hangs, it ends with the process."""
        with self._changed:
            self._closing.set()
            n_dropped = len(self._waiting)
            self._waiting.clear()
            self._changed.notify()
        self._count_dropped(n_dropped)
        self._thread.join(_LONGEST_STOP_S)

    def _work(self) -> None:
        while self._compare_next():
            pass
        self.classifier.close()

    def _compare_next(self) -> bool:
        """Compare the next text; False: there is none, and none will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
            if not self._waiting:
                return False
            text, main = self._waiting.popleft()
            self._n_characters -= len(text)
        try:
            try:
                found = self._read(text)
            except _Dropped:
                self.counts.dropped()
            except Exception as error:
                self._log_once(error)
                self.counts.failed()
            else:
                self.counts.compared(main, found)
        except Exception as error:  # from counting, for example on a full disk
            self._log_once(error)
        return True

    def _read(self, text: str) -> TextResult:
        """The shadow's result for a text.

        Raises:
            _Dropped: it is too long, or the server stops.
        """
        self._wait_for_room()
        windows = self.classifier.windows(text, self._watch)
        probabilities = np.zeros((1, len(self.classifier.labels)), dtype=np.float32)
        for window in windows:
            self._wait_for_room()
            np.maximum(probabilities, self.classifier.window_probabilities([window]), out=probabilities)
        n_windows = np.array([len(windows)], dtype=np.int64)
        return self.classifier.decide(Reading(probabilities, n_windows, [windows[-1].route]))[0]

    def _watch(self, n_tokens: int) -> None:
        """Between two pieces of a long text."""
        if n_tokens > MAX_TOKENS:
            raise _Dropped
        self._wait_for_room()

    def _wait_for_room(self) -> None:
        while not self._closing.is_set() and not self._may_work():
            self._closing.wait(_PAUSE_S)
        if self._closing.is_set():
            raise _Dropped

    def _count_dropped(self, n_texts: int) -> None:
        try:
            if n_texts:
                self.counts.dropped(n_texts)
        except Exception as error:
            self._log_once(error)

    def _log_once(self, error: Exception) -> None:
        """Log an error once per kind and place, without its message, which might quote a text."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        kind = (type(error).__name__, f"{frame.filename}:{frame.lineno} {frame.name}")
        if kind in self._logged:
            return
        self._logged.add(kind)
        why = str(error) if isinstance(error, ModerationError) else kind[0]
        logger.error("the shadow failed; answers are not affected", extra={"error": why, "place": kind[1]})


class AfterAnswer:
    """ASGI middleware around the routes: a request's texts go to the shadow when its answer has been sent.

    Args:
        app: The routes.
        shadow: Gives the shadow.
    """

    def __init__(self, app: ASGIApp, shadow: Callable[[], Shadow | None]) -> None:
        self._app, self._shadow = app, shadow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        unsent: list[_Answered] = []
        before = _unsent.set(unsent)
        try:
            await self._app(scope, receive, send)
        finally:
            _unsent.reset(before)
            if unsent and (shadow := self._shadow()) is not None:
                shadow.take(unsent)
