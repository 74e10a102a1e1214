"""Text -> the language that its script shows: Korean needs no statistics to be recognised."""

import unicodedata
from collections import Counter
from collections.abc import Mapping

# Scripts of living languages, except those used more often for decoration than for writing, each with the languages
# (ISO 639-1) that write in it, the likeliest first.
LANGUAGES: Mapping[str, tuple[str, ...]] = {
    "ARABIC": ("ar", "fa", "ur"),
    "ARMENIAN": ("hy",),
    "BENGALI": ("bn", "as"),
    "CJK": ("zh",),
    "CYRILLIC": ("ru", "uk", "bg", "be", "sr", "mk", "kk"),
    "DEVANAGARI": ("hi", "mr", "ne"),
    "ETHIOPIC": ("am",),
    "GEORGIAN": ("ka",),
    "GREEK": ("el",),
    "GUJARATI": ("gu",),
    "GURMUKHI": ("pa",),
    "HANGUL": ("ko",),
    "HEBREW": ("he",),
    "HIRAGANA": ("ja",),
    "KANNADA": ("kn",),
    "KATAKANA": ("ja",),
    "KHMER": ("km",),
    "LAO": ("lo",),
    "MALAYALAM": ("ml",),
    "MYANMAR": ("my",),
    "ORIYA": ("or",),
    "SINHALA": ("si",),
    "TAMIL": ("ta",),
    "TELUGU": ("te",),
    "THAANA": ("dv",),
    "THAI": ("th",),
    "TIBETAN": ("bo",),
}
_SYLLABLES = frozenset({"CJK", "HANGUL", "HIRAGANA", "KATAKANA"})
_KANA = frozenset({"HIRAGANA", "KATAKANA"})
_LETTERS_PER_SYLLABLE = 2
_FEW_LETTERS = 3  # two are a face, such as \u0ca0_\u0ca0; of the syllables above, two are a word
_MOST, MANY = 0.75, 0.15  # share of a text's letters in other scripts: as written, and as the model reads it
_KANA_SHARE = 0.1  # of a Japanese text; Chinese has a single \u306e here and there
# Letters that Persian or Urdu needs and Arabic does not.
_NOT_ARABIC = frozenset("\u067e\u0686\u0698\u06af\u06a9\u06cc\u0679\u0688\u0691\u06ba\u06be\u06c1\u06d2")


def written_in(text: str) -> tuple[str, ...]:
    """The languages that a text's script allows, the likeliest first; none: it is Latin or mixed.

    >>> written_in("\uc548\ub155"), written_in("hello")
    (('ko',), ())
    """
    if text.isascii():
        return ()
    counts = _count_scripts(text)
    n_letters = sum(counts.values())
    if counts.keys() & _KANA and counts.keys() <= _SYLLABLES | {""}:
        n_kana = sum(counts[script] for script in _KANA)
        if n_kana >= _KANA_SHARE * n_letters:
            counts = Counter({"HIRAGANA": n_kana + counts["CJK"], "HANGUL": counts["HANGUL"], "": counts[""]})
    script, n_most = max(counts.items(), key=lambda item: item[1], default=("", 0))
    if script not in LANGUAGES or n_most < max(_FEW_LETTERS, _MOST * n_letters):
        return ()
    if script == "ARABIC" and not _NOT_ARABIC.isdisjoint(text):
        return LANGUAGES[script][1:]
    return LANGUAGES[script]


def is_other_script(text: str, read: str) -> bool:
    """Whether most letters of a text, and many even as the model reads it, are not Latin.

    >>> is_other_script("\u0441\u043f\u0430\u0441\u0438\u0431\u043e", "c\u043fac\u0438\u0431o")
    True
    """
    return other_scripts(text) >= _MOST and other_scripts(read) >= MANY


def other_scripts(text: str) -> float:
    """Share of a text's letters in a script other than Latin; a Chinese or Korean character counts as two letters."""
    counts = Counter[str]() if text.isascii() else _count_scripts(text)
    return 1 - counts[""] / max(sum(counts.values()), 1) if counts else 0.0


def _count_scripts(text: str) -> Counter[str]:
    """Script -> letters in it; the empty name is Latin and all that is decoration."""
    counts: Counter[str] = Counter()
    for letter in text:
        if not letter.isalpha():
            continue
        name = "" if letter.isascii() else unicodedata.name(letter, "").split(" ")[0]
        counts[name if name in LANGUAGES else ""] += _LETTERS_PER_SYLLABLE if name in _SYLLABLES else 1
    return counts
