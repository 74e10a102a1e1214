"""The two rules by which a bundle's labels answer a suite's question. Fixed before any model was measured."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from moderation.evaluation.probabilities import BoolArray, FloatArray, predict

MAIN_LABEL = "toxic"


def any_flagged(probabilities: FloatArray, thresholds: npt.ArrayLike) -> BoolArray:
    """Decide whether a text counts as hateful or toxic as a whole: where any label reaches its threshold.

    It is what a moderator sees: a comment is put before a person as soon as one label is flagged.

    Args:
        probabilities: float32 `(n_texts, n_labels)`.
        thresholds: `(n_labels,)`.

    Returns:
        bool `(n_texts,)`.

    >>> any_flagged(np.array([[0.9, 0.1], [0.2, 0.1]]), [0.5, 0.5]).tolist()
    [True, False]
    """
    return np.asarray(predict(probabilities, thresholds).any(axis=1), dtype=np.bool_)


def main_label(labels: Sequence[str], named: str | None = None) -> int:
    """Place of the label whose probability ranks texts where a suite knows one kind of bad alone.

    The label that the suite's column names, where the bundle has it; else `toxic`; else the bundle's first one.

    >>> main_label(["insult", "toxic"]), main_label(["insult", "toxic"], "insult"), main_label(["spam"], "rude")
    (1, 0, 0)
    """
    return next((labels.index(name) for name in (named, MAIN_LABEL) if name in labels), 0)
