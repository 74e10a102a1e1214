"""Spellings that hide a word from a filter, read as the word that people read."""

from __future__ import annotations

import logging
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from moderation.data.charsmap import compile_table
from moderation.data.looks import Letters, find_flags, find_letters, find_pictures, find_squared_words, reduce_forms

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

# A step sees the text as the step before left it, and begins with what it replaces, or a text would be searched slowly.
# Each is local, so that a text of any kind takes time in proportion to its length. Digits and signs are read as letters
# with care: of "A55", "US$500", "mp3" and "bob@example.com" nothing is changed, and a number before a unit stays one.
# Who writes in capitals must have two of them beside the digit.
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
_ANY_MARK = r"[\p{P}\p{S}]"
_MARK = rf"[{_ANY_MARK}&&[^\p{{Ps}}\p{{Pe}}?&@\\.\-*]]"  # none of `p(a|b)`, a URL, an address or `\n`, nor of `_BLANK`
# What shows nothing: all that Unicode calls ignorable, the blanks that it calls signs, and skin tones.
_NOTHING = r"\p{Default_Ignorable_Code_Point}\p{Emoji_Modifier}\x{2800}\x{1d159}\x{fff9}-\x{fffc}"


def _between_letters(gap: str, n_letters: int) -> str:
    """Pattern of what stands between single Latin letters: `f|u|c|k`.

    Args:
        gap: Pattern of it, of a fixed length.
        n_letters: Letters that must stand so in a row; in fewer it stays.
    """

    def before(n: int) -> str:
        letters = f"[A-Za-z]{gap}" * n
        return rf"(?<=\A{letters}|[^\p{{L}}\p{{N}}]{letters})"

    def behind(n: int) -> str:
        return rf"(?={gap.join(['[A-Za-z]'] * n)}(?![\p{{L}}\p{{N}}]))"

    return f"{gap}(?:{'|'.join(before(n) + behind(n_letters - n) for n in range(1, n_letters))})"


