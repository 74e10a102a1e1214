"""Names that want to be more than names: for a terminal, a page, a shell, a template, a spreadsheet."""

import random
import re
import unicodedata

OBEYED = (
    "\x1b[2J\x1b[1;1H",  # clears the screen
    "\x1b[31mred\x1b[0m",
    "\x1b]8;;https://evil.example\x1b\\here\x1b]8;;\x1b\\",  # a link
    "\x1b]52;c;cm0gLXJmIH4=\x07",  # fills the clipboard
    "\x1b]0;title\x07",
    "\x1bP+q544e\x1b\\",  # asks the terminal, which types the answer
    "\x1b[A\x1b[2Kmoderation: all is well",
    "\x9b2J",  # the same in one character of C1
    "\x9d0;title\x9c",
    "\x85next",
    "over\rwritten",
    "back\x08\x08space",
    "bell\x07",
    "line\nmoderation: all is well",
    "tab\tstop",
    "form\x0cfeed\x0b",
    "delete\x7f",
    "nul\0",
    "\u202egnp.exe",
    "a\u2066b\u2069",
    "\u061c\u200e\u200f",
    "line\u2028paragraph\u2029",
    "tag\U000e0041\U000e007f",
    "\ufff9note\ufffaof\ufffb",
    "zero\u200bwidth\ufeff",
    "\udc9b2J",  # as Python holds a byte that is not UTF-8
    "\ud83d",
)
"""Refused as names of labels, and never sent to a terminal."""

SHOWN = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title><style>*{display:none}</style>",
    "javascript:alert(1)",
    "[here](https://evil.example)",
    "![x](https://evil.example/p.png)",
    "https://evil.example",
    "www.evil.example",
    "a | b | c",
    "a\\|b",
    "`code` **bold** _em_ ~~gone~~",
    "# heading",
    "---",
    "&lt;b&gt;",
    "{{ 7 * 7 }}",
    "{% for x in y %}",
    "{0.__class__}",
    "%s%n%(a)s",
    "$(reboot)",
    "`reboot`",
    "; rm -rf ~ #",
    "$\\frac{1}{0}$",
    "$x$ and $$",
    '"quoted", and more',
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "+1+1",
    "-2+3",
    "\N{FULLWIDTH EQUALS SIGN}1+1",
    "../../etc/passwd",
    "__proto__",
    "e\u0301" * 20,
    "\N{PILE OF POO}",
    "x" * 200,
)
"""Names that may be, since people can read them, and that must stay names wherever they are shown."""

TOO_MUCH = ("x" * 10_000, "\u0301" * 5, " ", "")
"""Names of labels that are refused for other reasons."""

_LINES = re.compile(r"[\n\t]")
_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufff9\ufffa\ufffb")


def obeyed_in(text: str) -> set[str]:
    """Characters of an output that a terminal would obey; line feeds and tabs are an output's own."""
    return {
        character
        for character in _LINES.sub("", text)
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or character in _TURNS
        or 0xE0000 <= ord(character) <= 0xE007F
    }


def compose(rng: random.Random) -> str:
    """A name out of pieces of the others, with odd characters in between."""
    names = OBEYED + SHOWN
    pieces = []
    for _ in range(rng.randint(1, 5)):
        name = rng.choice(names)
        start = rng.randrange(len(name))
        pieces.append(name[start : start + rng.randint(1, 12)])
        pieces.append(rng.choice(["", " ", chr(rng.randrange(0x20)), chr(rng.randrange(0x7F, 0xA0)), "\u202e", "a"]))
    return "".join(pieces)
