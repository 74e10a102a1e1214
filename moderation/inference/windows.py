"""Text -> windows of tokens: nothing is cut off; a text longer than the encoder is read piece by piece.

Windows begin and end between words, and neighbouring windows share some words, so that words at the edge of one window
have their context in the next. Only a single word longer than a window is cut inside.
"""

import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from moderation.errors import ArtifactError
from moderation.inference.routing import Route
from moderation.inspection.tokenizer_files import BoundedTokenizer

_PIECE = 2_000  # characters that the tokenizer gets at once: one may become many tokens
_GAP = re.compile(r"(?<=\S{3})\s(?=\S{3})")  # between two words, but not between single, spaced letters
_END_OF_WORD = re.compile(r"[\W_]")
_LONGEST_WORD = 50_000  # ASCII characters, which normalisation does not lengthen; a longer word is cut inside
_GAP_WITHIN = 500  # characters at the end of a piece that are searched for a gap

Watch = Callable[[int], None]
"""Called with the number of tokens of a text so far; may raise to stop the work."""


@dataclass(frozen=True)
class Window:
    """A piece of a text that fits the encoder.

    Args:
        ids: Token ids, special ones included.
        start: Offset of its first character in the text.
        end: Offset after its last character.
        route: Language and model of its text.
    """

    ids: tuple[int, ...]
    start: int
    end: int
    route: Route = Route()


