"""Text -> its language, and whether that is clearly not English."""

import io
import re
import unicodedata
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from moderation.errors import MissingExtraError
from moderation.language_codes import UNDETERMINED, is_english, same_language

MIN_LETTERS = 20
MIN_PROBABILITY = 0.5

_CHARACTERS_READ = 1000  # reading more of a text changes no result, and takes time
_FEWER_CHARACTERS = 300
_CHARACTERS_FOLDED = 200
# Common English words that are not common words of other languages in Latin letters (as "is", "was" and "to" are). If
# this share of a text's words is among them, it is English, however it is spelled; in Spanish, Italian, Turkish,
# German, French and Portuguese comments, one word in a hundred is.
_WORDS = """about always and are because being bitch can cannot cant could did does doesnt dont dumb ever every everyone
fool fools from fuck fucked fucking get go going good got hate him his how idiot idiots into its ive kill know
liar liars like make moron morons more much never nobody not nothing off one only other our out people piece
please really said say shit should shut stop stupid suck sucks than thanks that the their them then there these
they thing things think this those ugly very what when where which who why with would you your youre yours
yourself"""
_ENGLISH = frozenset(_WORDS.split())
_ENGLISH_SHARE, _SOME_ENGLISH = 0.15, 0.04  # enough to be English; enough to ask again
_SURE_LETTERS = 60
# Scripts of living languages, except those used more often for decoration than for writing.
_NAMES = """ARABIC ARMENIAN BENGALI CJK CYRILLIC DEVANAGARI ETHIOPIC GEORGIAN GREEK GUJARATI GURMUKHI HANGUL HEBREW
HIRAGANA KANNADA KATAKANA KHMER LAO MALAYALAM MYANMAR ORIYA SINHALA TAMIL TELUGU THAANA THAI TIBETAN"""
_SCRIPTS = frozenset(_NAMES.split())
_MOST, _MANY = 0.75, 0.15  # share of a text's letters in such a script: as written, and as the model reads it
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_NONE = "zxx"  # ISO 639-2's code for no language, such as strings of signs


def detect_foreign(texts: Sequence[str]) -> tuple[npt.NDArray[np.bool_], int]:
    """Find the texts that are clearly not in English.

    The rule: a text is foreign if it has at least 20 letters and py3langid gives a language other than English a
    probability of at least 0.5. Shorter or less clear texts are undecided and not foreign: language detection often
    errs on single words and misspelt insults, and those are what a moderation model must see.

    Args:
        texts: `n_examples` texts.

    Returns:
        Whether each text is foreign, bool `(n_examples,)`, and how many texts were undecided: another language was
        likelier than English but not clear enough, or the text has too few letters to ask.

    Raises:
        MissingExtraError: py3langid is not installed.

    Source: M. Lui and T. Baldwin, langid.py: An Off-the-shelf Language Identification Tool, ACL 2012.
    """
    identifier = load_identifier("--detect-language", "languages")
    foreign = np.zeros(len(texts), dtype=bool)
    n_undecided = 0
    for position, text in enumerate(tqdm(texts, desc="Languages", unit="text", disable=None)):
        found = classify_language(identifier, text)
        if found is None:
            n_undecided += 1
        elif found[0] != "en":
            foreign[position] = found[1] >= MIN_PROBABILITY
            n_undecided += found[1] < MIN_PROBABILITY
    return foreign, int(n_undecided)


def load_identifier(feature: str, extra: str) -> Any:
    """Read py3langid's table of languages; takes about half a second.

    It is unpacked in memory, not into a temporary file of 66 MB as py3langid does: a server must be able to start, and
    to replace a worker, even if the folder for temporary files is small or full.

    Args:
        feature: What needs it, for the message.
        extra: The extra of this toolkit that installs it.

    Raises:
        MissingExtraError: py3langid is not installed.
    """
    try:
        from py3langid import modelio
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise MissingExtraError(feature, extra) from None
    modelio.tempfile = SimpleNamespace(TemporaryFile=lambda suffix="": io.BytesIO())
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def classify_language(identifier: Any, text: str, n_characters: int = _CHARACTERS_READ) -> tuple[str, float] | None:
    """Most likely language of a text's beginning, ISO 639-1, and its probability; None: too few letters."""
    beginning = text[:n_characters]
    if sum(map(str.isalpha, beginning)) < MIN_LETTERS:
        return None
    language, probability = identifier.classify(beginning)
    return str(language), float(probability)


