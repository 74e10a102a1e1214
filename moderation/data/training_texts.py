"""Which texts a model has seen: a sketch of its training data that a bundle can carry, and texts looked up in it."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moderation.artifacts import read_array
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
        n_looked_up: Those of them that the sketch can tell of: all, unless it is one of more texts than it keeps.
        n_found: Those of these that stand in it.
    """

    n_texts: int
    n_looked_up: int
    n_found: int

    def __str__(self) -> str:
        """A sentence; empty where none was found.

        >>> str(Seen(8, 8, 3)), str(Seen(8, 8, 0))
        ('3 of the 8 texts were in the training data, which flatters the figures.', '')
        >>> str(Seen(1000, 100, 50)).partition(" in the")[2]
        ' training data (50 of 100 that could be looked up), which flatters the figures.'
        """
        if not self.n_found:
            return ""
        if self.n_looked_up == self.n_texts:
            count, how = f"{self.n_found:,}", ""
        else:
            count = f"About {round(self.n_texts * self.n_found / self.n_looked_up):,}"
            how = f" ({self.n_found:,} of {self.n_looked_up:,} that could be looked up)"
        return f"{count} of the {self.n_texts:,} texts were in the training data{how}, which flatters the figures."


def sketch_texts(texts: Iterable[str], most: int | None = N_KEPT) -> Digests:
    """Digests of different texts, ascending; of many texts the smallest digests, which are a fair sample of them.

    What lies below the largest one kept can be looked up without doubt (a bottom-k sketch). Two texts count as one
    where `text_key` says so.

    Args:
        texts: Of any number.
        most: Digests to keep; None: all.

    Returns:
        uint64 `(n_digests,)`. Fewer than `most` are those of all texts.
    """
    digests = np.unique(np.fromiter(map(_digest, texts), dtype=np.uint64))
    return digests if most is None else digests[:most]


def count_seen(texts: Iterable[str], sketch: Digests, most: int | None = N_KEPT) -> Seen:
    """Look texts up in a sketch.

    Args:
        texts: Of a table.
        sketch: From `sketch_texts`.
        most: As it was made with.

    >>> sketch = sketch_texts(["a", "b", "c"])
    >>> count_seen(["A ", "x", "c"], sketch)
    Seen(n_texts=3, n_looked_up=3, n_found=2)
    """
    digests = np.fromiter(map(_digest, texts), dtype=np.uint64)
    whole = most is None or len(sketch) < most
    looked_up = digests[digests <= (_HIGHEST if whole else sketch[-1])]
    return Seen(len(digests), len(looked_up), int(np.isin(looked_up, sketch).sum()))


def read_sketch(bundle: Bundle) -> Digests | None:
    """The sketch that a bundle carries; None of one from before there was any.

    Raises:
        ArtifactError: the file was changed, or is none.
    """
    if TRAINING_TEXTS not in bundle.files:
        return None
    check_files(bundle, [TRAINING_TEXTS])
    sketch = read_array(bundle.path / TRAINING_TEXTS)
    if sketch.dtype != np.uint64 or sketch.ndim != 1 or len(sketch) > N_KEPT or (np.diff(sketch) == 0).any():
        raise ArtifactError(f"{bundle.path / TRAINING_TEXTS}: no sketch of texts. Take the whole bundle again.")
    return sketch


def _digest(text: str) -> int:
    content = text_key(text).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
