r"""Regular expressions of a tokenizer: an upper bound of their running time, found without running them.

The library that runs them backtracks and cannot be interrupted: `(a+)+$` on forty letters takes minutes. So a bundle's
patterns are examined first, and those that may take more than about the square of a text's length are refused.
"""

import re
from typing import NamedTuple

from moderation.escapes import escape_name

_REPEATS = 1_000  # what a repetition without an end counts as
_MOST_REPEATS = 100_000  # that the library takes
_MOST = 10**12  # numbers stop here; far beyond what is allowed
_DEEPEST = 24  # groups within groups

# Notation that is certainly read as Oniguruma reads it. Anything else is refused, such as `{,}` or seven digits, which
# Oniguruma takes literally.
_QUANTIFIER = re.compile(r"[*+?]|\{([0-9]{1,6})\}|\{(?!,\})([0-9]{0,6}),([0-9]{0,6})\}")
_PLAIN = re.compile(r"[^\[\]\\]+")
_GROUP = re.compile(r"\(\?(?:(=|!|<=|<!)|(>)|([im]*(?:-[im]+)?):|<[A-Za-z_]\w{0,31}>)", re.ASCII)
_FLAGS = re.compile(r"\(\?(?:[im]+(?:-[im]+)?|-[im]+)\)")
_NAMED_CLASS = re.compile(
    r"\[:\^?(?:alnum|alpha|ascii|blank|cntrl|digit|graph|lower|print|punct|space|upper|word|xdigit):\]"
)
_OF_ONE_CHARACTER = (
    r"[pP]\{\^?[A-Za-z][A-Za-z_ ]*\}|x\{[0-9a-fA-F]{1,8}\}|x[0-7][0-9a-fA-F]"  # from \x80 on: of one byte
    r"|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}|[dDwWsShHntrfvae]|[-\[\](){}*+?.^$|/\\!\"#%&,:;=@_~ ]"
)
_ESCAPE = re.compile(rf"\\(?:(?P<anchor>[bBAzZG])|(?P<back>[1-9])(?!\d)|{_OF_ONE_CHARACTER})", re.ASCII)
_ESCAPE_IN_CLASS = re.compile(rf"\\(?:{_OF_ONE_CHARACTER}|')", re.ASCII)


class UnknownNotation(ValueError):
    """Notation that is not supported here; it may be valid."""


class Cost(NamedTuple):
    """What a piece of a pattern may cost at one position of a text.

    Args:
        width: Minimum number of characters that it matches.
        longest: Maximum number of characters that it matches.
        ways: In how many ways it may match.
        work: Steps until all of these are tried.
        once: Steps until it has matched or failed, with nothing after it.
        failing: Steps until it has failed; 0 if it never fails.
        foreign: Minimum number of characters beyond ASCII that it matches, in upper or lower case.
    """

    width: int
    longest: int
    ways: int
    work: int
    once: int
    failing: int
    foreign: int


_CHARACTER = Cost(1, 1, 1, 1, 1, 1, 0)
_FOREIGN = Cost(1, 1, 1, 1, 1, 1, 1)
_ANCHOR = Cost(0, 0, 1, 1, 1, 1, 0)
_NOTHING = Cost(0, 0, 1, 0, 0, 0, 0)


def measure(pattern: str) -> Cost:
    """Cost of a pattern at one position of a text.

    Raises:
        UnknownNotation: for example subexpression calls, conditions and comments.
        ValueError: not a regular expression, or one whose cost cannot be determined.

    >>> measure("[a-z]+ ?").once < 10_000 < measure("(a+)+$").once
    True
    """
    return read_pattern(pattern)[0]


def read_pattern(pattern: str) -> tuple[Cost, bool]:
    """Cost of a pattern at one position of a text, and whether it grows with the text (has an unlimited repetition).

    Raises:
        ValueError: as in `measure`.
    """
    reader = _Reader(pattern)
    return reader.read(), reader.is_open


def _cost(*numbers: int) -> Cost:
    """A cost with capped numbers."""
    return Cost(*(number if number < _MOST else _MOST for number in numbers))


