"""Clean rows -> train, val, test: seeded, stratified over the label sets, no text in two splits."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from moderation.data.validation import text_key
from moderation.errors import DataError

Rows = npt.NDArray[np.int64]


def split_examples(
    texts: pd.Series,
    targets: npt.NDArray[np.float32],
    *,
    val_size: float = 0.1,
    test_size: float = 0.1,
    seed: int = 42,
) -> dict[str, Rows]:
    """Split a table into train, val and test.

    Texts that are equal ignoring case and white space go to the same split. The groups of equal texts are put in an
    order in which equal label sets are adjacent, rare labels outermost and each set shuffled; every split then takes
    evenly spaced positions of that order (systematic sampling; Cochran, Sampling Techniques, chapter 8). So each split
    has its share of each label set, plus or minus one group, even if a set is rarer than the number of splits, which
    stratified samplers that need a minimum per class refuse.

    Args:
        texts: Texts, `(n_examples,)`.
        targets: 0/1, float32 `(n_examples, n_labels)`.
        val_size: Share of the groups for validation, in [0, 1).
        test_size: Share of the groups for testing, in [0, 1); 0 leaves that split empty.
        seed: The same seed gives the same splits.

    Returns:
        `{"train": rows, "val": rows, "test": rows}`, sorted positions in the table, int64.

    Raises:
        DataError: there are so few different texts that a requested split would be empty.
    """
    group_of_row, _ = pd.factorize(texts.map(text_key))
    n_groups = int(group_of_row.max()) + 1 if len(group_of_row) else 0
    ordered = _stratified_order(group_of_row, n_groups, targets, seed)
    offset = np.random.default_rng([seed, 1]).random()

    is_test = _evenly_spaced(n_groups, test_size, offset)
    rest = ordered[~is_test]
    is_val = _evenly_spaced(len(rest), val_size / (1 - test_size), offset)
    groups = {"train": rest[~is_val], "val": rest[is_val], "test": ordered[is_test]}

    wanted = {"train": 1 - val_size - test_size, "val": val_size, "test": test_size}
    empty = [name for name, share in wanted.items() if share > 0 and not len(groups[name])]
    if empty:
        raise DataError(
            f"Split: {n_groups} different texts leave nothing for {', '.join(empty)}; "
            "expected at least one for each split. Add data, or raise --val-size and --test-size."
        )
    return {name: np.flatnonzero(np.isin(group_of_row, chosen)) for name, chosen in groups.items()}


def drop_shared_texts(texts: pd.Series, others: pd.Series) -> Rows:
    """Rows of `texts` that are not in `others`, ignoring case and white space."""
    kept = ~texts.map(text_key).isin(set(others.map(text_key)))
    return np.flatnonzero(kept.to_numpy())


def take_part(n_examples: int, n_wanted: int | None, seed: int) -> Rows:
    """Positions of a seeded sample of `n_examples`, in order; all of them if `n_wanted` is None or larger."""
    if n_wanted is None or n_wanted >= n_examples:
        return np.arange(n_examples)
    return np.sort(np.random.default_rng([seed, 2]).choice(n_examples, n_wanted, replace=False))


def _stratified_order(
    group_of_row: npt.NDArray[np.int64], n_groups: int, targets: npt.NDArray[np.float32], seed: int
) -> Rows:
    """Groups in shuffled order within each label set, the sets sorted with the rarest label as the first key."""
    labels_of_group = np.zeros((n_groups, targets.shape[1]), dtype=bool)
    np.logical_or.at(labels_of_group, group_of_row, targets > 0)
    rarest_last = np.argsort(-labels_of_group.sum(axis=0), kind="stable")
    shuffled = np.random.default_rng([seed, 0]).permutation(n_groups)
    # lexsort takes its last key as the first one to sort by, and keeps the shuffled order among equals.
    return shuffled[np.lexsort(labels_of_group[shuffled][:, rarest_last].T)]


def _evenly_spaced(n: int, share: float, offset: float) -> npt.NDArray[np.bool_]:
    """Mark a share of n positions so that every stretch of them has its share, plus or minus one."""
    marks: npt.NDArray[np.bool_] = np.diff(np.floor(np.arange(n + 1) * share + offset)) > 0
    return marks
