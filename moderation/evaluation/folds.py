"""Deal examples out to folds, for whatever is fitted on all folds but one and judged on that one."""

import numpy as np
import numpy.typing as npt

from moderation.evaluation.probabilities import BoolArray


def deal_folds(positive: BoolArray, folds: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Give each example its fold, stratified by target: folds differ by at most one positive and one negative.

    Sort the examples first where the result shall not depend on the order of the rows.

    Args:
        positive: bool `(n_examples,)`.
        folds: Parts, 2 or more.
        rng: Deals.

    Returns:
        int64 `(n_examples,)`, from 0 to `folds - 1`.

    >>> fold = deal_folds(np.array([True, True, False, False, False]), 2, np.random.default_rng(0))
    >>> sorted(fold[:2].tolist()), sorted(fold[2:].tolist())
    ([0, 1], [0, 0, 1])
    """
    fold = np.empty(len(positive), dtype=np.int64)
    for group in (positive, ~positive):
        fold[group] = rng.permutation(np.arange(int(group.sum())) % folds)
    return fold
