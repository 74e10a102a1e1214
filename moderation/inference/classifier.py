"""The classifier: texts in, probabilities and decisions out; it needs only a bundle."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, overload

import numpy as np

from moderation.bundles import AUTO, Bundle, find_models
from moderation.data.languages import Languages
from moderation.errors import ArtifactError, ConfigError
from moderation.evaluation.chosen_thresholds import ChosenThresholds, apply_chosen, as_chosen, warn_of_other_bundle
from moderation.evaluation.probabilities import calibrate_texts, predict, shift_to_thresholds
from moderation.inference.backends import FloatArray
from moderation.inference.model import Model, open_model, read_model
from moderation.inference.options import EngineOptions
from moderation.inference.routing import Reading, Route, Router
from moderation.inference.run_folders import TrainedModel
from moderation.inference.texts import as_list, check_texts
from moderation.inference.windows import Watch, Window
from moderation.language_codes import UNDETERMINED

_TOKENS_AT_ONCE = 1 << 18  # of windows held in memory; results do not depend on it


@dataclass(frozen=True)
class TextResult:
    """The classifier's result for one text.

    Args:
        probabilities: Label -> probability in [0, 1], in label order: the highest over the text's windows.
        flagged: Labels whose probability reaches their threshold.
        n_windows: Windows in which the text was read.
        model_version: Bundle and backend that computed it.
        language: Code of the text's language, which decides its model and thresholds; `und`: unclear; None: the
            classifier does not look at languages.
        thresholds: Label -> the threshold that decided.
    """

    probabilities: dict[str, float]
    flagged: tuple[str, ...]
    n_windows: int
    model_version: str
    language: str | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)


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

    A classifier may have several models, one for English and one for many languages: the language of each text is
    recognised, and the model that was made for it reads it. A text whose language is unclear is read by all of them,
    and is flagged if one of them flags it: it may be English in a disguise that only the English model knows, or an
    insult in another language. A bundle may hold calibrators and thresholds by language.

    Attributes:
        models: One or several; the last one reads texts in languages that none of the others names.
        labels: Order of the columns, the same in all models.
        thresholds: float32 `(n_labels,)`, the first model's general thresholds.
        thresholds_by_label: The same as a mapping, in label order.
        thresholds_from: Where they come from: `bundle`, or `set` if any were set on loading.
        languages: Languages that the models were trained on; empty: of one of them they are not known.
        tunings: Of each model, with the thresholds that were set.
        model_version: Bundle and backend of each model; every result names those that read its text.
    """

    thresholds_from: Literal["bundle", "set"]

    def __init__(self, models: Sequence[Model], chosen: ChosenThresholds | None = None) -> None:
        first = models[0].bundle
        if others := [model.bundle.path for model in models if model.bundle.labels != first.labels]:
            raise ArtifactError(f"{others[0]}: its labels are not those of {first.path}; expected the same, in order.")
        self.models = tuple(models)
        self.labels = first.labels
        known = [model.bundle.languages for model in models]
        self.languages = tuple(dict.fromkeys(code for codes in known for code in codes)) if all(known) else ()
        values, own = (chosen.values, chosen.by_language) if chosen is not None else ({}, {})
        self.tunings = tuple(model.bundle.tunings.with_thresholds(self.labels, values, own) for model in models)
        general = self.tunings[0].general.thresholds
        self.thresholds = np.array(general, dtype=np.float32)
        self.thresholds_by_label = dict(zip(self.labels, general, strict=True))
        self.thresholds_from = "bundle" if chosen is None else "set"
        self._chosen = chosen
        self.model_version = "+".join(model.version for model in models)
        routed = len(models) > 1 or any(tunings.by_language for tunings in self.tunings)
        self.router = Router(known, models[0].normalise) if routed else None

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
                tokenizer, calibrators and thresholds. Or the name of an included model: `en`, the English one; `auto`
                or None, all that are included (so far the English one), chosen by the language of each text.
            backend: `openvino`, `onnx-int8`, `onnx`, `torch`, `torchscript`, or `auto`: the first of these whose form
                the bundle holds and whose package is installed.
            threads: Processor threads; None: all that the process may use.
            device: `cpu`, or `cuda` if the engine can use it.
            batch_tokens: Compute windows of one length together, up to this many tokens. None: what is best for the
                engine (onnxruntime and torch on a CPU: each window alone). With `onnx-int8`, other values make a text's
                probabilities depend on the other texts: docs/bundle.md shows by how much.
            check_hashes: Compare every file that is read with its SHA-256 in the bundle, also after a fork.
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
        options = EngineOptions(threads=threads, device=device, batch_tokens=batch_tokens)
        found = [read_model(folder, backend) for folder in find_models(AUTO if path is None else path)]
        for one in found:  # refuses thresholds before files are hashed
            bundle = one.bundle if isinstance(one, TrainedModel) else one
            apply_chosen(chosen, bundle.labels, bundle.thresholds, calibrated=bundle.is_calibrated)
        models = [open_model(one, backend, options, check_hashes=check_hashes) for one in found]
        warn_of_other_bundle(chosen, *(model.bundle.short_version for model in models))
        return cls(models, chosen)

    def probabilities(self, texts: Iterable[str]) -> FloatArray:
        """Probabilities of texts: float32 `(n_texts, n_labels)`, in [0, 1], columns in label order.

        Raises:
            DataError: not a list of strings.
        """
        return self.read(texts).probabilities

    def read(self, texts: Iterable[str]) -> Reading:
        """Probabilities as in `probabilities`, and how each text was read.

        Raises:
            DataError: not a list of strings.
        """
        texts = check_texts(as_list(texts))
        routes = [self.route(text) for text in texts]
        probabilities = np.zeros((len(texts), len(self.labels)), dtype=np.float32)
        n_windows = np.zeros(len(texts), dtype=np.int64)
        for owners, windows in self._cut(texts, routes):
            np.maximum.at(probabilities, owners, self.window_probabilities(windows))
            np.add.at(n_windows, owners, 1)
        return Reading(probabilities, n_windows, routes)

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
            return self.decide(self.read([texts]))[0]
        return self.decide(self.read(texts))

    def decide(self, reading: Reading, decided_as: Sequence[Route] | None = None) -> list[TextResult]:
        """Results of texts that were read.

        Args:
            reading: From `read`, or put together from windows.
            decided_as: Routes whose thresholds decide, one per text: a sentence is decided like the text that it is in.
                None: the texts' own.

        Raises:
            ArtifactError: a probability is NaN.
        """
        probabilities = reading.probabilities
        if not np.isfinite(probabilities).all():  # it would look as if nothing were flagged
            raise ArtifactError(
                f"{self.bundle.path}: the model's answer to a text is not a number. See: moderation verify"
            )
        routes = reading.routes if decided_as is None else decided_as
        predictions = predict(probabilities, self.thresholds_of(routes))
        named = {route: self._name_thresholds(route) for route in set(routes)}
        rows = zip(probabilities, predictions, reading.n_windows, reading.routes, routes, strict=True)
        return [
            TextResult(
                probabilities=dict(zip(self.labels, row.tolist(), strict=True)),
                flagged=tuple(label for label, positive in zip(self.labels, flags, strict=True) if positive),
                n_windows=int(count),
                model_version=self.version_of(route),
                language=route.language if self.router is not None else None,
                thresholds=named[deciding],
            )
            for row, flags, count, route, deciding in rows
        ]

    def route(self, text: str) -> Route:
        """How a text is read: its language, and the model for it."""
        return Route() if self.router is None else self.router.route(text)

    def version_of(self, route: Route) -> str:
        """Bundle and backend of the model that reads a text, or of all that do."""
        return "+".join(self.models[number].version for number in self._readers(route))

    def thresholds_of(self, routes: Sequence[Route]) -> FloatArray:
        """The thresholds that decide about texts.

        Returns:
            float32 `(n_labels,)`, or `(n_texts, n_labels)` if they depend on the text.
        """
        if self.router is None:
            return self.thresholds
        found = {route: list(self._name_thresholds(route).values()) for route in set(routes)}
        rows = [found[route] for route in routes]
        return np.array(rows, dtype=np.float32).reshape(len(rows), len(self.labels))

    def _name_thresholds(self, route: Route) -> dict[str, float]:
        """Label -> threshold for a text; of several models that read it, the last one's."""
        values = self.tunings[self._readers(route)[-1]].of(route.language).thresholds
        return dict(zip(self.labels, values, strict=True))

    def windows(self, text: str, watch: Watch | None = None) -> list[Window]:
        """The windows in which a text is read.

        Args:
            text: Of any length.
            watch: Called after each piece of a long text. With it, other threads can run while the tokenizer works.
        """
        text = check_texts([text])[0]
        return list(self._iterate(text, self.route(text), watch))

    def normalise(self, text: str) -> str:
        """A text as the first model reads it, in lower case and with known disguises undone."""
        return self.models[0].normalise(check_texts([text])[0])

    def window_probabilities(self, windows: Sequence[Window]) -> FloatArray:
        """Calibrated probabilities of each window: float32 `(n_windows, n_labels)`.

        Of a text that several models read, those of the others are moved in log-odds, by as much as their thresholds
        differ from the last one's. So it is flagged if any of the models would flag it.
        """
        last = self.tunings[-1].general.thresholds
        probabilities = np.empty((len(windows), len(self.labels)), dtype=np.float32)
        for places, number, languages in self._by_model([window.route for window in windows]):
            logits = self.models[number].logits([windows[place] for place in places])
            tunings = self.tunings[number]
            found = calibrate_texts(logits, tunings, languages)
            unclear = [place for place, language in enumerate(languages) if language == UNDETERMINED]
            if unclear and len(self.models) > 1:
                found[unclear] = shift_to_thresholds(found[unclear], tunings.general.thresholds, last)
            probabilities[places] = found
        return probabilities

    @property
    def recogniser(self) -> Languages | None:
        """Recognises the languages of texts; None: the classifier does not look at languages."""
        return None if self.router is None else self.router.recogniser

    @property
    def bundle(self) -> Bundle:
        """The first model's bundle."""
        return self.models[0].bundle

    @property
    def backend_name(self) -> str:
        """The first model's engine."""
        return self.models[0].backend_name

    @property
    def workers(self) -> int:
        """How many threads can usefully call `window_probabilities` at once."""
        return max(model.workers for model in self.models)

    @property
    def batch_tokens(self) -> int:
        """Maximum number of tokens of a batch, padding included; 0: each window is computed alone."""
        return min(model.batch_tokens for model in self.models)

    @property
    def threads(self) -> int:
        """Processor threads that it computes with."""
        return self.models[0].threads

    def padded_length(self, window: Window) -> int:
        """Tokens of a window with its padding: windows of one length may share a batch."""
        return self.models[window.route.model].padded_length(window)

    def close(self) -> None:
        """Release the engines' memory and threads; the next use loads them again, if the files are still the same."""
        for model in self.models:
            model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as instructions to load it in another process; the bundle must be at the same path there."""
        chosen = self._chosen and replace(self._chosen, made_for=())  # this process has already logged the warning
        return _load_again, (self.models, chosen)

    def __repr__(self) -> str:
        return f"Classifier({self.model_version})"

    def _iterate(self, text: str, route: Route, watch: Watch | None = None) -> Iterator[Window]:
        for number in self._readers(route):
            for window in self.models[number].windows(text, watch):
                yield window if self.router is None else replace(window, route=replace(route, model=number))

    def _readers(self, route: Route) -> Sequence[int]:
        """The models that read a text."""
        return range(len(self.models)) if route.language == UNDETERMINED else (route.model,)

    def _cut(self, texts: Sequence[str], routes: Sequence[Route]) -> Iterator[tuple[list[int], list[Window]]]:
        """Windows of the texts, a limited number of tokens at a time, each with the index of its text."""
        owners: list[int] = []
        windows: list[Window] = []
        n_tokens = 0
        for place, (text, route) in enumerate(zip(texts, routes, strict=True)):
            for window in self._iterate(text, route):
                owners.append(place)
                windows.append(window)
                n_tokens += len(window.ids)
                if n_tokens >= _TOKENS_AT_ONCE:
                    yield owners, windows
                    owners, windows, n_tokens = [], [], 0
        if windows:
            yield owners, windows

    def _by_model(self, routes: Sequence[Route]) -> Iterator[tuple[list[int], int, list[str]]]:
        """For each model that reads any: the indices of its texts or windows, its own index, and their languages."""
        for number in range(len(self.models)):
            places = [place for place, route in enumerate(routes) if route.model == number]
            if places:
                yield places, number, [routes[place].language for place in places]


def _load_again(models: Sequence[Model], chosen: ChosenThresholds | None) -> Classifier:
    return Classifier(models, chosen)
