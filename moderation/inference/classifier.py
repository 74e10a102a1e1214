"""The classifier: texts in, probabilities and decisions out; it needs only a bundle."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, overload

import numpy as np
import numpy.typing as npt

from moderation.bundles import MODEL_CONFIG, SHIPPED, TOKENIZER, Bundle, check_files, read_bundle
from moderation.cores import count_cores
from moderation.errors import ArtifactError, ConfigError
from moderation.evaluation.chosen_thresholds import ChosenThresholds, apply_chosen, as_chosen, warn_of_other_bundle
from moderation.evaluation.probabilities import calibrate, predict
from moderation.inference.backends import (
    Backend,
    FloatArray,
    backends,
    choose_backend,
    files_of_backend,
    main_file,
    open_backend,
)
from moderation.inference.engines import Batch, Engine, ProcessEngine, make_batches, padded_length
from moderation.inference.run_folders import TrainedModel, is_run, read_run
from moderation.inference.texts import as_list, check_texts
from moderation.inference.windows import Watch, Window, Windows

_TOKENS_AT_ONCE = 1 << 18  # of windows held in memory; results do not depend on it


@dataclass(frozen=True)
class TextResult:
    """The classifier's result for one text.

    Args:
        probabilities: Label -> probability in [0, 1], in label order: the highest over the text's windows.
        flagged: Labels whose probability reaches their threshold.
        n_windows: Windows in which the text was read.
        model_version: Bundle and backend that computed it.
    """

    probabilities: dict[str, float]
    flagged: tuple[str, ...]
    n_windows: int
    model_version: str


class Classifier:
    """Multi-label classifier for texts of any length. Can be shared between threads, and used after a fork.

    A text longer than the encoder's input is read in overlapping windows, and a label's probability is the highest over
    them: an insult counts whatever the other windows contain (with a mean, anybody could hide it by writing more). Each
    window's probabilities are calibrated with the bundle's calibrators; these never decrease, so the highest window is
    the same before and after.

    On a CPU a text gets exactly the same probabilities alone, in any list and with any number of threads (backend
    torch: with the same number of threads): a window is computed alone, or with windows of the same length if the
    engine treats each of them as if it were alone.

    Example:
        classifier = Classifier.load("model-export")
        classifier.classify("You are wonderful.").flagged

    Attributes:
        bundle: The bundle from which it was loaded.
        labels: Order of the columns.
        thresholds: float32 `(n_labels,)`.
        thresholds_by_label: The same as a mapping, in label order.
        thresholds_from: Where they come from: `bundle`, or `set` if any were set on loading.
        languages: Languages that the model was trained on.
        backend_name: Engine that computes.
        model_version: Bundle and backend, as every result carries it.
    """

    thresholds_from: Literal["bundle", "set"]

    def __init__(
        self,
        bundle: Bundle,
        backend_name: str,
        threads: int | None,
        device: str,
        batch_tokens: int | None,
        chosen: ChosenThresholds | None = None,
        trained: TrainedModel | None = None,
    ) -> None:
        self.bundle = bundle
        self._trained = trained  # of a run folder, which no bundle seals
        self.backend_name = backend_name
        self.labels = bundle.labels
        self.languages = bundle.languages
        values = apply_chosen(chosen, bundle.labels, bundle.thresholds, calibrated=bundle.is_calibrated)
        self.thresholds = np.array(values, dtype=np.float32)
        self.thresholds_by_label = dict(zip(bundle.labels, values, strict=True))
        self.thresholds_from = "bundle" if chosen is None else "set"
        self._chosen = chosen
        self.model_version = f"{bundle.short_version}/{backend_name}"
        self._threads, self._device, self._batch_tokens = threads, device, batch_tokens
        tokenizer = bundle.path / TOKENIZER if trained is None else trained.tokenizer
        self._windows = Windows(tokenizer, length=bundle.window_length, overlap=bundle.window_overlap)
        _check_tokens(bundle, self._windows.highest_id)
        self._engine = ProcessEngine(self._start)
        self._open()

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        backend: str = "auto",
        threads: int | None = None,
        device: str = "cpu",
        batch_tokens: int | None = None,
        check_hashes: bool = True,
        thresholds: ChosenThresholds | Mapping[str, float] | str | Path | None = None,
    ) -> Self:
        """Load a bundle, or a run folder of a finished training.

        Args:
            path: Folder of a bundle, or of a finished run: torch then runs its best checkpoint, with the run's
                tokenizer, calibrators and thresholds. None: the included compact English model.
            backend: `openvino`, `onnx-int8`, `onnx`, `torch`, `torchscript`, or `auto`: the first of these whose form
                the bundle holds and whose package is installed.
            threads: Processor threads; None: all that the process may use.
            device: `cpu`, or `cuda` if the engine can use it.
            batch_tokens: Compute windows of one length together, up to this many tokens. None: what is best for the
                engine (onnxruntime and torch on a CPU: each window alone). With `onnx-int8`, other values make a text's
                probabilities depend on the other texts: docs/bundle.md shows by how much.
            check_hashes: Compare every file that is read with its SHA-256 in the bundle.
            thresholds: Label -> threshold, or a file of them; labels that it does not name keep the bundle's. The log
                warns if the file was made for another bundle.

        Example:
            >>> with Classifier.load(backend="onnx-int8", threads=1) as classifier:  # doctest: +SKIP
            ...     classifier.classify("You are wonderful.").flagged
            ()

        Raises:
            ArtifactError: not a bundle, a bundle of a newer version, a missing, changed or foreign file, no such form.
            ConfigError: invalid arguments, including invalid thresholds.
            MissingExtraError: the engine is not installed.
        """
        if batch_tokens is not None and batch_tokens < 0:
            raise ConfigError(f"batch_tokens is {batch_tokens}, expected 0 or more.")
        chosen = as_chosen(thresholds)
        path = SHIPPED if path is None else Path(path)
        if is_run(path):
            trained = read_run(path, backend)
            warn_of_other_bundle(chosen, trained.bundle.short_version)
            return cls(trained.bundle, "torch", threads, device, batch_tokens, chosen, trained)
        bundle = read_bundle(path)
        apply_chosen(chosen, bundle.labels, bundle.thresholds, calibrated=bundle.is_calibrated)  # refuse before hashing
        name = choose_backend(bundle, backend, device)
        check_files(bundle, files_of_backend(bundle, name) if check_hashes else ())
        warn_of_other_bundle(chosen, bundle.short_version)
        return cls(bundle, name, threads, device, batch_tokens, chosen)

    def probabilities(self, texts: Iterable[str]) -> FloatArray:
        """Probabilities of texts: float32 `(n_texts, n_labels)`, in [0, 1], columns in label order.

        Raises:
            DataError: not a list of strings.
        """
        return self.read(texts)[0]

    def read(self, texts: Iterable[str]) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Probabilities as in `probabilities`, and the number of windows of each text, int64 `(n_texts,)`.

        Raises:
            DataError: not a list of strings.
        """
        texts = check_texts(as_list(texts))
        probabilities = np.zeros((len(texts), len(self.labels)), dtype=np.float32)
        n_windows = np.zeros(len(texts), dtype=np.int64)
        for owners, windows in self._cut(texts):
            np.maximum.at(probabilities, owners, self.window_probabilities(windows))
            np.add.at(n_windows, owners, 1)
        return probabilities, n_windows

    @overload
    def classify(self, texts: str) -> TextResult: ...  # type: ignore[overload-overlap]  # a string holds strings

    @overload
    def classify(self, texts: Iterable[str]) -> list[TextResult]: ...

    def classify(self, texts: str | Iterable[str]) -> TextResult | list[TextResult]:
        """Probabilities and decisions: for one text its result, for several a list of results, in order.

        Args:
            texts: A text; or a list, array, Series or generator of texts.

        Raises:
            DataError: neither a string nor ordered strings.
        """
        if isinstance(texts, str):
            return self.decide(*self.read([texts]))[0]
        return self.decide(*self.read(texts))

    def decide(self, probabilities: FloatArray, n_windows: npt.NDArray[np.int64]) -> list[TextResult]:
        """Results of texts whose probabilities are known.

        Args:
            probabilities: float32 `(n_texts, n_labels)`.
            n_windows: int64 `(n_texts,)`.

        Raises:
            ArtifactError: a probability is NaN.
        """
        if not np.isfinite(probabilities).all():  # it would look as if nothing were flagged
            raise ArtifactError(
                f"{self.bundle.path}: the model's answer to a text is not a number. See: moderation verify"
            )
        predictions = predict(probabilities, self.thresholds)
        return [
            TextResult(
                probabilities=dict(zip(self.labels, row.tolist(), strict=True)),
                flagged=tuple(label for label, positive in zip(self.labels, flags, strict=True) if positive),
                n_windows=int(count),
                model_version=self.model_version,
            )
            for row, flags, count in zip(probabilities, predictions, n_windows, strict=True)
        ]

    def windows(self, text: str, watch: Watch | None = None) -> list[Window]:
        """The windows in which a text is read.

        Args:
            text: Of any length.
            watch: Called after each piece of a long text. With it, other threads can run while the tokenizer works.
        """
        return self._windows.cut(check_texts([text])[0], watch)

    def normalise(self, text: str) -> str:
        """A text as the model reads it, after its tokenizer has put it into lower case and undone known disguises."""
        return self._windows.normalise(check_texts([text])[0])

    def window_probabilities(self, windows: Sequence[Window]) -> FloatArray:
        """Calibrated probabilities of each window: float32 `(n_windows, n_labels)`."""
        batches = self.batches(windows)
        logits = np.empty((len(windows), len(self.labels)), dtype=np.float32)
        for batch, answer in zip(batches, self._open().map(batches), strict=True):
            logits[batch.places] = answer
        return calibrate(logits, self.bundle.calibrators)

    def batches(self, windows: Sequence[Window]) -> list[Batch]:
        """The batches in which windows are computed."""
        return self._make_batches(self._open().backend, windows)

    @property
    def workers(self) -> int:
        """How many threads can usefully call `window_probabilities` at once."""
        return self._open().backend.workers

    @property
    def batch_tokens(self) -> int:
        """Maximum number of tokens of a batch, padding included; 0: each window is computed alone."""
        return self._open().backend.batch_tokens if self._batch_tokens is None else self._batch_tokens

    @property
    def threads(self) -> int:
        """Processor threads that it computes with."""
        return count_cores() if self._threads is None else self._threads

    def _make_batches(self, backend: Backend, windows: Sequence[Window]) -> list[Batch]:
        return make_batches(
            [window.ids for window in windows],
            batch_tokens=backend.batch_tokens if self._batch_tokens is None else self._batch_tokens,
            round_to=backend.round_to,
            longest=self.bundle.window_length,
            pad_id=self.bundle.pad_id,
        )

    def padded_length(self, window: Window) -> int:
        """Tokens of a window with its padding: windows of one length may share a batch."""
        return padded_length(len(window.ids), self._open().backend.round_to, self.bundle.window_length)

    def close(self) -> None:
        """Release the engine's memory and threads; the next use loads it again."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as instructions to load it in another process; the bundle must be at the same path there."""
        chosen = self._chosen and replace(self._chosen, made_for=None)  # this process has already logged the warning
        settings = (self.backend_name, self._threads, self._device, self._batch_tokens, chosen)
        return _load_again, (str(self.bundle.path.resolve()), self.bundle.version, *settings)

    def __repr__(self) -> str:
        return f"Classifier({self.model_version})"

    def _open(self) -> Engine:
        return self._engine.get()

    def _start(self, is_fork: bool) -> Engine:
        """Load the model; in a fork, threads that share a window would wait forever for the parent's threads."""
        alone = is_fork and backends()[self.backend_name].shares_window
        threads = 1 if alone else self._threads
        if self._trained is not None:
            backend: Backend = self._trained.open(threads, self._device)
            file = self._trained.checkpoint
        else:
            backend = open_backend(self.bundle, self.backend_name, threads=threads, device=self._device)
            file = main_file(self.bundle, self.backend_name)
        engine = Engine(backend, file, len(self.labels))
        engine.check(self._make_batches(backend, [*self._windows.iterate("")]))
        engine.check_range(max(self._windows.highest_id, self.bundle.pad_id), self.bundle.window_length)
        return engine

    def _cut(self, texts: Sequence[str]) -> Iterator[tuple[list[int], list[Window]]]:
        """Windows of the texts, a limited number of tokens at a time, each with the index of its text."""
        owners: list[int] = []
        windows: list[Window] = []
        n_tokens = 0
        for place, text in enumerate(texts):
            for window in self._windows.iterate(text):
                owners.append(place)
                windows.append(window)
                n_tokens += len(window.ids)
                if n_tokens >= _TOKENS_AT_ONCE:
                    yield owners, windows
                    owners, windows, n_tokens = [], [], 0
        if windows:
            yield owners, windows


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


def _load_again(
    path: str,
    version: str,
    backend: str,
    threads: int | None,
    device: str,
    batch_tokens: int | None,
    chosen: ChosenThresholds | None,
) -> Classifier:
    classifier = Classifier.load(
        path, backend=backend, threads=threads, device=device, batch_tokens=batch_tokens, thresholds=chosen
    )
    if classifier.bundle.version != version:
        raise ArtifactError(f"{path}: the bundle changed since this classifier was loaded. Restart the process.")
    return classifier