class _Reader:
    """Reads a pattern in Oniguruma's notation from left to right."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.place = 0
        self.depth = 0
        self.refers_back = False
        self.is_open = False
        self.longest_group = 0

    def read(self) -> Cost:
        cost = self._alternatives()
        if self.place < len(self.pattern):
            raise ValueError("a closing bracket without an opening one")
        if self.refers_back and self.longest_group > 4:
            raise ValueError("a reference to a group of any length")
        return cost

    def _alternatives(self) -> Cost:
        """Cost of `a|b`. Flags apply to all of it, so they may only come before it."""
        if flags := _FLAGS.match(self.pattern, self.place):
            self.place = flags.end()
        branches = [self._branch()]
        while self._next() == "|":
            self.place += 1
            branches.append(self._branch())
        return _cost(
            min(branch.width for branch in branches),
            max(branch.longest for branch in branches),
            sum(branch.ways for branch in branches),
            sum(branch.work for branch in branches),
            sum(branch.once for branch in branches),
            0 if any(not branch.failing for branch in branches) else sum(branch.failing for branch in branches),
            min(branch.foreign for branch in branches),
        )

    def _branch(self) -> Cost:
        items = []
        while self._next() not in ("", "|", ")"):
            items.append(self._repeated())
        cost = _NOTHING
        for item in reversed(items):
            cost = _join(item, cost)
        return cost

    def _repeated(self) -> Cost:
        item = self._item()
        found = _QUANTIFIER.match(self.pattern, self.place)
        if not found:
            return item
        self.place = found.end()
        sign, exact, least, most = found[0], found[1], found[2], found[3]
        self.is_open |= sign in "*+" or sign.endswith(",}")
        if sign in "*+?":
            low, high = int(sign == "+"), (1 if sign == "?" else _REPEATS)
        elif exact is not None:
            low = high = int(exact)
        else:
            low, high = int(least or 0), int(most) if most else max(_REPEATS, int(least or 0))
        if self._next() == "?":  # as few as possible; of `{3}?` none
            self.place += 1
            low = 0 if exact is not None else low
        elif self._next() == "+" and sign in "*+?":  # as many as possible, for good
            self.place += 1
        if self._next() in ("*", "+", "?", "{"):
            raise ValueError("a repetition of a repetition")
        return _repeat(item, low, high)

    def _item(self) -> Cost:
        sign = self._next()
        if sign == "(":
            return self._group()
        if sign == "[":
            start = self.place
            self._skip_class()
            return _character(self.pattern[start + 1 : self.place - 1])
        if sign == "\\":
            return self._escape()
        if sign in "*+?":
            raise ValueError("a repetition of nothing")
        if sign in "{}]":
            raise UnknownNotation(f"{sign} without a backslash before it")
        self.place += 1
        return _ANCHOR if sign in "^$" else _character(sign)

    def _group(self) -> Cost:
        if _FLAGS.match(self.pattern, self.place):
            raise UnknownNotation("a flag after the beginning of a pattern or group")
        opening = _GROUP.match(self.pattern, self.place)
        if opening:
            self.place = opening.end()
        elif self.pattern[self.place + 1 : self.place + 2] in ("?", "*"):
            raise UnknownNotation(f"a group that begins with {escape_name(self.pattern[self.place : self.place + 3])}")
        else:
            self.place += 1
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} nested groups")
        inner = self._alternatives()
        if self._next() != ")":
            raise ValueError("a group without an end")
        self.place += 1
        self.depth -= 1
        if opening and opening[1]:  # looks around and takes nothing
            return _cost(0, 0, 1, *(inner.once + 1,) * 3, 0)
        if opening and opening[2]:
            return _cost(inner.width, inner.longest, 1, inner.once, inner.once, inner.failing, inner.foreign)
        if not opening or opening[3] is None:
            self.longest_group = max(self.longest_group, inner.longest)
        return inner

    def _escape(self, known: re.Pattern[str] = _ESCAPE) -> Cost:
        found = known.match(self.pattern, self.place)
        if not found:
            raise UnknownNotation(f"the escape {escape_name(self.pattern[self.place : self.place + 2])}")
        self.place = found.end()
        if known is _ESCAPE_IN_CLASS:
            return _CHARACTER
        if found["back"]:
            self.refers_back = True
            return _cost(0, 4, 1, 4, 4, 4, 0)
        return _ANCHOR if found["anchor"] else _CHARACTER

    def _skip_class(self) -> None:
        """Skip a set of characters, which may contain others."""
        depth = 0
        while True:
            sign = self._next()
            if sign == "":
                raise ValueError("a set of characters without an end")
            if sign == "\\":
                self._escape(_ESCAPE_IN_CLASS)
                continue
            if depth and self.pattern.startswith("[:", self.place):
                named = _NAMED_CLASS.match(self.pattern, self.place)
                if not named:
                    raise UnknownNotation("[: in a set of characters")
                self.place = named.end()
                continue
            if plain := _PLAIN.match(self.pattern, self.place):
                self.place = plain.end()
                continue
            self.place += 1
            if sign == "[":
                depth += 1
                self.place += self._next() == "^"
                if self._next() == "]":
                    raise ValueError("an empty set of characters")
            elif sign == "]":
                depth -= 1
                if not depth:
                    return

    def _next(self) -> str:
        return self.pattern[self.place : self.place + 1]


def _character(signs: str) -> Cost:
    """Cost of a character, or of one of a set: beyond ASCII if none of them is ASCII in upper or lower case."""
    return _CHARACTER if any(map(str.isascii, signs + signs.casefold() + signs.lower() + signs.upper())) else _FOREIGN


def _join(item: Cost, rest: Cost) -> Cost:
    """Cost of two consecutive pieces: if the second fails, it is tried again for each way of the first."""
    return _cost(
        item.width + rest.width,
        item.longest + rest.longest,
        item.ways * rest.ways,
        item.work + item.ways * rest.work,
        (item.work + item.ways * rest.failing if rest.failing else item.once) + rest.once,
        item.work + item.ways * rest.failing if rest.failing else item.failing,
        item.foreign + rest.foreign,
    )


def _repeat(item: Cost, low: int, high: int) -> Cost:
    if low > high:
        raise ValueError("a repetition whose maximum is below its minimum")
    if high > _MOST_REPEATS:
        raise ValueError(f"a repetition of more than {_MOST_REPEATS:,} times")
    item = item._replace(work=max(1, item.work))  # an empty piece takes a step each time, too
    if item.ways == 1:
        ways, work = high - low + 1, item.work * high
        failing = item.work * (low - 1) + item.failing if low else 0
    else:
        ways, work, so_far = int(low == 0), 0, 1
        for n in range(1, high + 1):
            work = min(work + so_far * item.work, _MOST)
            so_far = min(so_far * item.ways, _MOST)
            ways = min(ways + so_far, _MOST) if n >= low else ways
            if work == _MOST:
                ways = _MOST
                break
        failing = 0 if not low else item.failing if low == 1 else work
    failing = failing if item.failing else 0
    return _cost(item.width * low, item.longest * high, ways, work, work, failing, item.foreign * low)
