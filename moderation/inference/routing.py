"""Chooses the model that reads a text, by the text's language; and the outcome of reading texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moderation.data.languages import Languages
from moderation.language_codes import UNDETERMINED, same_language

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Route:
    """How a text is read.

    Args:
        language: Code of its language; `und` if that is unclear, or the classifier does not look at languages.
        model: Index of the model in the classifier.
    """

    language: str = UNDETERMINED
    model: int = 0


@dataclass(frozen=True)
class Reading:
    """The outcome of reading texts, before thresholds decide.

    Args:
        probabilities: float32 `(n_texts, n_labels)`, in [0, 1], columns in label order.
        n_windows: int64 `(n_texts,)`, windows in which each was read.
        routes: One per text.
    """

    probabilities: FloatArray
    n_windows: npt.NDArray[np.int64]
    routes: Sequence[Route]


class Router:
    """Recognises languages and chooses models. Safe to share between threads.

    The first model trained on a text's language reads it; if there is none, the last one does, which should be the one
    of many languages. It also reads texts whose language is unclear, or changes within the text: a model that knows
    only English must not read a foreign insult after an English greeting.

    Args:
        languages: The languages that each model was trained on, in the order of the models.
        normalise: Text -> the text as the first model reads it, for `Languages`.

    Raises:
        MissingExtraError: py3langid is not installed.

    Attributes:
        recogniser: Recognises the language of a text.
    """

    def __init__(self, languages: Sequence[Sequence[str]], normalise: Callable[[str], str]) -> None:
        self.recogniser = Languages("Recognising the language of a text", "languages", normalise)
        self._languages = languages

    def route(self, text: str) -> Route:
        """How to read a text, which must be valid Unicode."""
        language = self.recogniser.detect(text)
        for place, known in enumerate(self._languages[:-1]):
            if any(same_language(language, code) for code in known):
                return Route(language, place)
        return Route(language, len(self._languages) - 1)
