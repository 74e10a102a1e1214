"""Find everything that is wrong with a table: by column, count and first row numbers, never by text.

Row numbers are the frame's index plus one: the rows of the file, counted from 1 below the header. If rows are left out
of a frame, it keeps its index, and so its numbers.
"""

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pandas as pd

from moderation.errors import DataError
from moderation.labels import JIGSAW_LABELS, find_alike, name_problem
from moderation.tables.columns import show_names, show_rows
from moderation.tables.options import TEXT_COLUMN

Mask = npt.NDArray[np.bool_]

_MOST_VOTES, _MOST_CLASSES = 100, 20
YES, NO = frozenset({"true", "yes", "t", "y"}), frozenset({"false", "no", "f", "n"})
"""Words that a label column can have throughout, in upper or lower case, instead of 1 and 0."""


def text_key(text: str) -> str:
    r"""A key that is the same for texts that count as equal: case folded, all white space removed.

    Punctuation, digits and accents stay, so that only copies count as copies.

    >>> text_key("Go  AWAY,\n you") == text_key("go away, YOU ")
    True
    """
    return "".join(text.casefold().split())


def find_label_columns(frame: pd.DataFrame, text_column: str) -> tuple[str, ...]:
    """Find the label columns: those of the Jigsaw six that are present, in their order, otherwise every 0/1 column.

    A 0/1 column has only 0, 1 and equivalents (`0.0`, `True`, the digit as text), or only words of `YES` and `NO`. Its
    cells may be empty; validation then reports them.

    Returns:
        The names in order; empty if there is no such column.

    >>> frame = pd.DataFrame({"text": ["a", "b"], "rude": ["0", "1"], "votes": [3, 0], "spam": [False, True]})
    >>> find_label_columns(frame, "text")
    ('rude', 'spam')
    """
    jigsaw = tuple(name for name in JIGSAW_LABELS if name in frame.columns and name != text_column)
    if jigsaw:
        return jigsaw
    return tuple(
        name for name in frame.columns if isinstance(name, str) and name != text_column and _is_binary(frame[name])
    )


def find_almost_labels(frame: pd.DataFrame, text_column: str, labels: Sequence[str]) -> list[str]:
    """Name columns that would be labels except for some words among their 0s and 1s.

    Returns:
        One problem per column outside `labels` in which at least half the values are 0 or 1 and others are not numbers.

    >>> frame = pd.DataFrame({"text": list("abc"), "spam": ["0", "1", "1"], "rude": ["0", "1", "yes"]})
    >>> find_almost_labels(frame, "text", ["spam"])
    ["column 'rude' cannot be a label: 1 value that is not a number (row 3); fix it, or use --label-columns"]
    """
    problems = []
    for name in frame.columns:
        if not isinstance(name, str) or name == text_column or name in labels:
            continue
        numbers = as_numbers(frame[name])
        truth = _as_truth(frame[name])
        known = np.isin(numbers if np.isin(numbers, (0, 1)).any() else truth, (0, 1))
        words = np.flatnonzero(~known & np.isnan(numbers) & ~is_empty(frame[name]))
        if len(words) and known.mean() >= 0.5:
            values = "1 value that is" if len(words) == 1 else f"{len(words)} values that are"
            problems.append(
                f"column {show_names([name])!r} cannot be a label: {values} not a number "
                f"({show_rows(words + 1)}); fix it, or use --label-columns"
            )
    return problems


def as_numbers(column: pd.Series) -> npt.NDArray[np.float64]:
    """Read a column as numbers, float64 `(n_rows,)`; missing values and values that are not numbers become NaN.

    Words of `YES` and `NO` count as 1 and 0 if the column has no other values.

    >>> as_numbers(pd.Series(["1", " 0 ", "yes", "", None, "0.5"]))
    array([1. , 0. , nan, nan, nan, 0.5])
    >>> as_numbers(pd.Series(["True", " no ", "", "Y"]))
    array([ 1.,  0., nan,  1.])
    """
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_float_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    if not (pd.api.types.is_integer_dtype(column) or _may_hold_text(column)):
        return np.full(len(column), np.nan)  # times and similar types would pass as large integers
    if _may_hold_text(column):
        for part in (column.head(1000), column):  # the first rows rule out most columns at once
            truth = _as_truth(part)
            if not (is_empty(part) | ~np.isnan(truth)).all():
                break
        else:
            return truth
    if column.dtype == object:
        column = column.where(
            column.map(lambda value: isinstance(value, (str, bool, int, float, Decimal, np.generic))), None
        )
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def is_empty(column: pd.Series) -> Mask:
    """Mark the cells that are empty or have only white space; bool `(n_rows,)`."""
    missing: Mask = column.isna().to_numpy(dtype=bool)
    blank: Mask
    if isinstance(column.dtype, pd.StringDtype):
        blank = column.str.strip().eq("").to_numpy(dtype=bool, na_value=False)
    elif _may_hold_text(column):
        blank = np.array([isinstance(value, str) and not value.strip() for value in column], dtype=bool)
    else:
        return missing
    return missing | blank


