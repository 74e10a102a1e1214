"""Text -> its language, and whether that is clearly not English."""

import io
import re
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from moderation.data.scripts import LANGUAGES as SCRIPTS
from moderation.data.scripts import MANY, is_other_script, other_scripts, written_in
from moderation.data.vocabulary import WordCounts, count_words
from moderation.errors import MissingExtraError
from moderation.language_codes import UNDETERMINED, is_english, same_language

MIN_LETTERS = 20
MIN_PROBABILITY = 0.5

_CHARACTERS_READ = 1000  # reading more of a text changes no result, and takes time
_FEWER_CHARACTERS = 300
_FEW_LETTERS = 3  # fewer are a face, an abbreviation or a word of any language
_SURE_LETTERS = 60
_SHORT_PROBABILITY = 0.7  # what a text of fewer than MIN_LETTERS needs
_ONE_WORD = 0.25  # probability of English in a text with one common word of it
# Languages in Latin letters that people often write comments in. The other half of py3langid's languages only take
# probability from these: Wu from Chinese, Extremaduran from Spanish, Nigerian Pidgin from English.
_LATIN_CODES = """af az bs ca cs cy da de en es et eu fi fr ga hr hu id is it lt lv ms nl no pl pt ro sk sl so sq sr sv
sw tl tr uz vi"""
_LATIN = frozenset(_LATIN_CODES.split())
# What py3langid calls Urdu and Hindi in Latin letters, which it was not trained on.
_LIKE_ROMANISED = frozenset(("af", "cy", "et", "eu", "ga", "id", "is", "ms", "ro", "so", "sq", "sw", "tl", "uz"))
_DEFAULTS = frozenset({"ar", "bn", "hi"})  # of their scripts, if py3langid is not clear
ROMANISED = "ur-Latn"
"""Urdu or Hindi in Latin letters: comments hardly show which of the two they are in."""
_SURE = 0.9  # probability that outweighs the absence of common words
_ENGLISH_SHARE, _SOME_ENGLISH, _HARDLY_ANY = 0.25, 0.1, 0.04  # common words: enough alone; enough to ask; a few
_ROMANISED_SHARE = 0.1
_OTHER_SCRIPTS = 0.3  # more of a text's letters than that, and the text is not English
_PIECE, _LONG_PIECE, _PIECE_SHARE = 40, 80, 0.15  # characters, of a short and a long text; its common English words
_FEW_PIECES, _MOST_PIECES, _APART = 5, 200, 120  # how many are looked at; characters from one to the next
# What is in no language: addresses, user names, and what data sets put in their places.
_NO_PROSE = re.compile(r"https?://\S+|www\.\S+|@\w+|<\w+>|\[\w+\]|&\w+;")
_CUT_WORD = re.compile(r"^[!-\u024f]+\s|\s[!-\u024f]+$")  # Chinese and the like has no spaces between words
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


def classify_language(identifier: Any, text: str) -> tuple[str, float] | None:
    """Most likely language of a text's beginning, ISO 639-1, and its probability; None: too few letters."""
    beginning = text[:_CHARACTERS_READ]
    if sum(map(str.isalpha, beginning)) < MIN_LETTERS:
        return None
    language, probability = identifier.classify(beginning)
    return str(language), float(probability)


