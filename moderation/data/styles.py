"""Styles of "fancy text" generators: letters that look like others, and characters that nobody sees.

Each alphabet is looked up by Unicode's names of its letters, independently of the tokenizer's table
(`moderation.data.looks`), so that a measurement finds the letters that the table lacks.
"""

import unicodedata
from collections.abc import Mapping
from random import Random

_LATIN = "abcdefghijklmnopqrstuvwxyz"

# Style -> Unicode's name of its letters ({0}: the letter). Of several names, the first that exists is used.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "small capitals": ("LATIN LETTER SMALL CAPITAL {0}",),
    "circled letters": ("CIRCLED LATIN SMALL LETTER {0}",),
    "black circles": ("NEGATIVE CIRCLED LATIN CAPITAL LETTER {0}",),
    "squared letters": ("SQUARED LATIN CAPITAL LETTER {0}",),
    "black squares": ("NEGATIVE SQUARED LATIN CAPITAL LETTER {0}",),
    "letters in brackets": ("PARENTHESIZED LATIN SMALL LETTER {0}",),
    "flag letters": ("REGIONAL INDICATOR SYMBOL LETTER {0}",),
    "bold": ("MATHEMATICAL BOLD SMALL {0}",),
    "italic": ("MATHEMATICAL ITALIC SMALL {0}", "MATHEMATICAL BOLD ITALIC SMALL {0}"),
    "script": ("MATHEMATICAL SCRIPT SMALL {0}", "MATHEMATICAL BOLD SCRIPT SMALL {0}"),
    "fraktur": ("MATHEMATICAL FRAKTUR SMALL {0}",),
    "double-struck": ("MATHEMATICAL DOUBLE-STRUCK SMALL {0}",),
    "sans-serif": ("MATHEMATICAL SANS-SERIF BOLD SMALL {0}",),
    "monospace": ("MATHEMATICAL MONOSPACE SMALL {0}",),
    "full width": ("FULLWIDTH LATIN SMALL LETTER {0}",),
    "superscript": ("MODIFIER LETTER SMALL {0}", "SUPERSCRIPT LATIN SMALL LETTER {0}"),
    "turned letters": ("LATIN SMALL LETTER TURNED {0}",),
    "letters with strokes": ("LATIN SMALL LETTER {0} WITH STROKE", "LATIN SMALL LETTER {0} WITH DIAGONAL STROKE"),
    "letters with hooks": ("LATIN SMALL LETTER {0} WITH HOOK", "LATIN SMALL LETTER {0} WITH TAIL"),
}
# Letters of other scripts, by the Latin letters that they look like: Unicode names them by their sounds instead.
_SHAPES: Mapping[str, Mapping[str, str]] = {
    "Greek letters": {
        "GREEK SMALL LETTER": "a ALPHA e EPSILON i IOTA k KAPPA n ETA o OMICRON p RHO t TAU u UPSILON v NU w OMEGA "
        "x CHI",
    },
    "Cherokee letters": {
        "CHEROKEE LETTER": "a GO b YV c TLI d A e GV g NAH h MI i V j GU k TSO l TLE m LU p TLV "
        "r SV s DU t I v DO w LA z NO",
    },
    "Armenian letters": {
        "ARMENIAN SMALL LETTER": "f KEH g CO h HO n VO o OH q ZA u SEH w AYB",
    },
    "Lisu letters": {
        "LISU LETTER": "a A b BA c CA d DA e E f TSA g GA h XA i I j JA k KA l LA m MA n NA o O p PA r ZHA s SA t TA "
        "u U v HA w WA x SHA y YA z DZA",
    },
    "Deseret and others": {
        "DESERET SMALL LETTER": "o LONG O c CHEE",
        "COPTIC SMALL LETTER": "i IAUDA k KAPA n NI t TAU",
        "CANADIAN SYLLABICS": "d CARRIER PE u TE v PE c TA l MA b CARRIER KHE r TLHI h NUNAVUT H m CARRIER GO p KI",
    },
}
# Currency signs, by their names.
_SIGNS = {
    "c": "CENT SIGN",
    "e": "EURO SIGN",
    "f": "FRENCH FRANC SIGN",
    "g": "GUARANI SIGN",
    "k": "KIP SIGN",
    "m": "MILL SIGN",
    "n": "NAIRA SIGN",
    "t": "TUGRIK SIGN",
    "w": "WON SIGN",
    "y": "YEN SIGN",
}
_ABOVE_AND_BELOW = [chr(place) for place in range(0x300, 0x334)]
_STROKE, _KEY = "\u0336", "\u20e3"
# Invisible characters, of each kind: letters, blanks, joiners, marks, tags, selectors, directions.
_INVISIBLE = (
    "\u3164\uffa0\u115f\u1160\u2800\u17b4\u17b5\u180e\u200e\u202d\u2061\u2063\u2066\u061c\u034f\u00ad\ufe0f\ufe01"
    "\U000e0100\U000e0061\U000e0020\U0001d173\u206a\u180b"
)
_SEPARATOR = "\u200b"  # without it two letters of flags would be drawn as one flag


