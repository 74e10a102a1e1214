"""Opens and uses a bundle's tokenizer within limits: whatever its file holds, the error names the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from moderation.artifacts import read_bytes
from moderation.errors import ArtifactError
from moderation.inspection.text_limits import TextLimits
from moderation.inspection.tokenizer_rules import MOST_BYTES, check_tokenizer


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
            self._limits = TextLimits(facts, str(path))
            for token in facts.normalised:  # each is normalised as a whole when the file is opened
                self._limits.check(token, in_pieces=False)
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
            self._limits.check(text)
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
            self._limits.check(text, in_pieces=False)
            return str(normaliser.normalize_str(text))

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
