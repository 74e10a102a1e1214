"""Read spellings that hide a word from a filter as the word that people read."""

from __future__ import annotations

import logging
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from moderation.charsmap import compile_table
from moderation.data.looks import Letters, find_flags, find_letters, find_pictures, find_squared_words, reduce_forms

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

# Each step sees the text as the previous step left it. Its pattern begins with the characters that it replaces, since
# anything else would make the search slow, and looks only at nearby ones, so any text takes time in proportion to its
# length. Digits and signs are read as letters with care: "A55", "US$500", "mp3" and "bob@example.com" stay as they are,
# and so does a number before a unit. Among capitals, a digit is read as a letter only next to two of them.
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
# Not the signs of `p(a|b)`, URLs, addresses or `\n`, and not those of `_BLANK`.
_MARK = rf"[{_ANY_MARK}&&[^\p{{Ps}}\p{{Pe}}?&@\\.\-*]]"
# Dropped: what Unicode calls ignorable, blank characters that it counts as symbols, and skin tones.
_NOTHING = r"\p{Default_Ignorable_Code_Point}\p{Emoji_Modifier}\x{2800}\x{1d159}\x{fff9}-\x{fffc}"
_LONG_O = "\u0254(?=\u02d0)"  # in a phonetic transcription, `f\u0254\u02d0k`; elsewhere it is read as c
_MU = "\u03bc"  # read as u by a step of its own, since it is also a unit
_LONGEST = 4  # characters that one character may become
_UNREAD = " \U0001f3f4 "  # stands for every picture that is not read as a word
_CLOSING = "\u2202"
# Some pictures are read as words only after one of these words, with at most two spaces between.
_CALLERS = "a an the you u ur your are is fat ugly dirty filthy stupid dumb little old like such these those of fucking"
_CALLING = "|".join(f"\\b{word} {{0,2}}." for word in _CALLERS.split())
# Letters of other scripts are read as Latin ones next to these, Greek ones (`\u0394x`) only in words of three or more.
# Signs are read as letters inside words and at their beginning (not in `\u00a3bn`), currency signs also at the end.
_LATIN = "[A-Za-z]"
_NO_SCALE = r"(?!(?:bn|mn|tn|mil|pcm|pa|pw|ea)\b)"


