"""Which model reads a text, chosen by the text's language; and what is known of texts that were read."""

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
        language: Its code as it was recognised; `und` if it is unclear, or nobody asked.
        model: Place of the model among those of the classifier; of a text that several read, the last one.
    """

    language: str = UNDETERMINED
    model: int = 0


@dataclass(frozen=True)
class Reading:
    """Texts that were read.

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

    The first model that names a text's language reads it, otherwise the last one, which should be the one of many
    languages. It also reads texts whose language is unclear, or changes on the way, with the others: a model that knows
    only English must not be alone with a foreign insult after an English greeting.

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
        """How a text, valid Unicode, is read."""
        language = self.recogniser.detect(text)
        for place, known in enumerate(self._languages[:-1]):
            if any(same_language(language, code) for code in known):
                return Route(language, place)
        return Route(language, len(self._languages) - 1)
