"""Limits on what a tokenizer may do with a text, which its library would not stop."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from moderation.errors import ArtifactError
from moderation.inspection.tokenizer_rules import TokenizerFacts, check_tokenizer

_MOST_GROWTH = 24  # characters that one may become in normalisation; U+FDFA becomes 18
_ROOM = 256  # beyond that
_MOST_STEPS_OF_TEXT = 2 * 10**10  # of patterns whose work may grow with the square of a text, in steps: up to a minute


class TextLimits:
    """How long a tokenizer may make a text, and how long a text it may read. Safe to share between threads.

    Args:
        facts: From `check_tokenizer`.
        where: The tokenizer's file, for the messages.
    """

    def __init__(self, facts: TokenizerFacts, where: str) -> None:
        self._where = where
        self._n_open = facts.n_open
        self._growth = None if facts.is_bounded else _GrowthLimits(facts)
        self._is_bounded_for_ascii = facts.is_bounded_for_ascii

    def check(self, text: str, *, in_pieces: bool = True) -> None:
        """Check that a text can be normalised and cut into tokens in reasonable time and memory.

        Args:
            text: What to read.
            in_pieces: Whether it is first split at separators and each piece is normalised by itself.

        Raises:
            ArtifactError: the tokenizer could take too long for it, or makes it many times longer.
        """
        if self._n_open * len(text) ** 2 > _MOST_STEPS_OF_TEXT:
            raise ArtifactError(
                f"{self._where}: its {self._n_open} patterns may take too long for a word of {len(text):,} characters. "
                "Get it from a source that you trust."
            )
        self.check_growth(text, in_pieces=in_pieces)

    def check_growth(self, text: str, *, in_pieces: bool = True) -> None:
        """Only check that a text does not become many times longer; see `check`."""
        if self._growth is None or (self._is_bounded_for_ascii and text.isascii()):
            return
        if not self._growth.hold_for(text, in_pieces=in_pieces):
            raise ArtifactError(
                f"{self._where}: makes a text of {len(text):,} characters more than {_MOST_GROWTH} times longer. "
                "Get it from a source that you trust."
            )


def find_limits(tokenizer: Any, where: str) -> TextLimits | None:
    """The limits of a tokenizer of transformers, as it is now; None for a slow one, which has no steps to check.

    Raises:
        ArtifactError: it breaks the rules of `tokenizer_rules`.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    try:
        return TextLimits(check_tokenizer(backend.to_str().encode("utf-8", "surrogatepass")), where)
    except ValueError as error:
        raise ArtifactError(
            f"{where}: not a usable tokenizer ({error}). Get it from a source that you trust."
        ) from error


class _GrowthLimits:
    """Normalises step by step and stops when a text becomes much longer; the library itself would not stop."""

    def __init__(self, facts: TokenizerFacts) -> None:
        self.groups = [_as_normaliser(group) for group in _group(facts)]
        found = sorted(map(re.escape, facts.separators), key=len, reverse=True)
        self.separator = re.compile("|".join(found)) if found else None

    def hold_for(self, text: str, *, in_pieces: bool = True) -> bool:
        """Whether no step makes the text too long.

        Args:
            text: What to read.
            in_pieces: Whether it is first split at separators and each piece is normalised by itself.
        """
        parts = self.separator.split(text) if self.separator and in_pieces else [text]
        left = _MOST_GROWTH * len(text) + _ROOM  # for all pieces together, of which there may be many
        for part, n in Counter(part for part in parts if part).items():
            # A separator may take the blanks before it.
            left -= n * max(self._longest(one, left // n) for one in {part, part.rstrip()})
            if left < 0:
                return False
        return True

    def _longest(self, part: str, limit: int) -> int:
        """Characters of a piece after the step that leaves most of them, or after the first that leaves too many."""
        from tokenizers import NormalizedString

        text, longest = NormalizedString(part), len(part)
        for group in self.groups:
            group.normalize(text)
            longest = max(longest, len(text.normalized))
            if longest > limit:
                break
        return longest


def _group(facts: TokenizerFacts) -> Iterator[list[Mapping[str, object]]]:
    """Steps in their order, in groups that end with a step that may make a text longer."""
    group: list[Mapping[str, object]] = []
    for step, grows in zip(facts.steps, facts.growing, strict=True):
        group.append(step)
        if grows:
            yield group
            group = []


def _as_normaliser(steps: list[Mapping[str, object]]) -> Any:
    """A normaliser with only these steps; the library reads steps only as part of a tokenizer."""
    from tokenizers import Tokenizer

    content = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},  # nosec B105 # a token
    }
    return Tokenizer.from_str(json.dumps(content)).normalizer