_STEPS: tuple[tuple[str, str], ...] = (
    # Letters that have two readings, and units of measurement.
    ("\u00df(?<!\\w.)(?=\\p{L}{2})", "b"),
    ("\u03bc(?:(?<=[A-Za-z].)|(?<!\\w.)(?=\\p{L}{4})(?!mol|gram|sec))", "u"),
    # Four single letters or more with signs between them, alone or between blanks; three with two signs, as brackets.
    (_between_letters(_MARK, 4), ""),
    (_between_letters(f" {_MARK} ", 4), ""),
    (_between_letters(_ANY_MARK * 2, 3), ""),
    # Three single letters or more in a row: `i d i o t`, `i.d.i.o.t`; not what stands behind an apostrophe or a slash.
    (
        rf"{_BLANK}(?:(?<=\A{_L}.|[^\w'\u2019/]{_L}.)(?={_L}{_BLANK}{_L}\b)"
        rf"|(?<=\A{_L}{_BLANK}{_L}.|[^\w'\u2019/]{_L}{_BLANK}{_L}.)(?={_L}\b))",
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
    (
        r"[sSgGlLoO](?i:(?<=[au].|[kp]i.)(?<=s)s*(?=ss)|(?<=[ai]g)g*(?=gg)|(?<=[aeiu]l)l*(?=ll)"
        r"|(?<=[bgl]o)o*(?=oo[bdk]))",
        "",
    ),
    (rf"(?i)(?!\b({_L})\1+\b)(?!(?<=[vx])iii?\b)({_L})\2+(?=\2)", ""),
)


_LONG_O = "\u0254(?=\u02d0)"  # of a transcription, `f\u0254\u02d0k`; elsewhere it is read as c
_MU = "\u03bc"  # read as u by a step of its own, since it is a unit too
_LONGEST = 4  # characters that one is read as
_UNREAD = " \U0001f3f4 "  # a picture that is read as no word, in the place of any other
_CLOSING = "\u2202"
_CALLERS = "a an the you u ur your are is fat ugly dirty filthy stupid dumb little old like such these those of fucking"
_CALLING = "|".join(f"\\b{word} {{0,2}}." for word in _CALLERS.split())  # a picture stands between blanks
# Letters of other scripts are read as Latin ones beside these, Greek ones (`\u0394x`) in words of three letters;
# signs within words, at a word's beginning (not `\u00a3bn`), and those of currencies at its end.
_LATIN = "[A-Za-z]"
_NO_SCALE = r"(?!(?:bn|mn|tn|mil|pcm|pa|pw|ea)\b)"


def _beside_latin(letters: str, all_letters: str) -> str:
    """Pattern of letters of other scripts where they stand beside Latin ones, or beside others that do.

    It begins with the letters, so that a text without them is passed over fast; `.` behind it is the letter found.
    """
    other = f"[{all_letters}]"
    before = "|".join(f"{_LATIN}{other * n}." for n in range(3))
    return (
        f"[{letters}](?:(?<!\\p{{Greek}})(?:(?<={before})|(?={other}{{0,6}}{_LATIN}))"
        f"|(?<={_LATIN}{_LATIN}.)|(?<={before})(?={_LATIN}|{other})|(?<={other}.)(?={_LATIN})"
        f"|(?={other}{{1,6}}{_LATIN}|{_LATIN}(?:{_LATIN}|{other})))"
    )


def _signs_in_words(signs: str, all_signs: str) -> str:
    """Pattern of signs where they stand for a letter of a word, beside letters or other such signs."""
    other = f"[{all_signs}]"
    pattern = (
        f"[{signs}](?:(?<={_LATIN}.)(?={_LATIN}|{other})|(?<={other}.)(?={_LATIN})"
        f"|(?<![\\w.,$].)(?={_LATIN}{{2}}|{_LATIN}{other}|{other}{_LATIN}){_NO_SCALE})"
    )
    if closing := "".join(sign for sign in signs if unicodedata.category(sign) == "Sc" or sign in _CLOSING):
        pattern += f"|[{closing}](?<={_LATIN}{{2}}.|{_LATIN}{other}.)(?!\\w|{other}\\w|{other}{other})"
    return pattern


def _pictures_in_words(pictures: str, all_pictures: str) -> str:
    """Pattern of pictures where they stand for a letter between two others, one or two of them."""
    other = f"[{all_pictures}]"
    return f"[{pictures}](?:(?<={_LATIN}.)(?={other}?{_LATIN})|(?<={_LATIN}{other}.)(?={_LATIN}))"


def _in_mixed_words(letters: str) -> str:
    """Pattern of Cyrillic letters in words that hold letters of other alphabets, at most four letters away."""
    cyrillic = r"\x{400}-\x{45f}"
    other = f"[\\p{{L}}&&[^{cyrillic}]]"
    before = "|".join(f"{other}[{cyrillic}]{{{n}}}." for n in range(4))
    return f"[{letters}](?:(?<={before})|(?=[{cyrillic}]{{0,3}}{other}))"


@dataclass(frozen=True)
class _Looks:
    """What reads letters by their looks: steps before and after the table of single characters, which is one pass."""

    before: tuple[tuple[str, str], ...]
    table: bytes
    after: tuple[tuple[str, str], ...]


@cache
def _look_steps() -> _Looks:
    found = find_letters()
    before = [(_in_mixed_words(own), latin) for latin, own in _by_latin(found.russian).items()]
    letters = {letter: latin for letter, latin in found.beside.items() if unicodedata.category(letter)[0] in "LN"}
    signs = {sign: latin for sign, latin in found.beside.items() if sign not in letters}
    pictures = {sign: signs.pop(sign) for sign in sorted(signs.keys() & find_pictures().read.keys())}
    own_letters, own_signs, own_pictures = _by_latin(letters), _by_latin(signs), _by_latin(pictures)
    after = []
    for latin in sorted(own_letters.keys() | own_signs.keys() | own_pictures.keys()):
        patterns = [_beside_latin(own_letters[latin], f"{''.join(letters)}{_MU}")] if latin in own_letters else []
        patterns += [_signs_in_words(own_signs[latin], "".join(signs))] if latin in own_signs else []
        patterns += [_pictures_in_words(own_pictures[latin], "".join(pictures))] if latin in own_pictures else []
        after.append(("|".join(patterns), latin))
    after += [(picture, f" {picture} ") for picture in sorted(pictures)]  # those that stand for no letter
    return _Looks(tuple(before), compile_table(_whole_table(found)), tuple(after))


def _by_latin(letters: Mapping[str, str]) -> dict[str, str]:
    """Latin small letter -> all characters that are read as it, whatever their case, so that one pass is enough."""
    found: dict[str, str] = {}
    for letter, latin in letters.items():
        found[latin.lower()] = found.get(latin.lower(), "") + letter
    return found


def _whole_table(found: Letters) -> dict[str, str]:
    """Every character that is read otherwise than its decomposition says, and as what.

    A sign in brackets is read without them, an emoji as its name or by itself, between blanks; what a decomposition
    makes longer than four characters, the greetings of Arabic, is cut there.
    """
    from tokenizers import normalizers

    plain_steps = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents()])
    letters = found.everywhere
    table = letters | {sign: word if len(word) < 3 else f" {word} " for sign, word in find_squared_words().items()}
    for character in map(chr, range(0x80, sys.maxunicode + 1)):
        if character in letters or not unicodedata.decomposition(character):
            continue
        read = "".join(letters.get(letter, letter) for letter in reduce_forms(character))[:_LONGEST]
        if read and read != plain_steps.normalize_str(character):
            table[character] = read
    known = table.keys() | found.beside.keys()
    return table | {picture: f" {read} " for picture, read in find_pictures().read.items() if picture not in known}


