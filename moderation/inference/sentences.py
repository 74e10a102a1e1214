r"""Text -> sentences, as spans of characters.

Uses rules, in one pass over the marks that may end a sentence. Libraries know more abbreviations, but those that we
tried take quadratic time, or fail on some texts.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import islice

_ABBREVIATIONS = frozenset(
    ("capt", "dr", "e.g", "gen", "gov", "i.e", "lt", "mr", "mrs", "ms", "mt", "prof", "rep", "sen", "sgt", "st", "vs")
)
# Whether these end a sentence depends on the next word.
_END_OR_NOT = frozenset(
    ("a.m", "approx", "co", "corp", "dept", "etc", "fig", "inc", "jr", "ltd", "max", "min", "no", "nos", "p.m", "vol")
)
_STOPS = ".!?\u2026\u203c-\u2049\u0589\u061f\u06d4\u0964\u0965\u104b\u1362\u166e\u1803\u1809\u203d\u2e2e"
_WIDE_STOPS = "\u3002\uff01\uff0e\uff1f\uff61"  # in scripts that put no blank after them
_CLOSERS = "\"'*_)\\]}\u00bb\u2019\u201d\u203a\u300d\u300f\u3009\u300b\u3011\uff09\uff63"
_LINE_ENDS = r"\n\v\f\r\x85\u2028\u2029"
_MARK = re.compile(f"[{_LINE_ENDS}{_STOPS}{_WIDE_STOPS}]")
_END = re.compile(rf"(?P<line>[{_LINE_ENDS}]\s*+)|(?P<marks>[{_STOPS}{_WIDE_STOPS}]++)(?P<closers>[{_CLOSERS}]*+)")
_BLANKS = re.compile(r"\s*+")
_LAST_WORD = re.compile(r"[\w.]*+$")
_WORD_LENGTH = 12  # characters before a full stop that may be an abbreviation
_MARKS_OF_EACH = 16  # marks examined per possible sentence: in URLs, numbers and initials, most end no sentence
_MARKS_AT_LEAST = 200
_AT_ONCE = 1 << 16  # characters to search at once: no other thread runs meanwhile
_INITIALS = re.compile(r"[A-HJ-Z]|(?:[^\W\d_]\.)+[^\W\d_]")


def split_sentences(text: str, *, most: int | None = None) -> list[tuple[int, int]]:
    """Find the sentences of a text.

    A sentence ends after its full stop, exclamation mark or question mark and any closing quotes and brackets, if white
    space follows (in Chinese and Japanese also without), and at the end of a line. It does not end after an
    abbreviation, an initial or a list number, nor before a lower-case letter if the mark is an ellipsis or is within
    quotes or brackets.

    Args:
        text: Of any length and script; the time is linear in its length.
        most: Maximum number of sentences, 1 or more; the last one then contains all the rest. It also limits the work:
            16 possible end marks per sentence are examined (200 at least). None: any number.

    Returns:
        Begin and end of each sentence in characters (code points), end excluded, without white space at its edges. Each
        character that is not white space is in exactly one of them.

    >>> text = 'He paid 3.5 euro. "Go away!" said Mr. Fox...'
    >>> [text[begin:end] for begin, end in split_sentences(text)]
    ['He paid 3.5 euro.', '"Go away!" said Mr. Fox...']
    """
    spans: list[tuple[int, int]] = []
    begin = 0
    n_marks = None if most is None else max(_MARKS_AT_LEAST, _MARKS_OF_EACH * most)
    for found in islice(_find_marks(text), n_marks):
        if most is not None and len(spans) >= most - 1:
            break
        if found.start() < begin:  # a mark that was treated as part of the character before it
            continue
        end = found.end()
        if found["line"] is None:
            end = _behind_character(text, end)
            if not _ends_sentence(text, begin, found, end):
                continue
        spans += _without_blanks(text, begin, end)
        begin = end
    return spans + _without_blanks(text, begin, len(text))


def _find_marks(text: str) -> Iterator[re.Match[str]]:
    """Everything that may end a sentence, with its closing quotes and brackets."""
    begin = 0
    while begin < len(text):
        mark = _MARK.search(text, begin, begin + _AT_ONCE)
        found = _END.match(text, mark.start()) if mark else None
        begin = found.end() if found else begin + _AT_ONCE
        if found:
            yield found


def _ends_sentence(text: str, begin: int, found: re.Match[str], end: int) -> bool:
    if found["marks"][-1] in _WIDE_STOPS:
        return True
    if end < len(text) and not text[end].isspace():
        return False
    following = _BLANKS.match(text, end)
    before_small_letter = following is not None and text[following.end() : following.end() + 1].islower()
    if found["marks"] == ".":
        word = _word_before(text, begin, found.start())
        if word.lower() in _END_OR_NOT or found["closers"]:
            return not before_small_letter
        if word.isdecimal() and not text[begin : found.start()].removesuffix(word).strip():
            return False  # "1. Go home."
        return word.lower() not in _ABBREVIATIONS and not _INITIALS.fullmatch(word)
    soft = found["closers"] or "\u2026" in found["marks"] or found["marks"].endswith("..")
    return not (soft and before_small_letter)


def _word_before(text: str, begin: int, end: int) -> str:
    near = _LAST_WORD.search(text, max(begin, end - _WORD_LENGTH), end)
    return near[0] if near else ""


def _behind_character(text: str, end: int) -> int:
    """The next position from `end` on that does not separate a character from its combining marks and joiners."""
    while end < len(text) and (unicodedata.category(text[end])[0] == "M" or text[end] == "\u200d"):
        end += 1
    return end


def _without_blanks(text: str, begin: int, end: int) -> list[tuple[int, int]]:
    """The span without white space at its edges; empty list if nothing is left."""
    while begin < end and text[begin].isspace():
        begin += 1
    while begin < end and text[end - 1].isspace():
        end -= 1
    return [(begin, end)] if begin < end else []
