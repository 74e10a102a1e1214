"""Edits that let a text evade a classifier while people can still read it, and insertions that are harmless.

Each is a pure function of a text and a random generator. `edit_text` seeds the generator from the text itself, so the
order of the texts does not matter. Somebody who evades a filter edits the word that would give them away. The edits do
not know which word that is, so they change every word of at least three letters (`spaced letters` and
`swapped letters`: at least four).
"""

import logging
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from random import Random

import numpy as np
import pandas as pd

from moderation.data.styles import (
    ALPHABETS,
    currency_signs,
    invisible_letters,
    keycaps,
    restyle,
    stacked_marks,
    struck_through,
)
from moderation.tables.options import TEXT_COLUMN

Edit = Callable[[str, Random], str]

logger = logging.getLogger(__name__)

_WORD = re.compile(r"[^\W\d_]{3,}")
_LONG_WORD = re.compile(r"[^\W\d_]{4,}")
_GAP = re.compile(r"(?<=\S) (?=\S)")
_SHARE = 0.5  # of the characters of a word that could be changed; always at least one

_LEET = {"a": "4@", "b": "8", "e": "3", "g": "9", "i": "1!", "l": "1", "o": "0", "s": "5$", "t": "7"}
# Cyrillic letters that look the same as Latin ones.
_HOMOGLYPHS = {
    "a": "\u0430",
    "c": "\u0441",
    "d": "\u0501",
    "e": "\u0435",
    "h": "\u04bb",
    "i": "\u0456",
    "j": "\u0458",
    "o": "\u043e",
    "p": "\u0440",
    "s": "\u0455",
    "x": "\u0445",
    "y": "\u0443",
    "A": "\u0410",
    "B": "\u0412",
    "C": "\u0421",
    "E": "\u0415",
    "H": "\u041d",
    "K": "\u041a",
    "M": "\u041c",
    "O": "\u041e",
    "P": "\u0420",
    "T": "\u0422",
    "X": "\u0425",
}
_ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff"
_MARKS = "\u0300\u0301\u0302\u0303\u0308"
_CURRENCIES = "$\u20ac\u00a3"
_CODE = (
    "for (i = 0; i < n; i++) { total += a[i]; }",
    "SELECT name, price FROM items WHERE id = 42;",
    "def area(w, h): return w * h",
    '<a href="/home?tab=2#top">Home</a>',
)
_FOREIGN = (
    "\u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1",  # Greek: good morning
    "\u0421\u043f\u0430\u0441\u0438\u0431\u043e",  # Russian: thank you
    "\u0634\u0643\u0631\u0627",  # Arabic: thanks
    "\u05e9\u05dc\u05d5\u05dd",  # Hebrew: hello
    "\u0928\u092e\u0938\u094d\u0924\u0947",  # Hindi: hello
    "\u4f60\u597d",  # Chinese: hello
    "\u3042\u308a\u304c\u3068\u3046",  # Japanese: thank you
)

_FRIENDLY = (
    "Thanks for the photos, they came out so well.",
    "The soup was lovely, I will make it again on Sunday.",
    "My sister says hello to all of you.",
    "Does anybody know when the library opens?",
    "We walked along the river until it rained.",
    "I have fixed the two links in the second section.",
    "Good luck with the exam tomorrow!",
    "The bus was late again, so I read half of the book.",
    "What a beautiful garden you have.",
    "Please bring a cake if you like.",
    "I moved the table of results to the end.",
    "It was nice to meet everybody at last.",
)


def leetspeak(text: str, random: Random) -> str:
    """Replace letters with digits and signs: `stupid` -> `5tup1d`."""
    return _replace(text, random, {letter: signs for low, signs in _LEET.items() for letter in (low, low.upper())})


def homoglyphs(text: str, random: Random) -> str:
    """Replace Latin letters with Cyrillic ones that look the same."""
    return _replace(text, random, _HOMOGLYPHS)


def zero_width(text: str, random: Random) -> str:
    """Put a zero-width character between two letters of each word."""

    def split(word: str) -> str:
        place = random.randrange(1, len(word))
        return word[:place] + random.choice(_ZERO_WIDTH) + word[place:]

    return _WORD.sub(lambda found: split(found[0]), text)


def spaced_letters(text: str, random: Random) -> str:
    """Put spaces between the letters of each word of at least four letters."""
    return _LONG_WORD.sub(lambda found: " ".join(found[0]), text)


def repeated_letters(text: str, random: Random) -> str:
    """Repeat one letter of each word: it appears three to five times."""

    def stretch(word: str) -> str:
        place = random.randrange(len(word))
        return word[:place] + word[place] * random.randint(3, 5) + word[place + 1 :]

    return _WORD.sub(lambda found: stretch(found[0]), text)


def missing_spaces(text: str, random: Random) -> str:
    """Drop each space between two words with a probability of one half, but at least one space."""
    gaps = [found.start() for found in _GAP.finditer(text)]
    dropped = _choose(gaps, random)
    return "".join(character for place, character in enumerate(text) if place not in dropped)


def diacritics(text: str, random: Random) -> str:
    """Put accents on letters: `stupid` -> `st\u00fap\u00efd`."""

    def accent(letter: str) -> str:
        return unicodedata.normalize("NFC", letter + random.choice(_MARKS))

    return _WORD.sub(lambda found: _change(found[0], random, str.isascii, accent), text)


def swapped_letters(text: str, random: Random) -> str:
    """Swap two adjacent letters in each word of at least four letters; the first and the last stay in place."""

    def swap(word: str) -> str:
        places = [place for place in range(1, len(word) - 2) if word[place] != word[place + 1]]
        if not places:
            return word
        place = random.choice(places)
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]

    return _LONG_WORD.sub(lambda found: swap(found[0]), text)