def _by_names(patterns: tuple[str, ...]) -> dict[str, str]:
    alphabet = {}
    for letter in _LATIN:
        for pattern in reversed(patterns):
            try:
                alphabet[letter] = unicodedata.lookup(pattern.format(letter.upper()))
            except KeyError:
                continue
    return alphabet


def _by_shapes(scripts: Mapping[str, str]) -> dict[str, str]:
    alphabet = {}
    for script, pairs in scripts.items():
        for letter, name in _pairs(pairs):
            alphabet[letter] = unicodedata.lookup(f"{script} {name}")
    return alphabet


def _pairs(pairs: str) -> list[tuple[str, str]]:
    """Split `a GO b YV o LONG O` into letters and the names that follow them."""
    found: list[tuple[str, str]] = []
    for word in pairs.split():
        if word.islower():
            found.append((word, ""))
        else:
            found[-1] = (found[-1][0], f"{found[-1][1]} {word}".strip())
    return found


ALPHABETS: Mapping[str, Mapping[str, str]] = {
    **{style: _by_names(patterns) for style, patterns in _NAMES.items()},
    **{style: _by_shapes(scripts) for style, scripts in _SHAPES.items()},
}
"""Style -> small Latin letter -> the character that replaces it; letters that a style lacks stay as they are."""


def restyle(style: str, text: str) -> str:
    """Write a text in one of `ALPHABETS`, all in small letters, as the generators do."""
    alphabet = ALPHABETS[style]
    letters = [alphabet.get(letter.lower(), letter) for letter in text]
    return (_SEPARATOR if style == "flag letters" else "").join(letters)


def currency_signs(text: str, random: Random) -> str:
    """Replace one letter of each word of at least three letters with a currency sign."""
    return " ".join(_one_sign(word, random) if len(word) >= 3 and word.isalpha() else word for word in text.split(" "))


def struck_through(text: str, random: Random) -> str:
    """Put a stroke through every letter."""
    return "".join(letter + _STROKE if letter.isalpha() else letter for letter in text)


def keycaps(text: str, random: Random) -> str:
    """Put a keycap around every letter."""
    return "".join(letter + _KEY if letter.isalpha() else letter for letter in text)


def stacked_marks(text: str, random: Random) -> str:
    """Stack two to five marks above and below every letter."""
    return "".join(
        letter + "".join(random.choices(_ABOVE_AND_BELOW, k=random.randint(2, 5))) if letter.isalpha() else letter
        for letter in text
    )


def invisible_letters(text: str, random: Random) -> str:
    """Put an invisible character between every two adjacent letters."""
    return "".join(
        letter + random.choice(_INVISIBLE) if letter.isalpha() and after.isalpha() else letter
        for letter, after in zip(text, f"{text[1:]} ", strict=True)
    )


def _one_sign(word: str, random: Random) -> str:
    places = [place for place, letter in enumerate(word) if letter.lower() in _SIGNS]
    if not places:
        return word
    place = random.choice(places)
    return word[:place] + unicodedata.lookup(_SIGNS[word[place].lower()]) + word[place + 1 :]
