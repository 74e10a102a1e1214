"""An opened backend with the threads that feed it, and the check of what it answers."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from moderation.bundles import MANIFEST, MODEL_CONFIG, TOKENIZER
from moderation.errors import ArtifactError
from moderation.inference.backends import Backend, FloatArray
from moderation.inference.batches import Batch
from moderation.memory import is_out_of_memory

_MOST_TRIED, _FEW = 1_024, 8  # tokens of a window


class Engine:
    """A backend with the threads that feed it.

    Args:
        backend: Opened.
        path: The file that it runs, for messages.
        n_labels: Numbers that it gives for each window.

    Attributes:
        pid: Of the process that opened it; a fork inherits no threads.
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
            ArtifactError: the engine failed, or did not answer with a number per label.
        """
        try:
            logits = self.backend.logits(batch.input_ids, batch.attention_mask)
        except Exception as error:  # each engine has errors of its own; their words may hold parts of the input
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
        """Refuse a model that has no answer for an empty text.

        Raises:
            ArtifactError: as of `compute`, or NaN.
        """
        if not all(np.isfinite(self.compute(batch)).all() for batch in batches):
            raise ArtifactError(f"{self.path}: the model's answer to an empty text is not a number (NaN or infinite).")

    def check_range(self, token: int, n_tokens: int) -> None:
        """Refuse a model whose tables are smaller than the vocabulary, or than a window; files about it may lie.

        Args:
            token: The highest that it may be given.
            n_tokens: Of the longest window; of a very long one the beginning is tried.

        Raises:
            ArtifactError: names the model.
        """
        n_tokens = min(n_tokens, _MOST_TRIED)
        if self._looks_up(token, n_tokens):
            return
        n_few = min(n_tokens, _FEW)
        if not self._looks_up(token, n_few):
            raise ArtifactError(
                f"{self.path}: the model fails on token {token}, the highest of {TOKENIZER} and {MODEL_CONFIG}; "
                "expected a table of tokens with a row for each. Take the whole bundle again."
            )
        raise ArtifactError(
            f"{self.path}: the model fails on a window of {n_tokens} tokens, though {MANIFEST} and {MODEL_CONFIG} "
            "allow it; expected a table of positions with a row for each. Take the whole bundle again."
        )

    def _looks_up(self, token: int, n_tokens: int) -> bool:
        window = np.full((1, n_tokens), token, dtype=np.int64)
        try:
            self.backend.look_up(window, np.ones_like(window))
        except Exception as error:  # each engine has errors of its own
            if is_out_of_memory(error):
                raise
            return False
        return True

    def close(self) -> None:
        """End the threads."""
        self.pool.shutdown()
