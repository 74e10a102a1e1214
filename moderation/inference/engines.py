"""An opened backend with the threads that feed it and a check of its answers; one for each process."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from moderation.bundles import MANIFEST, MODEL_CONFIG, TOKENIZER
from moderation.errors import ArtifactError
from moderation.inference.backends import Backend, FloatArray
from moderation.memory import is_out_of_memory

_MOST_TRIED, _FEW = 1_024, 8  # tokens of a window


@dataclass(frozen=True)
class Batch:
    """Windows that are computed together.

    Args:
        places: Indices of its windows among all, int64 `(n_windows,)`.
        input_ids: int64 `(n_windows, n_tokens)`.
        attention_mask: int64 of the same shape: 1 for a token, 0 for padding.
    """

    places: npt.NDArray[np.int64]
    input_ids: npt.NDArray[np.int64]
    attention_mask: npt.NDArray[np.int64]


def make_batches(
    windows: Sequence[Sequence[int]], *, batch_tokens: int, round_to: int, longest: int, pad_id: int
) -> list[Batch]:
    """Group windows of the same padded length, longest first.

    A window's padding does not depend on the others, and only windows of one length are computed together. So an engine
    whose arithmetic is the same for each row gives a window the same answer whatever else is in the batch.

    Args:
        windows: Token ids of each.
        batch_tokens: Maximum number of tokens of a batch, padding included; a longer window gets its own batch. 0: each
            window is computed alone.
        round_to: Lengths are padded to a multiple of it: then an engine that prepares kernels per shape needs few.
        longest: Tokens that the encoder accepts; nothing is padded beyond.
        pad_id: The padding token.
    """
    lengths = np.array([padded_length(len(ids), round_to, longest) for ids in windows], dtype=np.int64)
    batches = []
    for n_tokens in np.unique(lengths)[::-1].tolist():
        places = np.flatnonzero(lengths == n_tokens)
        size = max(1, batch_tokens // n_tokens)
        for start in range(0, len(places), size):
            part = places[start : start + size]
            batches.append(_stack([windows[place] for place in part], part, n_tokens, pad_id))
    return batches


def padded_length(n_tokens: int, round_to: int, longest: int) -> int:
    """Tokens of a window with its padding.

    >>> [padded_length(n, round_to=16, longest=40) for n in (3, 16, 33, 40, 50)]
    [16, 16, 40, 40, 50]
    """
    return max(1, n_tokens, min(n_tokens + -n_tokens % round_to, longest))


def _stack(windows: Sequence[Sequence[int]], places: npt.NDArray[np.int64], n_tokens: int, pad_id: int) -> Batch:
    input_ids = np.full((len(windows), n_tokens), pad_id, dtype=np.int64)
    attention_mask = np.zeros((len(windows), n_tokens), dtype=np.int64)
    for row, ids in enumerate(windows):
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
    return Batch(places, input_ids, attention_mask)


class Engine:
    """A backend with the threads that feed it.

    Args:
        backend: Opened.
        path: The file that it runs, for messages.
        n_labels: Numbers that it returns for each window.

    Attributes:
        pid: Process that opened it; a fork inherits no threads.
    """

    def __init__(self, backend: Backend, path: Path, n_labels: int) -> None:
        self.backend = backend
        self.path = path
        self.n_labels = n_labels
        self.pid = os.getpid()
        self.pool = ThreadPoolExecutor(backend.workers, thread_name_prefix="classifier")

    def map(self, batches: Sequence[Batch]) -> list[FloatArray]:
        """Logits of the batches, in their order."""
        if len(batches) == 1 or self.backend.workers == 1:
            return [self.compute(batch) for batch in batches]
        return list(self.pool.map(self.compute, batches))

    def compute(self, batch: Batch) -> FloatArray:
        """Logits of one batch.

        Raises:
            ArtifactError: the engine failed, or did not return one number per label.
        """
        try:
            logits = self.backend.logits(batch.input_ids, batch.attention_mask)
        except Exception as error:  # each engine has its own errors; their messages may contain parts of the input
            if is_out_of_memory(error):
                raise
            raise ArtifactError(
                f"{self.path}: the engine failed ({type(error).__name__}) on {len(batch.input_ids)} windows of "
                f"{batch.input_ids.shape[1]} tokens. Does the bundle's window fit its model? See: moderation verify"
            ) from error
        expected = (len(batch.input_ids), self.n_labels)
        if not isinstance(logits, np.ndarray) or logits.dtype != np.float32 or logits.shape != expected:
            found = f"{logits.dtype} {logits.shape}" if isinstance(logits, np.ndarray) else type(logits).__name__
            raise ArtifactError(
                f"{self.path}: the model answers {found}; expected float32 {expected}, a number per label."
            )
        return logits

    def check(self, batches: Sequence[Batch]) -> None:
        """Refuse a model that does not answer an empty text with numbers.

        Raises:
            ArtifactError: as in `compute`, or NaN.
        """
        if not all(np.isfinite(self.compute(batch)).all() for batch in batches):
            raise ArtifactError(f"{self.path}: the model's answer to an empty text is not a number (NaN or infinite).")

    def check_range(self, token: int, n_tokens: int) -> None:
        """Refuse a model whose tables are smaller than the vocabulary or a window; its config files may be wrong.

        Args:
            token: The highest token that it may get.
            n_tokens: Tokens of the longest window; of a very long one, the beginning is tried.

        Raises:
            ArtifactError: with the model's path.
        """
        n_tokens = min(n_tokens, _MOST_TRIED)
        if self._looks_up(token, n_tokens):
            return
        n_few = min(n_tokens, _FEW)
        if not self._looks_up(token, n_few):
            raise ArtifactError(
                f"{self.path}: the model fails on token {token}, the highest of {TOKENIZER} and {MODEL_CONFIG}; "
                "expected an embedding for every token. Copy the whole bundle again."
            )
        raise ArtifactError(
            f"{self.path}: the model fails on a window of {n_tokens} tokens, though {MANIFEST} and {MODEL_CONFIG} "
            "allow it; expected an embedding for every position. Copy the whole bundle again."
        )

    def _looks_up(self, token: int, n_tokens: int) -> bool:
        window = np.full((1, n_tokens), token, dtype=np.int64)
        try:
            self.backend.look_up(window, np.ones_like(window))
        except Exception as error:  # each engine has its own errors
            if is_out_of_memory(error):
                raise
            return False
        return True

    def close(self) -> None:
        """End the threads."""
        self.pool.shutdown()


class ProcessEngine:
    """The engine of this process: a fork inherits no threads, so a child opens its own engine.

    Args:
        start: Opens an engine; its argument: whether this process is a fork of the one that made this object.
    """

    def __init__(self, start: Callable[[bool], Engine]) -> None:
        self._start = start
        self._first_pid = self._lock_pid = os.getpid()
        self._lock = threading.Lock()
        self._engine: Engine | None = None

    def get(self) -> Engine:
        """The engine, opened if this process has none."""
        engine = self._engine
        if engine is not None and engine.pid == os.getpid():
            return engine
        with self._lock_here():
            if self._engine is None or self._engine.pid != os.getpid():
                self._leave_inherited()
                self._engine = self._start(os.getpid() != self._first_pid)
            return self._engine

    def close(self) -> None:
        """Release its memory and threads; `get` opens it again."""
        with self._lock_here():
            self._leave_inherited()
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    @property
    def is_open(self) -> bool:
        """Whether it holds memory and threads."""
        return self._engine is not None

    def _lock_here(self) -> threading.Lock:
        """The lock of this process: a thread may have held the parent's at the fork, and cannot release it here."""
        if self._lock_pid != os.getpid():
            self._lock, self._lock_pid = threading.Lock(), os.getpid()
        return self._lock

    def _leave_inherited(self) -> None:
        """Set a parent's engine aside; without its threads it may hang when it is closed."""
        if self._engine is not None and self._engine.pid != os.getpid():
            _INHERITED.append(self._engine)
            self._engine = None


_INHERITED: list[Engine] = []  # from parent processes, never closed
