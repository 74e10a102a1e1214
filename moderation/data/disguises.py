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


# A step sees the text as the step before left it. Each is local, so that a text of any kind takes time in proportion to
# its length. Digits and signs are read as letters with care: of "A55", "US$500", "mp3" and "bob@example.com" nothing is
# changed, and a number before a unit stays one. Who writes in capitals must have two of them beside the digit.
_L = r"\p{L}"
_SIGN = "[0134579@$!8]"
_UNITS = (
    "bits?|chan|days?|hours?|hrs?|kids?|miles?|mins?|minutes?|months?|people|points?|secs?|seconds?|stars?|times|weeks?|"
    "years?|yrs?"
)
_INSIDE = (
    rf"(?:(?<=\p{{Ll}}|\p{{Ll}}{_SIGN}|\p{{Ll}}{_SIGN}{_SIGN}|\p{{Lu}}{{2}})#(?={_SIGN}{{0,2}}{_L})"
    rf"|(?<={_L}|{_L}{_SIGN})#(?=\p{{Ll}}|\p{{Lu}}{{2}}))"
)
_AT_END = rf"(?<={_L}{{3}})#(?!\w)"
_AT_START = rf"(?<![\w.,@$])#(?!(?:{_UNITS})\b)(?={_L}(?:{_L}|{_SIGN}){{2}})"
_ANYWHERE = f"{_INSIDE}|{_AT_END}|{_AT_START}"
_BLANK = r"[ .\-*\u00b7/]"
_STEPS: tuple[tuple[str, str], ...] = (
    ("[\u00ad\u200b-\u200d\u2060\ufeff]", ""),  # characters without width
    # Three single letters or more in a row: `i d i o t`, `i.d.i.o.t`; not what stands behind an apostrophe or a slash.
    (
        rf"(?<=\A{_L}|[^\w'\u2019/]{_L}){_BLANK}(?={_L}{_BLANK}{_L}\b)"
        rf"|(?<=\A{_L}{_BLANK}{_L}|[^\w'\u2019/]{_L}{_BLANK}{_L}){_BLANK}(?={_L}\b)",
        "",
    ),
    # Signs: `sh!t`, `b@stard`, `@ss`, `a$$hole`, `$tupid`; no end of a sentence, address, mention or amount.
    (r"(?<=\p{Ll})!(?=\p{Ll})", "i"),
    (rf"(?<={_L})@(?={_L}|\$)(?!{_L}[\w-]*\.{_L})|(?<!\w)@(?=[sS]{{2}}|\$\$)", "a"),
    (rf"(?<=\p{{Ll}}|\p{{Ll}}\$)\$(?!\$?\d)|(?<![\w$.])\$(?=\p{{Ll}}(?:{_L}|{_SIGN}))", "s"),
    *((_ANYWHERE.replace("#", digit), letter) for digit, letter in zip("0345789", "oeastbg", strict=True)),
    # 1 stands for l as often as for i: for l after a vowel, after another l, and at the start before a vowel.
    (r"(?<=[aeiouAEIOU])11\b", "ll"),
    (rf"(?<=[aeiouAEIOU])1(?={_SIGN}{{0,2}}{_L})|(?<![\w.,@$])1(?=[aeouAEOU]{_L}{{2}})", "l"),
    (r"(?<=[lL])1(?!\d)", "l"),
    (_ANYWHERE.replace("#", "1"), "i"),
    # The same letter three times or more: twice where that makes common words, once elsewhere (`stuuuupid`); not where
    # nothing else is in the word (`www`), and no Roman numeral.
    (r"(?i)(?<=[au]|[kp]i)s+(?=ss)|(?<=[ai])g+(?=gg)|(?<=[aeiu])l+(?=ll)|(?<=[bgl])o+(?=oo[bdk])", ""),
    (rf"(?i)(?!\b({_L})\1+\b)(?!(?<=[vx])iii?\b)({_L})\2+(?=\2)", ""),
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
