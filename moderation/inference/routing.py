"""Which model reads a text: the language is recognised, and a model that was made for it is chosen."""

from collections.abc import Callable, Sequence

from moderation.data.languages import Languages
from moderation.inference.readings import Route
from moderation.language_codes import UNDETERMINED, same_language

_PIECE = 300  # characters whose language is recognised


class Router:
    """Recognises languages and chooses models. Safe to share between threads.

    The first model that names a text's language reads it, otherwise the last one, which should be the one of many
    languages. It also reads texts whose language is unclear, and long texts whose beginning, middle and end differ: a
    model that knows only English must not read a foreign insult after an English greeting.

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
        """How a text is read."""
        found = {self.recogniser.detect(piece) for piece in pieces_of(text)}
        language = found.pop() if len(found) == 1 else UNDETERMINED
        for place, known in enumerate(self._languages[:-1]):
            if any(same_language(language, code) for code in known):
                return Route(language, place)
        return Route(language, len(self._languages) - 1)


def pieces_of(text: str) -> list[str]:
    """The beginning of a text; of a long one also the middle and the end.

    >>> [len(piece) for piece in pieces_of("a" * 250)], [len(piece) for piece in pieces_of("a" * 1000)]
    ([250], [300, 300, 300])
    """
    if len(text) <= _PIECE:
        return [text]
    middle = (len(text) - _PIECE) // 2
    return [text[:_PIECE], text[middle : middle + _PIECE], text[-_PIECE:]]
