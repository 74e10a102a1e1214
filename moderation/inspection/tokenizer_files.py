"""Opens and uses a bundle's tokenizer within limits: whatever its file holds, the error names the file."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import NormalizedString, Tokenizer

from moderation.artifacts import read_bytes
from moderation.errors import ArtifactError
from moderation.inspection.tokenizer_rules import MOST_BYTES, TokenizerFacts, check_tokenizer

_MOST_GROWTH = 24  # characters that one may become in normalisation; U+FDFA becomes 18
_ROOM = 256  # beyond that
_MOST_STEPS_OF_TEXT = 2 * 10**10  # of patterns whose work may grow with the square of a text, in steps: up to a minute


class BoundedTokenizer:
    """A tokenizer whose file obeys the rules of `tokenizer_rules`. Safe to share between threads.

    Args:
        path: `tokenizer.json`.

    Raises:
        ArtifactError: no tokenizer that can be read, or one that may hold up or crash the process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = read_bytes(path, MOST_BYTES)
            facts = check_tokenizer(content)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ArtifactError(
                f"{path}: not a usable tokenizer ({reason}); expected a tokenizer.json of a fast tokenizer."
            ) from error
        with self._naming("cannot be read"):
            self._n_open = facts.n_open
            self._limits = None if facts.is_bounded else _GrowthLimits(facts)
            self._is_bounded_for_ascii = facts.is_bounded_for_ascii
            for token in facts.normalised:  # each is normalised as a whole when the file is opened
                self._check_work(token, in_pieces=False)
            self.tokenizer: Any = Tokenizer.from_buffer(content)
            self.tokenizer.no_truncation()
            self.tokenizer.no_padding()
        self.highest_id = facts.highest_id

    def encode(self, text: str, *, add_special_tokens: bool = False, aside: bool = False) -> Any:
        """Tokens of a short text.

        Args:
            text: What to read.
            add_special_tokens: Whether to add those around a text.
            aside: Let other threads run meanwhile. It may start its own threads, which a fork would not have; without
                it, which is fastest, no other Python thread runs.

        Raises:
            ArtifactError: the tokenizer fails on this text, or makes it many times longer.
        """
        with self._naming("fails on a text"):
            self._check_work(text)
            if aside:
                return self.tokenizer.encode_batch([text], add_special_tokens=add_special_tokens)[0]
            return self.tokenizer.encode(text, add_special_tokens=add_special_tokens)

    def normalise(self, text: str) -> str:
        """The normalised text, before it is cut into tokens.

        Raises:
            ArtifactError: as in `encode`.
        """
        if (normaliser := self.tokenizer.normalizer) is None:
            return text
        with self._naming("fails on a text"):
            self._check_work(text, in_pieces=False)
            return str(normaliser.normalize_str(text))

    def _check_work(self, text: str, *, in_pieces: bool = True) -> None:
        if self._n_open * len(text) ** 2 > _MOST_STEPS_OF_TEXT:
            raise ArtifactError(
                f"{self.path}: its {self._n_open} patterns may take too long for a word of {len(text):,} characters. "
                "Get the bundle from a source that you trust."
            )
        if self._limits is None or (self._is_bounded_for_ascii and text.isascii()):
            return
        if not self._limits.hold_for(text, in_pieces=in_pieces):
            raise ArtifactError(
                f"{self.path}: makes a text of {len(text):,} characters more than {_MOST_GROWTH} times longer. "
                "Get the bundle from a source that you trust."
            )

    @contextmanager
    def _naming(self, what: str) -> Iterator[None]:
        """Turn what the Rust library raises into one error; its panics are not `Exception`s."""
        try:
            yield
        except (ArtifactError, MemoryError):
            raise
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise ArtifactError(
                f"{self.path}: the tokenizer {what} ({type(error).__name__}); expected a tokenizer.json of a fast "
                "tokenizer. Get the bundle from a source that you trust."
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
    content = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},  # nosec B105 # a token
    }
    return Tokenizer.from_str(json.dumps(content)).normalizer