def _newer_marks() -> str:
    """Marks and format characters that the step of the tokenizer for accents does not know yet."""
    from tokenizers import normalizers

    strip = normalizers.StripAccents().normalize_str
    kinds = ("Mn", "Mc", "Me", "Cf")
    characters = (chr(place) for place in range(0x80, sys.maxunicode + 1))
    return "".join(one for one in characters if unicodedata.category(one) in kinds and strip(one))


def _flag_pattern() -> str:
    """A flag that stands alone; regional indicators beside others, blanks between them or not, are letters."""
    gap = r"[\s\p{Default_Ignorable_Code_Point}]"
    apart = f"(?<!\\p{{RI}}|\\p{{RI}}{gap}|\\p{{RI}}{gap}{gap})"
    return f"{apart}(?:{'|'.join(sorted(find_flags()))})(?!{gap}{{0,2}}\\p{{RI}})"


def reading_steps() -> list[Any]:
    """Normalisers of `tokenizers`, in order, that read disguised words as plain ones.

    Each takes time in proportion to a text's length.

    Raises:
        MissingExtraError: a package that knows how characters look is not installed.
    """
    from tokenizers import Regex, normalizers

    looks = _look_steps()

    def replace(pattern: str, plain: str) -> Any:
        return normalizers.Replace(Regex(pattern), plain)

    return [
        replace(_flag_pattern(), _UNREAD),
        replace(f"(?i)[{''.join(find_pictures().called)}](?<!{_CALLING})", _UNREAD),
        replace(_LONG_O, "o"),
        *(replace(*step) for step in looks.before),
        normalizers.Precompiled(looks.table),
        normalizers.NFKD(),
        normalizers.StripAccents(),
        replace(f"[{_NOTHING}{_newer_marks()}]", ""),
        *(replace(*step) for step in (*looks.after, *_STEPS)),
    ]


def fold_disguises(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Give a fast tokenizer first steps that read disguised words as plain ones.

    Letters that look like Latin ones are read as these (`looks`), letters in compatibility forms (Unicode's NFKD:
    full-width, circled and mathematical ones) and accents are reduced, emoji that stand for things read as words, what
    shows nothing dropped, single letters in a row joined, digits and signs within words read as letters, letters that
    stand three times or more read once; then comes the tokenizer's own normalisation. The steps stand in
    `tokenizer.json`, so that every backend takes them, and offsets still point into the text as it was written. Russian
    or Greek text becomes unreadable to the model: for models of English alone.

    Args:
        tokenizer: A fast one; its own normalisation is changed.

    Returns:
        A tokenizer of the general class, since those of single architectures build their normalisation anew when
        they are loaded and would lose the steps.

    Raises:
        MissingExtraError: as of `reading_steps`.
    """
    from tokenizers import normalizers
    from transformers import PreTrainedTokenizerFast

    backend = tokenizer.backend_tokenizer
    own = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = normalizers.Sequence([*reading_steps(), *own])
    logger.info("Tokenizer: disguised words are read as plain ones.")
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        **tokenizer.special_tokens_map,
    )