def text_problems(column: pd.Series) -> list[str]:
    """Describe the values of a text column that are not texts; empty if all are."""
    if isinstance(column.dtype, pd.StringDtype):
        return []  # stored as UTF-8
    wrong = column.map(lambda value: not _is_text(value)).to_numpy(dtype=bool)
    if not wrong.any():
        return []
    return [
        f"text column {column.name!r}: {_count(wrong, 'value')} not text, or half a surrogate pair; "
        f"expected strings ({_rows(column, wrong)}; another column: --text-column)"
    ]


def label_problems(column: pd.Series, label_cut: float | None = None, *, partial: bool = False) -> list[str]:
    """Describe the values of a label column that are not 0/1 targets.

    Args:
        column: The cells as read; the index is the row order of the file.
        label_cut: Accept fractions in [0, 1], which will be cut at this value, and if it is 1 or more, any number of
            votes; None: refuse them.
        partial: Accept empty cells, which mean that the label is unknown.

    Returns:
        One line for each kind of problem; empty if every value is a target.
    """
    numbers = as_numbers(column)
    empty = is_empty(column)
    fractions = (numbers > 0) & (numbers < 1) & (label_cut is None)
    kinds = (
        (empty & (not partial), "missing (--partial-labels leaves unknown labels out)"),
        (np.isnan(numbers) & ~empty, "not numeric"),
        (fractions, "fractional (--label-cut CUT counts CUT and more as positive)"),
        *_range_problems(numbers, label_cut),
    )
    return [
        f"label {column.name!r}: {_count(mask, 'value')} {what}; expected 0 or 1 ({_rows(column, mask)})"
        for mask, what in kinds
        if mask.any()
    ]


def _range_problems(numbers: npt.NDArray[np.float64], label_cut: float | None) -> list[tuple[Mask, str]]:
    if label_cut is not None and label_cut >= 1:
        return [((numbers < 0) | np.isinf(numbers), "below 0 or infinite")]
    whole = (numbers > 1) & (numbers == np.round(numbers))
    votes = label_cut is None and bool(whole.any()) and not (numbers < 0).any()
    cure = " (if they are votes: --label-cut N counts N and more as positive)" if votes else ""
    return [((numbers < 0) | (numbers > 1), f"below 0 or above 1{cure}")]


def as_targets(column: pd.Series, label_cut: float | None = None) -> npt.NDArray[np.float32]:
    """Targets of a label column without problems, float32 `(n_rows,)`: 0 or 1, NaN for an empty cell.

    >>> as_targets(pd.Series(["0.2", "0.5", "1", ""]), label_cut=0.5)
    array([ 0.,  1.,  1., nan], dtype=float32)
    """
    numbers = as_numbers(column)
    targets = numbers if label_cut is None else np.where(np.isnan(numbers), np.nan, numbers >= label_cut)
    return np.asarray(targets, dtype=np.float32)


def find_problems(
    frame: pd.DataFrame,
    labels: Sequence[str],
    *,
    text_column: str = TEXT_COLUMN,
    label_cut: float | None = None,
    require_both_classes: bool = True,
    partial: bool = False,
) -> list[str]:
    """List everything that is wrong with a table of labelled comments.

    Args:
        frame: The rows to use; the index is the row order of the file.
        labels: Label columns.
        text_column: Column of the texts.
        label_cut: Count a fraction in [0, 1], or a number of votes, as positive from this value on; None: they are
            problems.
        require_both_classes: Count a label without positives or without negatives as a problem, as training does.
        partial: Accept empty label cells.

    Returns:
        One line per problem; empty if the table is sound.
    """
    problems = []
    absent = [name for name in (text_column, *labels) if name not in frame.columns]
    if absent:
        problems.append(
            f"no column {', '.join(map(repr, absent))}; the columns are: {show_names(frame.columns)} "
            "(name them with --text-column and --label-columns)"
        )
    if not labels:
        there = "" if absent else f"; the columns are: {show_names(frame.columns)}"
        problems.append(
            f"no label columns: none of {', '.join(JIGSAW_LABELS)} is present, nor any other column of 0 and 1{there} "
            f"(name them with --label-columns){_other_forms(frame, text_column)}"
        )
    problems += _name_problems(frame, labels)
    if text_column in labels:
        problems.append(f"column {text_column!r} is both text and label (--text-column, --label-columns)")
    if text_column in frame.columns:
        problems += text_problems(frame[text_column])
    for label in labels:
        if label not in frame.columns or label == text_column:
            continue
        wrong = label_problems(frame[label], label_cut, partial=partial)
        if not wrong and require_both_classes and len(frame):
            wrong = _class_problems(frame[label], label_cut)
        problems += wrong
    return problems


def _name_problems(frame: pd.DataFrame, labels: Sequence[str]) -> list[str]:
    """Columns whose names cannot be names of labels."""
    names = list(map(str, frame.columns))
    problems = [
        f"the name of column {names.index(label) + 1} {problem}; rename it, or name the labels with --label-columns"
        for label in labels
        if label in names and (problem := name_problem(label))
    ]
    if alike := find_alike(labels):
        problems.append(f"several columns look the same: {show_names(alike)}; rename them (--label-columns)")
    return problems