class Languages:
    """Detects the languages of texts, for answers that report them. The table is read once.

    Args:
        feature: What needs it, for the message.
        extra: The extra of this toolkit that installs it.
        normalise: Text -> the text as the model reads it, without accents and other disguises that make English look
            like another language; None: use the text as written.

    Raises:
        MissingExtraError: py3langid is not installed.
    """

    def __init__(self, feature: str, extra: str, normalise: Callable[[str], str] | None = None) -> None:
        self._identifier = load_identifier(feature, extra)
        self._normalise = normalise

    def detect(self, text: str) -> str:
        """ISO 639-1 code of a text's language; `und` if it is too short, too unclear, or in no language.

        The rule is that of `detect_foreign`: 20 letters, and a probability of 0.5; less of the text is read, for speed.
        A text that does not look English is checked again as the model reads it: if its words are English, it is
            English.
        """
        beginning = text[:_FEWER_CHARACTERS]
        found = classify_language(self._identifier, beginning)
        clear = found is not None and found[1] >= MIN_PROBABILITY and found[0] != _NONE
        if found is None or (clear and found[0] == "en"):
            return found[0] if found is not None else UNDETERMINED
        read = self._read(beginning[:_CHARACTERS_FOLDED])
        share = _english_share(read)
        if share >= _ENGLISH_SHARE or (share >= _SOME_ENGLISH and self._identifier.classify(read)[0] == "en"):
            return "en"
        return found[0] if clear else UNDETERMINED

    def foreign(self, text: str, trained_on: Sequence[str], detected: str | None = None) -> str | None:
        """The language of a text that the model was certainly not trained on; None: it was, or this is not certain.

        Detection alone must not leave a text unmoderated. It is certain if the text has 60 letters, hardly any common
        English word (if the model knows English), and a clear language, or a script that is not Latin even as the model
        reads it.

        Args:
            text: Any text.
            trained_on: Languages of the model; empty: they are unknown, and no text is foreign.
            detected: The result of `detect` for the text, if it is already known.

        Returns:
            ISO 639-1 code; `und` if the script shows that it is not one of the model's languages, but not which one it
            is.
        """
        code = self.detect(text) if detected is None else detected
        if not trained_on or any(same_language(code, known) for known in trained_on):
            return None
        read = self._read(text[:_FEWER_CHARACTERS])
        sure = _n_letters(read) >= _SURE_LETTERS
        if code == UNDETERMINED:
            sure = sure and all(map(is_english, trained_on)) and _is_other_script(text[:_FEWER_CHARACTERS], read)
        return code if sure else None

    def describe(self, text: str, trained_on: Sequence[str], detected: str | None = None) -> dict[str, str | bool]:
        """A text's language for an answer: `code` from `detect`, and `supported`.

        Args:
            text: Any text.
            trained_on: Languages of the model; empty: they are unknown, and every language counts as supported.
            detected: The result of `detect` for the text, if it is already known.
        """
        code = self.detect(text) if detected is None else detected
        if code == UNDETERMINED:
            return {"code": code, "supported": self.foreign(text, trained_on, code) is None}
        return {"code": code, "supported": not trained_on or any(same_language(code, known) for known in trained_on)}

    def _read(self, text: str) -> str:
        return text if self._normalise is None else self._normalise(text)


def _n_letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def _is_other_script(text: str, read: str) -> bool:
    """Whether most letters of a text, and many even as the model reads it, are not Latin, with no English words.

    >>> _is_other_script("\u0441\u043f\u0430\u0441\u0438\u0431\u043e", "c\u043fac\u0438\u0431o")
    True
    """
    return (
        _share_of_other_scripts(text) >= _MOST
        and _share_of_other_scripts(read) >= _MANY
        and _english_share(read) < _SOME_ENGLISH
    )


def _share_of_other_scripts(text: str) -> float:
    letters = [letter for letter in text if letter.isalpha()]
    n_other = sum(unicodedata.name(letter, "").split(" ")[0] in _SCRIPTS for letter in letters)
    return n_other / max(len(letters), 1)


def _english_share(text: str) -> float:
    """Share of a text's words that are common English ones.

    >>> _english_share("you are the pineapple")
    0.75
    """
    words = _WORD.findall(text.lower())
    return sum(word in _ENGLISH for word in words) / max(len(words), 1)
