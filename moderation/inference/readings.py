"""What is known of texts that were read: by which model, in which language, and with which probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moderation.language_codes import UNDETERMINED

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Route:
    """How a text is read.

    Args:
        language: Its code as it was recognised; `und` if it is unclear, or nobody asked.
        model: Place of the model among those of the classifier.
    """

    language: str = UNDETERMINED
    model: int = 0


@dataclass(frozen=True)
class Reading:
    """Texts that were read.

    Args:
        probabilities: float32 `(n_texts, n_labels)`, in [0, 1], columns in label order.
        n_windows: int64 `(n_texts,)`, windows in which each was read.
        routes: One per text.
    """

    probabilities: FloatArray
    n_windows: npt.NDArray[np.int64]
    routes: Sequence[Route]