def _between_letters(gap: str, n_letters: int) -> str:
    """Build the pattern of a separator between single Latin letters, as in `f|u|c|k`.

    Args:
        gap: Pattern of the separator, of a fixed length.
        n_letters: How many letters in a row must be separated; with fewer, the separator stays.
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
    # At least four single letters with a sign between them, with or without spaces; or at least three with two signs,
    # such as brackets.
    (_between_letters(_MARK, 4), ""),
    (_between_letters(f" {_MARK} ", 4), ""),
    (_between_letters(_ANY_MARK * 2, 3), ""),
    # At least three single letters in a row: `i d i o t`, `i.d.i.o.t`; not after an apostrophe or a slash.
    (
        rf"{_BLANK}(?:(?<=\A{_L}.|[^\w'\u2019/]{_L}.)(?={_L}{_BLANK}{_L}\b)"
        rf"|(?<=\A{_L}{_BLANK}{_L}.|[^\w'\u2019/]{_L}{_BLANK}{_L}.)(?={_L}\b))",
        "",
    ),
    # Signs: `sh!t`, `b@stard`, `@ss`, `a$$hole`, `$tupid`; not the end of a sentence, addresses, mentions, amounts.
    (r"(?<=\p{Ll})!(?=\p{Ll})", "i"),
    (rf"(?<={_L})@(?={_L}|\$)(?!{_L}[\w-]*\.{_L})|(?<!\w)@(?=[sS]{{2}}|\$\$)", "a"),
    (rf"(?<=\p{{Ll}}|\p{{Ll}}\$)\$(?!\$?\d)|(?<![\w$.])\$(?=\p{{Ll}}(?:{_L}|{_SIGN}))", "s"),
    *((_ANYWHERE.replace("#", digit), letter) for digit, letter in zip("0345789", "oeastbg", strict=True)),
    # 1 may be an l or an i. It is an l after a vowel, after another l, and at the start of a word before a vowel.
    (r"(?<=[aeiouAEIOU])11\b", "ll"),
    (rf"(?<=[aeiouAEIOU])1(?={_SIGN}{{0,2}}{_L})|(?<![\w.,@$])1(?=[aeouAEOU]{_L}{{2}})", "l"),
    (r"(?<=[lL])1(?!\d)", "l"),
    (_ANYWHERE.replace("#", "1"), "i"),
    # The same letter at least three times becomes two where that makes common words, otherwise one (`stuuuupid`). Words
    # of a single letter (`www`) and Roman numerals stay as they are.
    (
        r"[sSgGlLoO](?i:(?<=[au].|[kp]i.)(?<=s)s*(?=ss)|(?<=[ai]g)g*(?=gg)|(?<=[aeiu]l)l*(?=ll)"
        r"|(?<=[bgl]o)o*(?=oo[bdk]))",
        "",
    ),
    (rf"(?i)(?!\b({_L})\1+\b)(?!(?<=[vx])iii?\b)({_L})\2+(?=\2)", ""),
)


def _beside_latin(letters: str, all_letters: str) -> str:
    """Build the pattern of letters of other scripts next to Latin ones, directly or through more such letters.

    It begins with the letters, so a text without them is passed over fast. The `.` at the end of a lookbehind is the
    letter itself.
    """
    other = f"[{all_letters}]"
    before = "|".join(f"{_LATIN}{other * n}." for n in range(3))
    return (
        f"[{letters}](?:(?<!\\p{{Greek}})(?:(?<={before})|(?={other}{{0,6}}{_LATIN}))"
        f"|(?<={_LATIN}{_LATIN}.)|(?<={before})(?={_LATIN}|{other})|(?<={other}.)(?={_LATIN})"
        f"|(?={other}{{1,6}}{_LATIN}|{_LATIN}(?:{_LATIN}|{other})))"
    )


def _signs_in_words(signs: str, all_signs: str) -> str:
    """Build the pattern of signs that stand for a letter of a word, next to letters or other such signs."""
    other = f"[{all_signs}]"
    pattern = (
        f"[{signs}](?:(?<={_LATIN}.)(?={_LATIN}|{other})|(?<={other}.)(?={_LATIN})"
        f"|(?<![\\w.,$].)(?={_LATIN}{{2}}|{_LATIN}{other}|{other}{_LATIN}){_NO_SCALE})"
    )
    if closing := "".join(sign for sign in signs if unicodedata.category(sign) == "Sc" or sign in _CLOSING):
        pattern += f"|[{closing}](?<={_LATIN}{{2}}.|{_LATIN}{other}.)(?!\\w|{other}\\w|{other}{other})"
    return pattern


def _pictures_in_words(pictures: str, all_pictures: str) -> str:
    """Build the pattern of one or two pictures that stand for letters between two other letters."""
    other = f"[{all_pictures}]"
    return f"[{pictures}](?:(?<={_LATIN}.)(?={other}?{_LATIN})|(?<={_LATIN}{other}.)(?={_LATIN}))"


def _in_mixed_words(letters: str) -> str:
    """Build the pattern of Cyrillic letters in words that also hold other letters, at most four letters away."""
    cyrillic = r"\x{400}-\x{45f}"
    other = f"[\\p{{L}}&&[^{cyrillic}]]"
    before = "|".join(f"{other}[{cyrillic}]{{{n}}}." for n in range(4))
    return f"[{letters}](?:(?<={before})|(?=[{cyrillic}]{{0,3}}{other}))"


@dataclass(frozen=True)
class _Looks:
    """How letters are read by their looks: one table of single characters, and the steps before and after it."""

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
    # The pictures that are left do not stand for letters.
    after += [(picture, f" {picture} ") for picture in sorted(pictures)]
    return _Looks(tuple(before), compile_table(_whole_table(found)), tuple(after))


def _by_latin(letters: Mapping[str, str]) -> dict[str, str]:
    """Map each small Latin letter to all characters of either case that are read as it, so one pass is enough."""
    found: dict[str, str] = {}
    for letter, latin in letters.items():
        found[latin.lower()] = found.get(latin.lower(), "") + letter
    return found


def _whole_table(found: Letters) -> dict[str, str]:
    """List every character that is not read as Unicode decomposes it, with what it is read as.

    A bracketed sign is read without its brackets; an emoji is read as its name or as itself, with spaces around it. A
    decomposition of more than four characters, such as that of an Arabic greeting, is cut there.
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
    """Find the marks and format characters that the tokenizer's own step for accents does not know yet."""
    from tokenizers import normalizers

    strip = normalizers.StripAccents().normalize_str
    kinds = ("Mn", "Mc", "Me", "Cf")
    characters = (chr(place) for place in range(0x80, sys.maxunicode + 1))
    return "".join(one for one in characters if unicodedata.category(one) in kinds and strip(one))


def _flag_pattern() -> str:
    """Build the pattern of a single flag; regional indicators next to others, spaced or not, are letters."""
    gap = r"[\s\p{Default_Ignorable_Code_Point}]"
    apart = f"(?<!\\p{{RI}}|\\p{{RI}}{gap}|\\p{{RI}}{gap}{gap})"
    return f"{apart}(?:{'|'.join(sorted(find_flags()))})(?!{gap}{{0,2}}\\p{{RI}})"


def reading_steps() -> list[Any]:
    """Build the normalisers of `tokenizers`, in order, that read disguised words as plain ones.

    Each takes time in proportion to a text's length.

    Raises:
        MissingExtraError: a package with the looks of characters is not installed.
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
    """Give a fast tokenizer additional first steps that read disguised words as plain ones.

    The steps, before the tokenizer's own normalisation:

    - letters that look like Latin ones are read as these (`looks`);
    - accents and compatibility forms (Unicode's NFKD: full-width, circled, mathematical letters) become plain letters;
    - some emoji are read as words, and invisible characters are dropped;
    - single letters in a row are joined;
    - digits and signs inside words are read as letters;
    - a letter that is repeated three times or more is read once, or twice where that makes a common word.

    The steps are part of `tokenizer.json`, so every backend applies them. Offsets still refer to the text as it was
    written. The model can no longer read Russian or Greek text, so this is for English models only.

    Args:
        tokenizer: A fast tokenizer; its own normalisation is changed.

    Returns:
        A tokenizer of the general class. The classes of single architectures build their normalisation again when
        they are loaded, and would lose the steps.

    Raises:
        MissingExtraError: as in `reading_steps`.
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
