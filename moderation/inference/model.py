"""One model: a bundle's tokenizer and engine. Texts become windows, and windows logits."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from moderation.bundles import MODEL_CONFIG, TOKENIZER, Bundle, check_files, read_bundle, read_sealed
from moderation.cores import count_cores
from moderation.errors import ArtifactError
from moderation.inference.backends import Backend, FloatArray, backends, choose_backend, main_file, open_backend
from moderation.inference.engines import Batch, Engine, ProcessEngine, make_batches, padded_length
from moderation.inference.options import EngineOptions
from moderation.inference.run_folders import TrainedModel, is_run, read_run
from moderation.inference.windows import Watch, Window, Windows
from moderation.inspection.tokenizer_rules import MOST_BYTES


class Model:
    """A bundle with its tokenizer and engine. Can be shared between threads, and used after a fork.

    Args:
        bundle: The bundle from which it was loaded.
        backend_name: Engine that computes.
        options: Settings of the engine.
        trained: The model of a run folder; None: it comes from a bundle.

    Attributes:
        bundle: As above.
        backend_name: As above.
        version: Bundle and backend, as results name it.
    """

    def __init__(
        self, bundle: Bundle, backend_name: str, options: EngineOptions, trained: TrainedModel | None = None
    ) -> None:
        self.bundle = bundle
        self.backend_name = backend_name
        self.version = f"{bundle.short_version}/{backend_name}"
        self._trained = trained
        self._options = options
        path = bundle.path / TOKENIZER if trained is None else trained.tokenizer
        content = read_sealed(bundle, TOKENIZER, most=MOST_BYTES) if trained is None else trained.tokenizer_content
        self._windows = Windows(path, length=bundle.window_length, overlap=bundle.window_overlap, content=content)
        _check_tokens(bundle, self._windows.highest_id)
        self._engine = ProcessEngine(self._start)
        self._open()

    def windows(self, text: str, watch: Watch | None = None) -> Iterator[Window]:
        """The windows in which a text is read; `watch` as for `Windows.iterate`."""
        return self._windows.iterate(text, watch)

    def normalise(self, text: str) -> str:
        """A text as the model reads it, after its tokenizer has put it into lower case and undone known disguises."""
        return self._windows.normalise(text)

    def logits(self, windows: Sequence[Window]) -> FloatArray:
        """Logits of each window: float32 `(n_windows, n_labels)`."""
        batches = self.batches(windows)
        logits = np.empty((len(windows), len(self.bundle.labels)), dtype=np.float32)
        for batch, answer in zip(batches, self._open().map(batches), strict=True):
            logits[batch.places] = answer
        return logits

    def batches(self, windows: Sequence[Window]) -> list[Batch]:
        """The batches in which windows are computed."""
        return self._make_batches(self._open().backend, windows)

    @property
    def workers(self) -> int:
        """How many threads can usefully call `logits` at once."""
        return self._open().backend.workers

    @property
    def batch_tokens(self) -> int:
        """Maximum number of tokens of a batch, padding included; 0: each window is computed alone."""
        given = self._options.batch_tokens
        return self._open().backend.batch_tokens if given is None else given

    @property
    def threads(self) -> int:
        """Processor threads that it computes with."""
        return count_cores() if self._options.threads is None else self._options.threads

    def padded_length(self, window: Window) -> int:
        """Tokens of a window with its padding: windows of one length may share a batch."""
        return padded_length(len(window.ids), self._open().backend.round_to, self.bundle.window_length)

    def close(self) -> None:
        """Release the engine's memory and threads; the next use loads it again, if its files are still the same."""
        self._engine.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as instructions to load it in another process; its folder must be at the same path there."""
        return _load_again, (str(self.bundle.path.resolve()), self.bundle.version, self.backend_name, self._options)

    def _make_batches(self, backend: Backend, windows: Sequence[Window]) -> list[Batch]:
        given = self._options.batch_tokens
        return make_batches(
            [window.ids for window in windows],
            batch_tokens=backend.batch_tokens if given is None else given,
            round_to=backend.round_to,
            longest=self.bundle.window_length,
            pad_id=self.bundle.pad_id,
        )

    def _open(self) -> Engine:
        return self._engine.get()

    def _start(self, is_fork: bool) -> Engine:
        """Load the model; in a fork, threads that share a window would wait forever for the parent's threads."""
        alone = is_fork and backends()[self.backend_name].shares_window
        threads = 1 if alone else self._options.threads
        if self._trained is not None:
            backend: Backend = self._trained.open(threads, self._options.device)
            file = self._trained.checkpoint
        else:
            backend = open_backend(self.bundle, self.backend_name, threads=threads, device=self._options.device)
            file = main_file(self.bundle, self.backend_name)
        engine = Engine(backend, file, len(self.bundle.labels))
        engine.check(self._make_batches(backend, [*self._windows.iterate("")]))
        engine.check_range(max(self._windows.highest_id, self.bundle.pad_id), self.bundle.window_length)
        return engine


def _check_tokens(bundle: Bundle, highest_id: int) -> None:
    """Refuse a model that knows fewer tokens than its tokenizer."""
    if bundle.n_tokens is not None and highest_id >= bundle.n_tokens:
        raise ArtifactError(
            f"{bundle.path / TOKENIZER}: holds token {highest_id}, but the model knows {bundle.n_tokens} tokens "
            f"({MODEL_CONFIG}, vocab_size). Copy the whole bundle again."
        )
    if bundle.n_tokens is None and bundle.pad_id > highest_id:
        raise ArtifactError(
            f"{bundle.path / MODEL_CONFIG}: its pad_token_id is not in {TOKENIZER}. Copy the whole bundle again."
        )


def open_model(
    found: Bundle | TrainedModel, backend: str, options: EngineOptions, *, check_hashes: bool = True
) -> Model:
    """Load the model of a bundle or of a finished run.

    Args:
        found: From `read_model`.
        backend: As for `Classifier.load`.
        options: Settings of the engine.
        check_hashes: Compare every file that is read with its SHA-256 in the bundle, also after a fork.

    Raises:
        ModerationError: as for `Classifier.load`.
    """
    if isinstance(found, TrainedModel):
        return Model(found.bundle, "torch", options, found)
    name = choose_backend(found, backend, options.device)
    check_files(found, [MODEL_CONFIG] if check_hashes else ())  # the others are compared as they are read
    return Model(replace(found, check_hashes=check_hashes), name, options)


def read_model(folder: Path, backend: str) -> Bundle | TrainedModel:
    """Read the bundle or run in a folder, without its weights.

    Raises:
        ModerationError: as for `Classifier.load`.
    """
    return read_run(folder, backend) if is_run(folder) else read_bundle(folder)


def _load_again(path: str, version: str, backend: str, options: EngineOptions) -> Model:
    model = open_model(read_model(Path(path), backend), backend, options)
    if model.bundle.version != version:
        raise ArtifactError(f"{path}: the bundle changed since this classifier was loaded. Restart the process.")
    return model