def with_id(text: str, random: Random) -> str:
    """Insert an identifier between two words: `3f0c9a1e-77b2`."""
    return _insert(text, random, f"{random.getrandbits(32):08x}-{random.getrandbits(16):04x}")


def with_price(text: str, random: Random) -> str:
    """Insert a price between two words: `$1,299.90`."""
    price = f"{random.randrange(1, 5000):,}.{random.randrange(100):02}"
    return _insert(text, random, random.choice(_CURRENCIES) + price)


def with_code(text: str, random: Random) -> str:
    """Insert a line of code between two words."""
    return _insert(text, random, random.choice(_CODE))


def with_foreign_script(text: str, random: Random) -> str:
    """Insert a friendly word in another script between two words."""
    return _insert(text, random, random.choice(_FOREIGN))


def friendly_sentences(text: str, random: Random) -> str:
    """Add two to six friendly sentences, half of them before the text and half after it."""
    chosen = random.sample(_FRIENDLY, random.randint(2, 6))
    place = len(chosen) // 2
    return " ".join((*chosen[:place], text, *chosen[place:]))


def _in_style(style: str) -> Edit:
    return lambda text, random: restyle(style, text)


# The edits that training may use.
_LEARNT: Mapping[str, Edit] = {
    "leetspeak": leetspeak,
    "homoglyphs": homoglyphs,
    "zero-width characters": zero_width,
    "spaced letters": spaced_letters,
    "repeated letters": repeated_letters,
    "missing spaces": missing_spaces,
    "diacritics": diacritics,
    "swapped letters": swapped_letters,
}
DISGUISES = tuple(_LEARNT)
# Whole texts in "fancy letters", or with extra marks and invisible characters.
STYLES: Mapping[str, Edit] = {
    **{style: _in_style(style) for style in ALPHABETS},
    "currency signs": currency_signs,
    "struck-through letters": struck_through,
    "keycaps": keycaps,
    "stacked marks": stacked_marks,
    "invisible letters": invisible_letters,
}
# Training does not use the friendly sentences: they are so few that the model would memorise them.
EVASIONS: Mapping[str, Edit] = {**_LEARNT, "friendly sentences": friendly_sentences, **STYLES}
# What `moderation.data.folding.fold_disguises` undoes only in part, or not at all: when it joins spaced letters it also
# joins neighbouring words, and it leaves leetspeak that may be a name or a number.
STUBBORN = ("leetspeak", "spaced letters", "missing spaces", "swapped letters")
INSERTIONS: Mapping[str, Edit] = {
    "ids": with_id,
    "prices": with_price,
    "code": with_code,
    "non-Latin text": with_foreign_script,
}


def edit_text(name: str, text: str, seed: int) -> str:
    """Apply one of `EVASIONS` or `INSERTIONS`; the same arguments give the same text, in every process.

    >>> edit_text("spaced letters", "You are wonderful.", seed=0)
    'You are w o n d e r f u l.'
    """
    edit = EVASIONS.get(name) or INSERTIONS[name]
    return edit(text, Random(f"{seed}/{name}/{text}"))


def _replace(text: str, random: Random, table: Mapping[str, str]) -> str:
    """Replace a share of the letters of each word with one of their characters in the table."""
    return _WORD.sub(
        lambda found: _change(found[0], random, table.__contains__, lambda letter: random.choice(table[letter])), text
    )


def _change(word: str, random: Random, may: Callable[[str], bool], change: Callable[[str], str]) -> str:
    chosen = _choose([place for place, letter in enumerate(word) if may(letter)], random)
    return "".join(change(letter) if place in chosen else letter for place, letter in enumerate(word))


def _choose(places: list[int], random: Random) -> set[int]:
    """Draw a share of the places; at least one if there are any."""
    chosen = {place for place in places if random.random() < _SHARE}
    return chosen or ({random.choice(places)} if places else set())


def _insert(text: str, random: Random, addition: str) -> str:
    """Put an addition between two words, or at the beginning or the end."""
    place = random.choice([0, *(found.start() for found in _GAP.finditer(text)), len(text)])
    return " ".join(part for part in (text[:place], addition, text[place:].removeprefix(" ")) if part)


def add_disguised(
    frame: pd.DataFrame,
    share: float,
    seed: int,
    text_column: str = TEXT_COLUMN,
    edits: Sequence[str] = DISGUISES,
) -> pd.DataFrame:
    """Append disguised copies of some of the rows, with the labels of the originals.

    Each copy gets one of the edits, drawn at random. Clean comments are copied at the same share as toxic ones;
    otherwise the model would learn that the disguise itself is a sign of toxicity.

    Args:
        frame: Rows of the train split only: a copy of a row of another split would give its label away.
        share: Copies per row, in [0, 1].
        seed: Decides which rows are copied, which edit each gets, and what the edit draws.
        text_column: Column of the texts.
        edits: Names in `moderation.data.disguises.EVASIONS`.

    Returns:
        The rows, then the copies; with a share of 0, the frame itself.
    """
    n_copies = round(share * len(frame))
    if not n_copies:
        return frame
    rng = np.random.default_rng([seed, 3])
    copies = frame.iloc[np.sort(rng.choice(len(frame), n_copies, replace=False))].copy()
    names = Random(seed).choices(edits, k=n_copies)
    copies[text_column] = [edit_text(name, text, seed) for name, text in zip(names, copies[text_column], strict=True)]
    logger.info("Augmentation: %d disguised copies added to the train split.", n_copies)
    return pd.concat([frame, copies], ignore_index=True)
