"""Which texts a model has seen: a sketch of its training data, stored in a bundle, to look texts up in."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moderation.arrays import read_array
from moderation.bundles import TRAINING_TEXTS, Bundle, check_files
from moderation.data.validation import text_key
from moderation.errors import ArtifactError

Digests = npt.NDArray[np.uint64]

N_KEPT = 16_384
_HIGHEST = np.iinfo(np.uint64).max


@dataclass(frozen=True)
class Seen:
    """How many texts of a table a model has seen.

    Args:
        n_texts: Texts of the table.
        n_looked_up: How many of them the sketch covers: all, unless there were more training texts than it keeps.
        n_found: How many of these are in it.
    """

    n_texts: int
    n_looked_up: int
    n_found: int

    def __str__(self) -> str:
        """A sentence; empty if none was found.

        >>> str(Seen(8, 8, 3)), str(Seen(8, 8, 0))
        ('3 of the 8 texts were in the training data, which makes the figures too good.', '')
        >>> str(Seen(1000, 100, 50)).partition(" in the")[2]
        ' training data (50 of 100 that could be looked up), which makes the figures too good.'
        """
        if not self.n_found:
            return ""
        if self.n_looked_up == self.n_texts:
            count, how = f"{self.n_found:,}", ""
        else:
            count = f"About {round(self.n_texts * self.n_found / self.n_looked_up):,}"
            how = f" ({self.n_found:,} of {self.n_looked_up:,} that could be looked up)"
        return (
            f"{count} of the {self.n_texts:,} texts were in the training data{how}, which makes the figures too good."
        )


def sketch_texts(texts: Iterable[str], most: int | None = N_KEPT) -> Digests:
    """Digests of different texts, ascending; if there are many texts, the smallest digests, which are a fair sample.

    Any digest up to the largest one kept can be looked up with certainty (a bottom-k sketch). Two texts count as one if
    their `text_key` is the same.

    Args:
        texts: Any number of texts.
        most: Digests to keep; None: all.

    Returns:
        uint64 `(n_digests,)`. If there are fewer than `most`, they are those of all texts.
    """
    digests = np.unique(np.fromiter(map(_digest, texts), dtype=np.uint64))
    return digests if most is None else digests[:most]


def count_seen(texts: Iterable[str], sketch: Digests, most: int | None = N_KEPT) -> Seen:
    """Look texts up in a sketch.

    Args:
        texts: The texts of a table.
        sketch: From `sketch_texts`.
        most: The value that the sketch was made with.

    >>> sketch = sketch_texts(["a", "b", "c"])
    >>> count_seen(["A ", "x", "c"], sketch)
    Seen(n_texts=3, n_looked_up=3, n_found=2)
    """
    digests = np.fromiter(map(_digest, texts), dtype=np.uint64)
    whole = most is None or len(sketch) < most
    looked_up = digests[digests <= (_HIGHEST if whole else sketch[-1])]
    return Seen(len(digests), len(looked_up), int(np.isin(looked_up, sketch).sum()))


def read_sketch(bundle: Bundle) -> Digests | None:
    """The sketch in a bundle; None for an older bundle without one.

    Raises:
        ArtifactError: the file was changed, or is not a sketch.
    """
    if TRAINING_TEXTS not in bundle.files:
        return None
    check_files(bundle, [TRAINING_TEXTS])
    sketch = read_array(bundle.path / TRAINING_TEXTS)
    if sketch.dtype != np.uint64 or sketch.ndim != 1 or len(sketch) > N_KEPT or (np.diff(sketch) == 0).any():
        raise ArtifactError(f"{bundle.path / TRAINING_TEXTS}: not a sketch of texts. Get the whole bundle again.")
    return sketch


def _digest(text: str) -> int:
    content = text_key(text).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
