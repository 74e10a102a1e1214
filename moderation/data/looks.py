"""Characters by their looks: which letter or word does a person see, if any?

The sources are Unicode's names of characters, their decompositions, and the confusables of its Technical Standard 39;
and the alphabets of "fancy text" generators, whose makers chose the characters by their shapes.
"""

# ruff: noqa: RUF001 -- these letters are here because they are easily confused

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from moderation.errors import MissingExtraError

LATIN = "abcdefghijklmnopqrstuvwxyz"

# Letters that look like Latin ones in common fonts. They take precedence over all other sources.
_CYRILLIC = ("авсԁеԍһніјкӏмпорԛгѕтѵԝхуАВСЕНІЈКМОРԚЅТѴԜХУ", "abcdeghhijklmnopqrstvwxyABCEHIJKMOPQSTVWXY")
_GREEK = ("αεηικνορτυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "aenikvoptuxABEZHIKMNOPTYX")
_LATIN_SHAPES = ("ıɑɡɩʟɴʀ", "iagilnr")
LOOKALIKES: Mapping[str, str] = {
    letter: latin
    for letters, latins in (_CYRILLIC, _GREEK, _LATIN_SHAPES)
    for letter, latin in zip(letters, latins, strict=True)
}

# Alphabets of "fancy text" generators, from a to z.
_ALPHABETS = (
    "αв¢∂єƒgнιנкℓмησρqяѕтυνωχуz",
    "αβ¢δεƒghιנκλмηθρqгѕτυvωχγζ",
    "ค๒ς๔єŦﻮђเןкɭ๓ภ๏קợгรՇยשฬאץչ",
    "ค๒ƈɗﻉिﻭɦٱﻝᛕɭ๓กѻρ۹ɼรՇપ۷ฝซץչ",
    "ąცƈɖɛʄɠɧıʝƙƖɱŋơ℘զཞʂɬų۷ῳҳყʑ",
    "ǟɮƈɖɛʄɢɦɨʝӄʟʍռօքզʀֆȶʊʋաӼʏʐ",
    "ᏗᏰፈᎴᏋᎦᎶᏂᎥᏠᏦᏝᎷᏁᎧᎮᎤᏒᏕᏖᏬᏉᏇጀᎩፚ",
    "卂乃匚ᗪ乇千Ꮆ卄丨ﾌҜㄥ爪几ㄖ卩Ɋ尺丂ㄒㄩᐯ山乂ㄚ乙",
    "丹乃匚刀乇下厶卄工丁长乚从几口尸㔿尺丂丅凵リ山乂丫乙",
    "ᗩᗷᑕᗪᗴᖴᘜᕼᓰᒍᛕᒪᗰᑎᝪᑭᑫᖇᔕTᑌᐯᗯ᙭Ꭹᘔ",
    "ᗩᗷᑢᕲᘿᖴᘜᕼᓰᒚᏦᒪᘻᘉᓍᕵᕴᖇSᖶᑘᐺᘺ᙭ᖻᗱ",
    "ԹՅՇԺȝԲԳɧɿʝƙʅʍՌԾρφՐՏԵՄעաՃՎՀ",
    "ꍏꌃꉓꀸꍟꎇꁅꃅꀤꀭꀘ꒒ꂵꈤꂦꉣꆰꋪꌗ꓄ꀎꃴꅏꊼꌩꁴ",
    "ΛBᄃDΣFGΉIJKᄂMПӨPQЯSƬЦVЩXYZ",
    "ДБCDΞFGHIJҜLMИФPǪЯSΓЦVЩЖУZ",
    "ꋫꃃꏸꁕꍟꄘꁍꑛꂑꀭꀗ꒒ꁒꁹꆂꉣꁸ꒓ꌚ꓅ꐇꏝꅐꇓꐟꁴ",
    "ልጌርዕቿቻኗዘጎጋጕረጠክዐየዒዪነፕሁሀሠሸሃጊ",
    "მჩƈძεբցհίʝƙlოղօρզɾʂԵմνωχվz",
    "ꪖ᥇ᥴᦔꫀᠻᧁꫝ꠸꠹ᛕꪶꪑꪀꪮρᑫ᥅ᦓꪻꪊꪜ᭙᥊ꪗɀ",
    "αႦƈԃҽϝɠԋιʝƙʅɱɳσρϙɾʂƚυʋɯxყȥ",
    "ᗅᗷᑕᗞᕮᖴᘜᕼᓰᒍᛕᒪᗰᑎOᑭᑫᖇᔕTᑌᐯᗯ᙭ᖻᘔ",
    "ᎪᏴᏟᎠᎬᎰᏀᎻᏆᎫᏦᏞᎷᏁᎾᏢQᎡᏚᎢᏌᏙᎳXᎩᏃ",
    "ⲁⲃⲥⲇⲉϥⳓⲏⲓϳⲕⳑⲙⲛⲟⲣqⲅⳋⲧuvⲱⲭⲩⲍ",
    "𐌰𐌱𐌂𐌳𐌴𐍆𐌾𐌷𐌹J𐌺𐌻𐌼𐌽𐍈𐍀𐌵𐍂𐍃𐍄𐌿V𐍅𐍇Y𐌶",
    "𐌀𐌁𐌂𐌃𐌄𐌅G𐌇𐌉J𐌊𐌋𐌌𐌍𐌏𐌐𐌒𐌓𐌔𐌕𐌖V𐌅𐌗𐌙𐌆",
    "ᚨᛒᚲᛞᛖᚠᚷᚺᛁᛃᚴᛚᛗᚾᛟᛈQᚱᛋᛏᚢᚡᚹXᚤᛉ",
)
# Signs that have a use of their own are read as letters only within words.
_SIGNS: Mapping[str, str] = {
    "a": "\u20b3",
    "b": "\u0e3f\u20bf",
    "c": "\u00a2\u20b5\u00a9",
    "d": "\u2202",
    "e": "\u20ac\u2208\u2203",
    "f": "\u20a3",
    "g": "\u20b2",
    "k": "\u20ad",
    "l": "\u00a3\u20a4",
    "m": "\u20a5",
    "n": "\u20a6\u2229",
    "o": "\u25ef\u2b55\u25cb\u25cf",
    "p": "\u20b1",
    "r": "\u00ae",
    "s": "\u20b4\u00a7\u222b\U0001f4b2",
    "t": "\u20ae\u2020\u271d",
    "u": "\u222a",
    "v": "\u221a",
    "w": "\u20a9",
    "x": "\u00d7\u2717\u2718\u274c",
    "y": "\u00a5",
}

# Scripts whose letters are read as Latin ones everywhere, by the first word of a character's name. Letters of other
# scripts, which people write their languages in, are read so only next to Latin ones.
_SCRIPTS = """CANADIAN CARIAN CHEROKEE COPTIC CYRILLIC DESERET GOTHIC LATIN LISU LYCIAN LYDIAN MATHEMATICAL MODIFIER OLD
OSAGE RUNIC TIFINAGH VAI WARANG YI"""
_EVERYWHERE = frozenset(_SCRIPTS.split())
_BOXES = "CIRCLED|SQUARED|PARENTHESIZED|BRACKETED"
_SHAPES = (
    "TURNED|REVERSED|INVERTED|OPEN|SCRIPT|DOTLESS|INSULAR|SIDEWAYS|BARRED|BLACKLETTER|LONG|CLOSED|STIRRUP|ROTUNDA|"
    "GLOTTAL|SIGMOID|STRETCHED|VISIGOTHIC|ANGLICANA|HALF|VOLAPUK|LONG-LEGGED|SMALL|CAPITAL|DOUBLE|TOP|BOTTOM|BROKEN"
)
_NAMED = re.compile(
    rf"(?:REGIONAL INDICATOR SYMBOL LETTER|(?:[A-Z-]+ )*(?:{_BOXES}) LATIN (?P<box>CAPITAL|SMALL) LETTER"
    r"|LATIN LETTER(?P<small> SMALL CAPITAL)?|(?:MODIFIER LETTER|(?:LATIN SUBSCRIPT )?LATIN) (?P<case>CAPITAL|SMALL)"
    r"(?: LETTER)?)"
    rf"(?: (?:{_SHAPES}))*"
    r" (?P<letter>[A-Z]|ALPHA|IOTA|UPSILON|ENG|SCHWA|EZH|ETH|KRA|CHI|BETA|OMEGA)(?: (?:WITH|ROTUNDA|LONGA) .*)?"
)
_SQUARED_WORD = re.compile("(?:NEGATIVE )?SQUARED ([A-Z]{2,4})")  # such as `SQUARED OK`
_SOUNDS = {"ALPHA": "a", "IOTA": "i", "UPSILON": "u", "ENG": "n", "SCHWA": "e", "EZH": "z", "ETH": "d", "KRA": "k"}
_SOUNDS |= {"CHI": "x", "BETA": "b", "OMEGA": "w"}
# Letters that generators use for another letter than the one in their names.
_USED_AS = {"\u0254": "c", "\u0186": "C", "\u025f": "f", "\u0183": "g", "\u0284": "f", "\u0185": "b"}
_USED_AS |= {"\u0492": "F", "\u0493": "f"}

# Emoji that people use as words of abuse and threats, by their names. All others remain signs that the model does not
# know: if the emoji in "You are such a \U0001f98b" were read as a word, the sentence would look hostile.
_MEANT = {
    "middle finger": "fuck",
    "pile of poo": "shit",
    "clown face": "clown",
    "kitchen knife": "knife",
    "water pistol": "gun",
    "drop of blood": "blood",
    "crossed swords": "swords",
}
_NAMES_READ = """axe bomb boy chains coffin dagger eggplant girl gorilla hammer man monkey ogre orangutan snake syringe
troll woman zombie"""
_READ = frozenset(_NAMES_READ.split())
# Read as words only if somebody is called so; otherwise they are ornaments.
_CALLED = {"wastebasket": "trash", "pig face": "pig", "cow face": "cow", "rat": "rat", "mouse face": "mouse"}
_NAMES_CALLED = "cockroach cow donkey pig toilet turkey whale worm skunk sloth"
_CALLED |= {word: word for word in _NAMES_CALLED.split()}
_FIRST_PICTURE = 0x2600  # arrows, clocks and signs come before it


@dataclass(frozen=True)
class Letters:
    """Characters that look like Latin letters, with these letters. Case is kept if there is one.

    Args:
        everywhere: Characters that are read as Latin ones everywhere.
        russian: Further Cyrillic letters, which are read as Latin ones only in words that also hold letters of other
            alphabets; otherwise whole sentences in these languages would become Latin.
        beside: Characters that are read as Latin ones only next to Latin letters: letters of other scripts that people
            write in, and signs such as those of currencies.
    """

    everywhere: dict[str, str]
    russian: dict[str, str]
    beside: dict[str, str]


def find_letters() -> Letters:
    """Find the characters that look like Latin letters.

    Raises:
        MissingExtraError: the package with Unicode's confusables is not installed.
    """
    everywhere: dict[str, str] = {}
    russian: dict[str, str] = {}
    beside = {letter: latin for latin, letters in _SIGNS.items() for letter in letters}
    for character, latin in _candidates():
        if character.isascii() or character in beside or character in everywhere:
            continue
        if "\u0400" <= character <= "\u045f" and character not in LOOKALIKES:
            russian.setdefault(character, latin)
            continue
        script = unicodedata.name(character, "").split(" ")[0]
        boxed = unicodedata.category(character) == "So"
        (everywhere if script in _EVERYWHERE or boxed or character in LOOKALIKES else beside)[character] = latin
    # Add the other case of each letter, except of Greek and Cyrillic ones, where it may look different.
    for found in (everywhere, beside):
        for letter, latin in list(found.items()):
            if unicodedata.name(letter).startswith(("GREEK", "CYRILLIC")):
                continue
            for other, same in ((letter.lower(), latin.lower()), (letter.upper(), latin.upper())):
                if (
                    len(other) == 1
                    and not other.isascii()
                    and not any(other in known for known in (everywhere, russian, beside))
                ):
                    found[other] = same
    return Letters(everywhere, russian, beside)


@dataclass(frozen=True)
class Pictures:
    """Emoji of one character.

    Args:
        read: Each emoji with the word that it is read as, or with itself.
        called: Emoji that are read as words only if somebody is called so.
    """

    read: dict[str, str]
    called: tuple[str, ...]


def find_pictures() -> Pictures:
    """Find the emoji, and which of them people use as words.

    Raises:
        MissingExtraError: the package with their names is not installed.
    """
    names = {
        picture.removesuffix("\ufe0f"): str(facts["en"]).strip(":").replace("_", " ").lower()
        for picture, facts in _load_emoji().items()
        if len(picture.removesuffix("\ufe0f")) == 1 and ord(picture[0]) >= _FIRST_PICTURE
    }
    words = {name: name for name in _READ} | _MEANT | _CALLED
    read = {picture: words.get(name, picture) for picture, name in names.items()}
    return Pictures(read, tuple(picture for picture, name in names.items() if name in _CALLED))


def find_squared_words() -> dict[str, str]:
    """Find the signs that show a word of two to four letters in a square, with these words."""
    names = {chr(place): unicodedata.name(chr(place), "") for place in range(0x1F100, 0x1F200)}
    found = {sign: _SQUARED_WORD.fullmatch(name) for sign, name in names.items()}
    return {sign: word[1].lower() for sign, word in found.items() if word}


def find_flags() -> list[str]:
    """Find the pairs of regional indicators that are the flag of a country.

    Raises:
        MissingExtraError: as in `find_pictures`.
    """
    return [
        pair for pair in _load_emoji() if len(pair) == 2 and all("\U0001f1e6" <= half <= "\U0001f1ff" for half in pair)
    ]


def _load_emoji() -> Mapping[str, Any]:
    try:
        from emoji import EMOJI_DATA
    except ImportError:
        raise MissingExtraError("Reading emoji as words", "train") from None
    return dict(EMOJI_DATA)


def _candidates() -> Iterator[tuple[str, str]]:
    """Yield characters with the Latin letters that they look like, the most reliable source first."""
    yield from LOOKALIKES.items()
    yield from _USED_AS.items()
    for place in range(0x80, sys.maxunicode + 1):
        found = _NAMED.fullmatch(unicodedata.name(chr(place), ""))
        if found and (found["box"] or reduce_forms(chr(place)) == chr(place)):
            latin = _SOUNDS.get(found["letter"], found["letter"]).lower()
            small = found["small"] or "SMALL" in (found["case"], found["box"])
            yield chr(place), latin if small else latin.upper()
    yield from _confusables()
    for alphabet in _ALPHABETS:
        for letter, latin in zip(alphabet, LATIN, strict=True):
            yield from (
                (character, latin) for character in reduce_forms(letter) if unicodedata.category(character)[0] in "LN"
            )


def _confusables() -> Iterator[tuple[str, str]]:
    try:
        from confusable_homoglyphs.confusables import confusables_data
    except ImportError:
        raise MissingExtraError("Reading look-alike letters", "train") from None
    for latin in (*LATIN, *LATIN.upper()):
        twins = [twin["c"] for twin in confusables_data.get(latin, [])]
        for twin in twins:
            if len(twin) == 1 and unicodedata.category(twin) in ("Ll", "Lu", "Lo") and reduce_forms(twin) == twin:
                # Unicode lists the confusables of I with those of l.
                is_i = unicodedata.category(twin) == "Lu" or unicodedata.name(twin).endswith((" I", "IOTA", "IAUDA"))
                yield twin, "I" if latin == "l" and is_i else latin
    # A letter with a stroke is listed as confusable with the plain letter and a mark.
    for letter, twins in confusables_data.items():
        if len(letter) == 1 and unicodedata.category(letter)[0] == "L" and reduce_forms(letter) == letter:
            for twin in twins:
                plain = reduce_forms(twin["c"])
                if len(plain) == 1 and plain.isascii() and plain.isalpha():
                    yield letter, plain


def reduce_forms(text: str) -> str:
    """Remove compatibility forms and marks, as the tokenizer's own steps do."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if unicodedata.category(letter)[0] != "M")
