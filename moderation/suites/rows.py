"""A suite's file -> its rows, in the form that its authors publish; deviations are reported by column and row."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from moderation.data.cleaning import PLAIN_FORM, read_unchecked
from moderation.data.options import TableOptions
from moderation.data.splitting import take_part
from moderation.data.validation import as_targets, is_empty, label_problems, text_problems
from moderation.errors import DataError
from moderation.evaluation.probabilities import BoolArray
from moderation.labels import name_problem
from moderation.tables.columns import show_names, show_rows

logger = logging.getLogger(__name__)


def read_rows(path: Path, columns: Sequence[str], text_column: str, form: TableOptions = PLAIN_FORM) -> pd.DataFrame:
    """Read a table that has these columns; rows without a text are left out and counted.

    Args:
        path: In any format of `tables.reading.read_table`.
        columns: Required columns; others may exist.
        text_column: Which of them holds the texts.
        form: How the file is written.

    Returns:
        The rows; the index is the row order of the file.

    Raises:
        DataError: the file cannot be read, a column is missing, or the text column holds no texts.
    """
    return take_texts(read_unchecked(path, form), path, columns, text_column)


def take_texts(frame: pd.DataFrame, path: Path, columns: Sequence[str], text_column: str) -> pd.DataFrame:
    """The rows of a table that have a text; the arguments are those of `read_rows`.

    Raises:
        DataError: a column is missing, or the text column holds no texts.
    """
    absent = [name for name in columns if name not in frame.columns]
    if absent:
        raise DataError(
            f"{path}: no column {', '.join(map(repr, absent))}; columns there: {show_names(frame.columns)}. Expected "
            f"{', '.join(columns)}. Is this the right kind of suite? See: moderation evaluate --help"
        )
    problems = text_problems(frame[text_column])
    if problems:
        raise DataError(f"{path}: {problems[0]}")
    empty = is_empty(frame[text_column])
    if empty.all():
        raise DataError(f"{path}: no row has a text in column {text_column!r}.")
    if empty.any():
        logger.info("%s: %d of %d rows left out because they have no text.", path, empty.sum(), len(frame))
    return frame[~empty]


def check_groups(frame: pd.DataFrame, columns: Sequence[str], path: Path) -> pd.DataFrame:
    """Return the rows if a table can show the group names in these columns; empty names mean no group.

    Raises:
        DataError: an unreadable name, by column and row number.
    """
    for column in columns:
        values = frame[column].fillna("").astype("str") if column in frame.columns else pd.Series([], dtype="str")
        for value in values.unique():
            if value.strip() and (problem := name_problem(value)):
                rows = frame.index.to_numpy()[values.to_numpy() == value][:6] + 1
                raise DataError(f"{path}: column {column!r}: the name of a group {problem} ({show_rows(rows)}).")
    return frame


def read_words(frame: pd.DataFrame, column: str, words: Mapping[str, bool], path: Path) -> BoolArray:
    """Turn a column of two words into booleans, `(n_rows,)`.

    Raises:
        DataError: other words, by row number.

    >>> frame = pd.DataFrame({"Label": ["BAD", "NOT_BAD"]})
    >>> read_words(frame, "Label", {"BAD": True, "NOT_BAD": False}, Path("m.csv")).tolist()
    [True, False]
    """
    values = frame[column].astype("str").str.strip().map(words)
    wrong = values.isna().to_numpy()
    if wrong.any():
        raise DataError(
            f"{path}: column {column!r}: {wrong.sum()} values other than {' and '.join(words)} "
            f"({show_rows(frame.index.to_numpy()[wrong][:6] + 1)}, counted from 1 below the header)."
        )
    return np.asarray(values, dtype=np.bool_)


def read_targets(frame: pd.DataFrame, column: str, path: Path, label_cut: float | None = None) -> BoolArray:
    """Turn a column of 0 and 1, or of values to cut at `label_cut`, into booleans, `(n_rows,)`.

    Raises:
        DataError: other or missing values, by row number.
    """
    problems = label_problems(frame[column], label_cut)
    if problems:
        raise DataError(f"{path}: {problems[0]}")
    return np.asarray(as_targets(frame[column], label_cut) > 0, dtype=np.bool_)


def take_rows(frame: pd.DataFrame, n_wanted: int | None, seed: int) -> pd.DataFrame:
    """A seeded part of the rows in their order; all of them if `n_wanted` is None or larger."""
    return frame.iloc[take_part(len(frame), n_wanted, seed)]