class Windows:
    """Cuts texts into windows of tokens. Safe to share between threads: the tokenizer's settings never change.

    Args:
        tokenizer_path: `tokenizer.json`.
        length: Tokens of the longest window, special ones included.
        overlap: Tokens that two neighbouring windows share, rounded down to whole words.
        content: Bytes of the file, if they were read before.

    Raises:
        ArtifactError: an unreadable tokenizer, or one whose special tokens leave no room in a window.

    Attributes:
        highest_id: The highest id of the tokenizer's tokens.
    """

    def __init__(self, tokenizer_path: Path, *, length: int, overlap: int, content: bytes | None = None) -> None:
        self._tokenizer = BoundedTokenizer(tokenizer_path, content)
        self.highest_id = self._tokenizer.highest_id
        self.prefix, self.suffix = self._special_tokens(tokenizer_path)
        self.room = length - len(self.prefix) - len(self.suffix)
        self.overlap = overlap
        if not 0 <= overlap < self.room:
            raise ArtifactError(
                f"{tokenizer_path}: windows of {length} tokens with an overlap of {overlap} leave no room for text; "
                "expected an overlap below the window's length."
            )

    def normalise(self, text: str) -> str:
        """A text as the tokenizer reads it, before it is cut into tokens."""
        return self._tokenizer.normalise(text)

    def cut(self, text: str, watch: Watch | None = None) -> list[Window]:
        """Cut one text; see `iterate`."""
        return list(self.iterate(text, watch))

    def iterate(self, text: str, watch: Watch | None = None) -> Iterator[Window]:
        """Cut one text; the work grows linearly with its length, and memory is a few bytes per token.

        A text of more than 2,000 characters is passed to the tokenizer in pieces that end at white space.

        Args:
            text: Of any length.
            watch: Called after each piece of the text. With it, other threads can run while the tokenizer works.

        Yields:
            At least one window: for a text without tokens, it holds only the special tokens. Together they hold every
            token of the text, in order.
        """
        ids, starts, ends, may_begin = self._tokens(text, watch)
        if len(ids) <= self.room:
            yield Window((*self.prefix, *ids, *self.suffix), 0, len(text))
            return
        for start, end in _ranges(may_begin, self.room, self.overlap):
            yield Window((*self.prefix, *ids[start:end], *self.suffix), starts[start], ends[end - 1])

    def _tokens(self, text: str, watch: Watch | None) -> "tuple[array[int], array[int], array[int], bytearray]":
        """Id, start and end offset of every token, and whether a word begins there (and after the last one)."""
        ids, starts, ends, may_begin = array("q"), array("q"), array("q"), bytearray()
        for first, piece in _pieces(text):
            encoding = self._tokenizer.encode(piece, aside=watch is not None)
            ids.extend(encoding.ids)
            starts.extend(first + start for start, _ in encoding.offsets)
            ends.extend(first + end for _, end in encoding.offsets)
            may_begin.extend(_beginnings(encoding.word_ids))
            if watch is not None:
                watch(len(ids))
        may_begin.append(1)
        return ids, starts, ends, may_begin

    def _special_tokens(self, tokenizer_path: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Token ids that the tokenizer puts before and after a text."""
        encoding = self._tokenizer.encode("a", add_special_tokens=True)
        n_text = len(self._tokenizer.encode("a").ids)
        if n_text and 0 in encoding.special_tokens_mask:
            n_before = encoding.special_tokens_mask.index(0)
        else:  # a vocabulary without letters: the special tokens of an empty text, half before and half after
            n_before, n_text = (len(encoding.ids) + 1) // 2, 0
        ids = tuple(encoding.ids)
        if len(ids) != n_text + self._tokenizer.tokenizer.num_special_tokens_to_add(False):
            raise ArtifactError(f"{tokenizer_path}: its special tokens are not before and after the text.")
        return ids[:n_before], ids[n_before + n_text :]


def cut_at_words(word_ids: Sequence[int | None], room: int, overlap: int) -> list[tuple[int, int]]:
    """Ranges of at most `room` tokens that cover all tokens, begin and end between words, and overlap.

    Args:
        word_ids: For each token the word that it belongs to; None: no word, so a cut may come before it.
        room: Tokens of the longest range.
        overlap: Maximum number of tokens that a range repeats from the previous one.

    >>> cut_at_words([0, 1, 2, 2, 3, 4, 5], room=4, overlap=1)
    [(0, 4), (4, 7)]
    >>> cut_at_words([0, 1, 2, 3, 4, 5], room=4, overlap=2)
    [(0, 4), (2, 6)]
    >>> cut_at_words([0] * 7, room=3, overlap=1)  # one word longer than a range is cut inside
    [(0, 3), (2, 5), (4, 7)]
    """
    return list(_ranges(_beginnings(word_ids) + b"\1", room, overlap))


def _beginnings(word_ids: Sequence[int | None]) -> bytes:
    """For each token 1 if a word begins there, else 0."""
    return bytes(word is None or i == 0 or word != word_ids[i - 1] for i, word in enumerate(word_ids))


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Pieces with their offsets, of at most `_PIECE` characters; a longer ASCII word is kept whole.

    They end before white space if possible.
    """
    start = 0
    while len(text) - start > _PIECE:
        end = _find_gap(text, start, start + _PIECE)
        yield start, text[start:end]
        start = end
    yield start, text[start:]


def _find_gap(text: str, start: int, end: int) -> int:
    """The best place to cut: between two words near the end, else at any white space, else after the long word."""
    near = max(start + 1, end - _GAP_WITHIN)
    gaps = [found.start() for found in _GAP.finditer(text, near, end)]
    if gaps:
        return gaps[-1]
    place = end
    while place > start and not text[place].isspace():
        place -= 1
    if place > start:
        return place
    if not text[end - 1].isalnum():  # each sign is a token, so a long piece would have very many
        return end
    longest = start + _LONGEST_WORD
    found = _END_OF_WORD.search(text, end, longest)
    end_of_word = found.start() if found else min(len(text), longest)
    return end_of_word if text[start:end_of_word].isascii() else end


def _ranges(may_begin: bytes | bytearray, room: int, overlap: int) -> Iterator[tuple[int, int]]:
    """See `cut_at_words`."""
    n = len(may_begin) - 1
    start = 0
    while True:
        end = min(start + room, n)
        word_end = end
        while word_end > start and not may_begin[word_end]:
            word_end -= 1
        end = word_end if word_end > start else end
        yield start, end
        if end == n:
            return
        start = _next_start(may_begin, start, end, room, overlap)


def _next_start(may_begin: bytes | bytearray, start: int, end: int, room: int, overlap: int) -> int:
    """The first beginning of a word in the last `overlap` tokens that leaves room for the word after `end`."""
    if not may_begin[end]:  # inside a long word, any token will do
        return max(end - overlap, start + 1)
    word_end = end + 1
    while not may_begin[word_end] and word_end - end <= room:
        word_end += 1
    for candidate in range(max(end - overlap, word_end - room, start + 1), end):
        if may_begin[candidate]:
            return candidate
    return end