def recognise(texts: Sequence[str], feature: str) -> list[str]:
    """The language of each text, as `Languages.detect` finds it.

    Raises:
        MissingExtraError: py3langid is not installed.
    """
    languages = Languages(feature, "languages")
    return [languages.detect(text) for text in tqdm(texts, desc="Languages", unit=" texts", disable=None)]


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
        wanted = _LATIN.union({_NONE}, *SCRIPTS.values())
        self._identifier.set_languages([code for code in self._identifier.labels if code in wanted])
        self._normalise = normalise

    def detect(self, text: str) -> str:
        """Code of a text's language: ISO 639-1, or `ur-Latn`; `und` if it is too short, unclear, or in no language.

        A script of one language decides alone. Else py3langid decides, and common words of English and of romanised
        Urdu help it, above all in short texts. A text is English only if all of it is: one that changes to another
        language is `und`, or in that language, since a model of English alone could not read it.

        `benchmarks/language_recognition.py` measures it.
        """
        beginning = _prose(text[:_FEWER_CHARACTERS])
        code, probability = self._classify(beginning)
        is_plain = code == "en" and probability >= MIN_PROBABILITY and beginning.isascii()
        read = beginning if is_plain else self._read(beginning)
        n_letters, words = _n_letters(read), count_words(read)
        enough = _SHORT_PROBABILITY if n_letters < MIN_LETTERS else MIN_PROBABILITY
        possible = written_in(beginning)
        if possible and (other_scripts(read) >= MANY or self._is_undisguised(read, words, code in possible)):
            if code in possible and probability >= MIN_PROBABILITY:
                return code
            return possible[0] if len(possible) == 1 or possible[0] in _DEFAULTS else UNDETERMINED
        if n_letters < _FEW_LETTERS or other_scripts(read) > _OTHER_SCRIPTS:
            return UNDETERMINED
        if _is_romanised(words, code, probability):
            return ROMANISED
        if self._is_english(read, words, code, probability):
            return "en" if all(map(self._may_be_english, _pieces(text))) else UNDETERMINED
        doubtful = code in _LIKE_ROMANISED and words.romanised > _ROMANISED_SHARE
        if code == "en" or code not in _LATIN or probability < enough or doubtful:
            return UNDETERMINED
        return UNDETERMINED if self._classify(read)[0] == "en" else code

    def _classify(self, text: str) -> tuple[str, float]:
        code, probability = self._identifier.classify(text)
        return str(code), float(probability)

    def _is_undisguised(self, read: str, words: WordCounts, is_possible: bool) -> bool:
        """Whether a text whose letters all look like Latin ones, as Greek ones do, is not English in disguise."""
        return is_possible and words.english < _SOME_ENGLISH and self._classify(read)[0] != "en"

    def _is_english(self, read: str, words: WordCounts, code: str, probability: float) -> bool:
        if words.n_romanised > 1 and words.romanised >= _ROMANISED_SHARE:
            return False
        if code == "en" and probability >= (MIN_PROBABILITY if words.english >= _HARDLY_ANY else _SHORT_PROBABILITY):
            return True
        if words.n_words and words.n_english == words.n_words:
            return True
        is_other = code != "en" and probability >= _SHORT_PROBABILITY
        if words.n_english > 1 and words.english >= _ENGLISH_SHARE * (1 + is_other):
            return True
        if words.english < _SOME_ENGLISH:
            return False
        as_read, sure = self._classify(read)
        return "en" in (code, as_read) and (words.n_english > 1 or (as_read == "en" and sure >= _ONE_WORD))

    def _may_be_english(self, piece: str) -> bool:
        """Whether a piece of a text is not clearly in another language, as written and as the model reads it."""
        prose = _prose(piece)
        code, probability = self._classify(prose)
        if prose.isascii() and (code == "en" or probability < MIN_PROBABILITY):
            return not _has_romanised(count_words(prose))
        read = self._read(prose)
        words = count_words(read)
        if other_scripts(read) > _OTHER_SCRIPTS or _has_romanised(words):
            return False
        if code == "en" or probability < MIN_PROBABILITY or words.english >= _PIECE_SHARE:
            return True
        code, probability = self._classify(read)
        return code in ("en", _NONE) or probability < MIN_PROBABILITY

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
        beginning = text[:_FEWER_CHARACTERS]
        read = self._read(beginning)
        sure = _n_letters(read) >= _SURE_LETTERS
        if any(map(is_english, trained_on)):
            sure = sure and count_words(read).english < (_HARDLY_ANY if code == UNDETERMINED else _ENGLISH_SHARE)
        if code == UNDETERMINED:
            sure = sure and all(map(is_english, trained_on)) and is_other_script(beginning, read)
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


def _prose(text: str) -> str:
    return " ".join(_NO_PROSE.sub(" ", text).split())


def _pieces(text: str) -> list[str]:
    """Pieces of a text, of whole words, evenly spread from its beginning to its end.

    Two thirds of a long text are in one of them, up to 24,000 characters.

    >>> _pieces("one two three"), len(_pieces("one two three " * 100)), len(_pieces("one two three " * 10_000))
    (['one two three'], 11, 200)
    """
    n_pieces = min(-(-len(text) // _PIECE), max(_FEW_PIECES, len(text) // _APART), _MOST_PIECES)
    if n_pieces <= 1:
        return [text]
    size = min(len(text) // n_pieces, _LONG_PIECE)
    starts = [(len(text) - size) * place // (n_pieces - 1) for place in range(n_pieces)]
    return [_CUT_WORD.sub("", text[start : start + size]) for start in starts]


def _is_romanised(words: WordCounts, code: str, probability: float) -> bool:
    """Whether a text's words are those of Urdu or Hindi in Latin letters, and it is not clearly in another language."""
    if not words.n_romanised or words.romanised < _ROMANISED_SHARE or words.english > words.romanised:
        return False
    if code == "en":
        return probability < MIN_PROBABILITY or words.n_romanised > 1
    return probability < (_SURE if code in _LIKE_ROMANISED else MIN_PROBABILITY)


def _has_romanised(words: WordCounts) -> bool:
    """Whether a piece of a text has a run of Urdu or Hindi words."""
    return words.n_romanised > 1 and words.romanised >= 2 * _ROMANISED_SHARE


def _n_letters(text: str) -> int:
    return sum(map(str.isalpha, text))
