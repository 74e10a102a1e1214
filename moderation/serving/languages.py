"""Text -> the language that it is written in, for the answers that name one."""

from moderation.data.languages import MIN_PROBABILITY, classify_language, load_identifier

UNDETERMINED = "und"

_NONE = "zxx"  # ISO 639-2's code of what is in no language, strings of signs for example
_CHARACTERS_READ = 300


class Languages:
    """Detects languages with py3langid, whose table is read once.

    Raises:
        MissingExtraError: py3langid is not installed.
    """

    def __init__(self) -> None:
        self._identifier = load_identifier("Detecting languages", "serve")

    def detect(self, text: str) -> str:
        """ISO 639-1 code of a text's language; `und` for one that is too short, too unclear to tell, or in none.

        The rule is that of `moderation.data.languages`: 20 letters, and a probability of 0.5; less is read, for speed.
        """
        found = classify_language(self._identifier, text, _CHARACTERS_READ)
        clear = found is not None and found[1] >= MIN_PROBABILITY and found[0] != _NONE
        return found[0] if found is not None and clear else UNDETERMINED
