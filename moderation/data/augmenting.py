"""More examples from those that are there: copies of comments, disguised as people disguise them from filters."""

import logging
from collections.abc import Sequence
from random import Random

import numpy as np
import pandas as pd

from moderation.data.edits import DISGUISES, edit_text

logger = logging.getLogger(__name__)


def add_disguised(
    frame: pd.DataFrame,
    share: float,
    seed: int,
    text_column: str = "comment_text",
    edits: Sequence[str] = DISGUISES,
) -> pd.DataFrame:
    """Append disguised copies of a part of the rows, with the labels of the originals.

    Each copy has one of the edits, drawn by chance. Clean comments are copied at the same share as toxic ones, or the
    disguise itself would be learnt as a sign of toxicity.

    Args:
        frame: Rows of the train split alone: a copy of a row of another split would give its label away.
        share: Copies per row, in [0, 1].
        seed: Fixes the rows, their edits and what each edit draws.
        text_column: Column of the texts.
        edits: Names in `moderation.data.edits.EVASIONS`.

    Returns:
        The rows, then the copies; the frame itself for a share of 0.
    """
    n_copies = round(share * len(frame))
    if not n_copies:
        return frame
    rng = np.random.default_rng([seed, 3])
    copies = frame.iloc[np.sort(rng.choice(len(frame), n_copies, replace=False))].copy()
    names = Random(seed).choices(edits, k=n_copies)
    copies[text_column] = [edit_text(name, text, seed) for name, text in zip(names, copies[text_column], strict=True)]
    logger.info("Augmentation: %d disguised copies added to the train split.", n_copies)
    return pd.concat([frame, copies], ignore_index=True)
