"""Which model reads a text: the language is recognised, and a model that was made for it is chosen."""

from collections.abc import Callable, Sequence

from moderation.data.languages import Languages
from moderation.inference.readings import Route
from moderation.language_codes import same_language


class Router:
    """Recognises languages and chooses models. Safe to share between threads.

    The first model that names a text's language reads it, otherwise the last one, which should be the one of many
    languages. It also reads texts whose language is unclear, or changes on the way: a model that knows only English
    must not read a foreign insult after an English greeting.

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