def check_table(
    frame: pd.DataFrame,
    labels: Sequence[str],
    *,
    text_column: str = TEXT_COLUMN,
    label_cut: float | None = None,
    require_both_classes: bool = True,
    partial: bool = False,
    where: str = "table",
) -> None:
    """Refuse a table in which `find_problems` finds problems; the arguments are the same.

    Args:
        frame: The rows to use; the index is the row order of the file.
        labels: Label columns.
        text_column: Column of the texts.
        label_cut: Count a fraction in [0, 1] as positive from this value on.
        require_both_classes: Refuse a label without positives or without negatives.
        partial: Accept empty label cells.
        where: The table's name in the message.

    Raises:
        DataError: lists all problems, one per line.
    """
    raise_problems(
        find_problems(
            frame,
            labels,
            text_column=text_column,
            label_cut=label_cut,
            require_both_classes=require_both_classes,
            partial=partial,
        ),
        where,
    )


def raise_problems(problems: Sequence[str], where: str) -> None:
    """Raise one error for all problems, if there are any.

    Raises:
        DataError: there are problems.
    """
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise DataError(f"{where}: cannot be used as it is (rows are counted from 1, without the header).\n{lines}")


def _is_text(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(value.encode("utf-8") or True)
    except UnicodeEncodeError:
        return False


def _class_problems(column: pd.Series, label_cut: float | None) -> list[str]:
    targets = as_targets(column, label_cut)
    targets = targets[~np.isnan(targets)]
    if targets.any() and not targets.all():
        return []
    if not len(targets):
        return [f"label {column.name!r}: every cell is empty; expected 0 and 1 (leave it out with --label-columns)"]
    missing, all_are = ("negatives", "1") if targets.any() else ("positives", "0")
    if label_cut is not None:
        all_are += f" at the cut {label_cut:g} (--label-cut)"
    return [
        f"label {column.name!r}: no {missing}, all {len(targets)} rows are {all_are}; expected both "
        "(leave it out with --label-columns, or add rows)"
    ]


def _is_binary(column: pd.Series) -> bool:
    for part in (column.head(1000), column):  # the first rows rule out most columns at once
        numbers = as_numbers(part)
        if not (np.isin(numbers, (0, 1)) | is_empty(part)).all():
            return False
    return not np.isnan(numbers).all()


def find_number_columns(frame: pd.DataFrame, text_column: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Columns outside `labels` that could be labels, too: 0 and 1, fractions in [0, 1], or small numbers of votes.

    >>> frame = pd.DataFrame({"text": ["a", "b"], "toxic": [0, 1], "hate": [0.2, 1], "votes": [3, 0], "id": [801, 900]})
    >>> find_number_columns(frame, "text", ["toxic"])
    ('hate', 'votes')
    """
    names = []
    for name in frame.columns:
        if not isinstance(name, str) or name == text_column or name in labels:
            continue
        for part in (frame[name].head(1000), frame[name]):
            numbers, empty = as_numbers(part), is_empty(part)
            fine = (numbers >= 0) & ((numbers <= 1) | ((numbers <= _MOST_VOTES) & (numbers == np.round(numbers))))
            if empty.all() or not (fine | empty).all():
                break
        else:
            names.append(name)
    return tuple(names)


def _other_forms(frame: pd.DataFrame, text_column: str) -> str:
    """How to use a table whose labels are fractions, votes or words."""
    cures = []
    numbers = find_number_columns(frame, text_column, ())
    if numbers:
        cures.append(f"if {show_names(numbers)} has fractions or votes: --label-columns and --label-cut")
    words = [
        name
        for name in frame.columns
        if isinstance(name, str) and name not in (text_column, *numbers) and _holds_few_words(frame[name])
    ]
    if words:
        cures.append(f"if {show_names(words)} has the labels as words: --labels-in COLUMN")
    return "".join(f"; {cure}" for cure in cures)


def _holds_few_words(column: pd.Series) -> bool:
    if not _may_hold_text(column):
        return False
    held = column[~is_empty(column)].astype("str")
    few = 0 < held.nunique() <= _MOST_CLASSES and held.str.len().max() <= 100
    return bool(few and np.isnan(as_numbers(column)).all())


def _as_truth(column: pd.Series) -> npt.NDArray[np.float64]:
    """1 for words of `YES`, 0 for those of `NO`, NaN for everything else."""
    if not _may_hold_text(column):
        return np.full(len(column), np.nan)
    words = column.astype("str").str.strip().str.casefold()
    values = words.map(dict.fromkeys(YES, 1.0) | dict.fromkeys(NO, 0.0))
    return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)


def _may_hold_text(column: pd.Series) -> bool:
    return column.dtype == object or isinstance(column.dtype, (pd.StringDtype, pd.CategoricalDtype))


def _count(mask: Mask, noun: str) -> str:
    n = int(mask.sum())
    return f"{n} {noun} is" if n == 1 else f"{n} {noun}s are"


def _rows(column: pd.Series, mask: Mask) -> str:
    return show_rows(column.index.to_numpy()[mask][:6] + 1)
