"""Texts -> probabilities, each different text computed once; and the two rules that map labels to a suite's truth.

The rules were fixed before any model was measured.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from moderation.bundles import Bundle
from moderation.evaluation.probabilities import BoolArray, FloatArray, predict
from moderation.inference.classifier import Classifier
from moderation.inference.routing import Route
from moderation.scoring.progress import CHARACTERS_AT_ONCE, some_at_once

MAIN_LABEL = "toxic"


def any_flagged(probabilities: FloatArray, thresholds: npt.ArrayLike) -> BoolArray:
    """Decide whether a text counts as hateful or toxic as a whole: whether any label reaches its threshold.

    This is what a moderator sees: a person reviews a comment as soon as one label is flagged.

    Args:
        probabilities: float32 `(n_texts, n_labels)`.
        thresholds: `(n_labels,)`, or `(n_texts, n_labels)`.

    Returns:
        bool `(n_texts,)`.

    >>> any_flagged(np.array([[0.9, 0.1], [0.2, 0.1]]), [0.5, 0.5]).tolist()
    [True, False]
    """
    return np.asarray(predict(probabilities, thresholds).any(axis=1), dtype=np.bool_)


def main_label(labels: Sequence[str], named: str | None = None) -> int:
    """Index of the label whose probability ranks texts if a suite has only one kind of bad text.

    It is the label with the name of the suite's column, if the bundle has it; else `toxic`; else the bundle's first.

    >>> main_label(["insult", "toxic"]), main_label(["insult", "toxic"], "insult"), main_label(["spam"], "rude")
    (1, 0, 0)
    """
    return next((labels.index(name) for name in (named, MAIN_LABEL) if name in labels), 0)


class Scorer:
    """A classifier that remembers its answers.

    Attributes:
        bundle: What is measured.
        labels: Order of the columns.
        thresholds: float32 `(n_labels,)`.
        n_computed: Different texts read so far.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._known: dict[str, FloatArray] = {}
        self._routes: dict[str, Route] = {}
        self._of_tokens: dict[tuple[tuple[Route, tuple[int, ...]], ...], FloatArray] = {}
        self.bundle: Bundle = classifier.bundle
        self.labels = classifier.labels
        self.thresholds = classifier.thresholds
        self.model_version = classifier.model_version

    @property
    def n_computed(self) -> int:
        """Different texts read so far."""
        return len(self._known)

    def read(self, texts: Iterable[str], what: str) -> FloatArray:
        """Probabilities of texts, float32 `(n_texts, n_labels)`, columns in label order.

        Args:
            texts: To score; those already known cost nothing.
            what: Their name next to the progress bar.
        """
        texts = list(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        for part in some_at_once(new, what):
            self._compute(part)
        return self._gather(texts)

    def _compute(self, texts: Sequence[str]) -> None:
        """Compute new texts; those with the same tokens in the same windows share one result.

        Of a long text, which comes by itself, the classifier holds some windows at a time.
        """
        if sum(map(len, texts)) > CHARACTERS_AT_ONCE:
            self._known.update(zip(texts, self._classifier.probabilities(texts), strict=True))
            self._routes.update((text, self._classifier.route(text)) for text in texts)
            return
        windows = [self._classifier.windows(text) for text in texts]
        self._routes.update((text, found[-1].route) for text, found in zip(texts, windows, strict=True))
        tokens = [tuple((window.route, window.ids) for window in found) for found in windows]
        new = {ids: found for ids, found in zip(tokens, windows, strict=True) if ids not in self._of_tokens}
        if new:
            firsts = np.cumsum([0, *map(len, new)][:-1])
            rows = self._classifier.window_probabilities([window for found in new.values() for window in found])
            self._of_tokens.update(zip(new, np.maximum.reduceat(rows, firsts), strict=True))
        self._known.update((text, self._of_tokens[ids]) for text, ids in zip(texts, tokens, strict=True))

    def flagged(self, texts: Iterable[str], what: str) -> BoolArray:
        """Whether any label of a text reaches its threshold, bool `(n_texts,)`."""
        texts = list(texts)
        return any_flagged(self.read(texts, what), self.thresholds_of(texts))

    def thresholds_of(self, texts: Iterable[str]) -> FloatArray:
        """The thresholds that decide about texts that were read: float32 `(n_labels,)`, or `(n_texts, n_labels)`."""
        return self._classifier.thresholds_of([self._routes[text] for text in texts])

    def _gather(self, texts: Sequence[str]) -> FloatArray:
        gathered = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        for row, text in enumerate(texts):
            gathered[row] = self._known[text]
        return gathered
