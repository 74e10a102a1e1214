"""Spellings that hide a word from a filter, read as the word that people read."""

# ruff: noqa: RUF001 -- to be taken for one another is what these letters are here for

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

# Chosen by their looks in common fonts; Unicode Technical Standard 39 (confusables) has most of them, and many more.
_CYRILLIC = {
    "а": "a",
    "в": "b",
    "с": "c",
    "ԁ": "d",
    "е": "e",
    "ԍ": "g",
    "һ": "h",
    "н": "h",
    "і": "i",
    "ј": "j",
    "к": "k",
    "ӏ": "l",
    "м": "m",
    "п": "n",
    "о": "o",
    "р": "p",
    "ԛ": "q",
    "г": "r",
    "ѕ": "s",
    "т": "t",
    "ѵ": "v",
    "ԝ": "w",
    "х": "x",
    "у": "y",
    "А": "A",
    "В": "B",
    "С": "C",
    "Е": "E",
    "Н": "H",
    "І": "I",
    "Ј": "J",
    "К": "K",
    "М": "M",
    "О": "O",
    "Р": "P",
    "Ԛ": "Q",
    "Ѕ": "S",
    "Т": "T",
    "Ѵ": "V",
    "Ԝ": "W",
    "Х": "X",
    "У": "Y",
}
_GREEK = {
    "α": "a",
    "ε": "e",
    "η": "n",
    "ι": "i",
    "κ": "k",
    "ν": "v",
    "ο": "o",
    "ρ": "p",
    "τ": "t",
    "υ": "u",
    "χ": "x",
    "Α": "A",
    "Β": "B",
    "Ε": "E",
    "Ζ": "Z",
    "Η": "H",
    "Ι": "I",
    "Κ": "K",
    "Μ": "M",
    "Ν": "N",
    "Ο": "O",
    "Ρ": "P",
    "Τ": "T",
    "Υ": "Y",
    "Χ": "X",
}
_LATIN = {"ı": "i", "ɑ": "a", "ɡ": "g", "ɩ": "i", "ʟ": "l", "ɴ": "n", "ʀ": "r"}
LOOKALIKES = _CYRILLIC | _GREEK | _LATIN


# The text is read from left to right as it stood before the step, so that a step sees signs next to a sign as signs.
_LETTER = r"\p{L}"
_SIGN = "[0134578@$9]"
_INSIDE = rf"(?<={_LETTER}|{_LETTER}{_SIGN}|{_LETTER}{_SIGN}{_SIGN})"  # after a letter, or up to two signs after it
_BLANK = r"[ .\-*\u00b7/]"
_STEPS: tuple[tuple[str, str], ...] = (
    ("[\u00ad\u200b-\u200d\u2060\ufeff]", ""),  # characters without width
    # Three single letters or more in a row: `i d i o t`, `i.d.i.o.t`.
    (
        rf"(?<=\b{_LETTER}){_BLANK}(?={_LETTER}{_BLANK}{_LETTER}\b)|"
        rf"(?<=\b{_LETTER}{_BLANK}{_LETTER}){_BLANK}(?={_LETTER}\b)",
        "",
    ),
    # Signs and digits in words: `1d!0t`, `$tup1d`. A number before a unit (`5th`, `10am`, `50cent`) stays one.
    (rf"(?<={_LETTER})!(?={_LETTER})", "i"),
    *((rf"{_INSIDE}{sign}|{sign}(?={_LETTER}{{2}})", letter) for sign, letter in ((r"\$", "s"), ("@", "a"))),
    *(
        (rf"{_INSIDE}{digit}|(?<![\d@$]){digit}(?={_LETTER}(?:{_LETTER}|{_SIGN}){{2}})", letter)
        for digit, letter in zip("0345789", "oeastbg", strict=True)
    ),
    # 1 stands for l as often as for i: for l after a vowel, after another l, and at the start before a vowel.
    (rf"(?<=[aeiouyAEIOUY])1(?={_LETTER}|1|\b)", "l"),
    (r"(?<=[lL])1|(?<!\w)1(?=[aeouAEOU])", "l"),
    (rf"{_INSIDE}1|(?<!\d)1(?={_LETTER}(?:{_LETTER}|{_SIGN}){{2}})", "i"),
    (rf"(?i)({_LETTER})\1+(?=\1)", ""),  # three times the same letter or more: `stuuupid`
)


def fold_disguises(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Give a fast tokenizer first steps that read disguised words as plain ones.

    Letters in compatibility forms (Unicode's NFKD: full-width, circled and mathematical ones) and accents are reduced,
    then `LOOKALIKES` read as Latin letters, characters without width dropped, single letters in a row joined, digits
    and signs within words read as letters, letters that stand three times or more read once; then comes the
    tokenizer's own normalisation. The steps stand in `tokenizer.json`, so that every backend takes them, and offsets
    still point into the text as it was written. Russian or Greek text becomes unreadable to the model: for models of
    English alone.

    Args:
        tokenizer: A fast one; its own normalisation is changed.

    Returns:
        A tokenizer of the general class, since those of single architectures build their normalisation anew when
        they are loaded and would lose the steps.
    """
    from tokenizers import Regex, normalizers
    from transformers import PreTrainedTokenizerFast

    backend = tokenizer.backend_tokenizer
    own = [] if backend.normalizer is None else [backend.normalizer]
    letters = [normalizers.Replace(letter, latin) for letter, latin in LOOKALIKES.items()]
    words = [normalizers.Replace(Regex(pattern), plain) for pattern, plain in _STEPS]
    plain = [normalizers.NFKD(), normalizers.StripAccents()]
    backend.normalizer = normalizers.Sequence([*plain, *letters, *words, *own])
    logger.info("Tokenizer: disguised words are read as plain ones.")
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        **tokenizer.special_tokens_map,
    )
