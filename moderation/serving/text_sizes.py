"""How much work texts are, told before they are cut, at a price that does not depend on what they hold."""

import re
import unicodedata
from collections.abc import Sequence

LONG = 20_000
"""Characters of a request that is cut in a thread of its own, so that no short one waits for it."""

_CHARACTERS_PER_TOKEN = 3  # rather too few than too many
_PIECE = 1_000
_EMOJI = re.compile(  # and other signs that stand for words
    r"[\u2194-\u21ff\u2300-\u23ff\u2600-\u27bf\u2900-\u2bff\u3030\u303d\u3200-\u33ff\U0001f000-\U0001fbff]"
)
_IDEOGRAPH = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")  # a token each, between blanks
_LONGEST_NAME = 12  # characters of the words that a tokenizer may read in place of an emoji


def measure(texts: Sequence[str]) -> tuple[int, bool]:
    """About how many tokens texts have, and whether they are long.

    What counts is their length as a tokenizer reads them: of one letter 18 may become, of an emoji a word. Of long
    texts the beginning is looked at, and the rest is taken to be like it.

    >>> measure(["kind river"]), measure(["kind river " * 2000]), measure(["\ufdfa" * 2000])
    ((5, False), (7335, True), (12002, True))
    """
    n_characters = n_tokens = 0
    for text in texts:
        length = len(text) if text.isascii() or n_characters > LONG else _normalised_length(text)
        n_characters += length
        n_tokens += length // _CHARACTERS_PER_TOKEN + 2
    return n_tokens, n_characters > LONG


def _normalised_length(text: str) -> int:
    """At most so many characters a text has when it is normalised; an estimate where that is long."""
    length = end = 0
    while end < len(text) and length <= LONG:
        piece = text[end : end + _PIECE]
        length += len(unicodedata.normalize("NFKD", piece))
        length += (_LONGEST_NAME - 1) * len(_EMOJI.findall(piece)) + 2 * len(_IDEOGRAPH.findall(piece))
        end += len(piece)
    return length * len(text) // end
