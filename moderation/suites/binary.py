"""Any table with a text and one label; Surge AI's toxicity data is one whose label column holds words."""

import logging
from pathlib import Path

import pandas as pd

from moderation.bundles import Bundle
from moderation.data.cleaning import PLAIN_FORM, read_unchecked
from moderation.data.label_forms import spread_labels
from moderation.data.options import TableOptions
from moderation.data.validation import find_label_columns, find_number_columns, is_empty
from moderation.errors import DataError
from moderation.escapes import escape_name
from moderation.evaluation.probabilities import BoolArray
from moderation.labels import name_problem
from moderation.suites.options import SuiteOptions
from moderation.suites.results import Figure, SuiteResult, Table
from moderation.suites.rows import read_rows, read_targets, read_words, take_texts
from moderation.suites.scorer import Scorer
from moderation.suites.single import HEADER, cells, measure_single
from moderation.tables.columns import find_text_column, show_names

SURGE_COLUMNS = ("text", "is_toxic")
_SURGE = {"Toxic": True, "Not Toxic": False}

logger = logging.getLogger(__name__)


def read_surge(path: Path, bundle: Bundle, form: TableOptions = PLAIN_FORM) -> pd.DataFrame:
    """Read `toxicity_en.csv`: `text`, `is_toxic` (Toxic, Not Toxic).

    Raises:
        DataError: other columns or words.
    """
    frame = read_rows(path, SURGE_COLUMNS, "text", form)
    return _plain(frame, "text", "is_toxic", read_words(frame, "is_toxic", _SURGE, path))


def read_binary(path: Path, bundle: Bundle, form: TableOptions = PLAIN_FORM) -> pd.DataFrame:
    """Read a table with a column of texts and one column of 0 and 1, of shares or votes to cut, or of classes.

    Raises:
        DataError: no such text column, not one label column, or an empty cell in it without `partial_labels`.
    """
    table = read_unchecked(path, form)
    text_column = find_text_column(table.columns, form.text_column, str(path))
    frame = take_texts(table, path, (text_column,), text_column)
    named, column = _one_label(frame, text_column, path, form)
    if form.partial_labels:
        known = ~is_empty(column)
        frame, column = frame[known], column[known]
        if not known.any():
            raise DataError(
                f"{path}: no row has a known value of {escape_name(named)}. Expected 0 and 1 in some cells."
            )
        logger.info("%s: %d of %d rows left out, without a label.", path, int((~known).sum()), len(known))
    if problem := name_problem(named):
        raise DataError(f"{path}: the name of the column of labels {problem}. Rename it.")
    return _plain(frame, text_column, named, read_targets(frame.assign(**{named: column}), named, path, form.label_cut))


def find_targets(frame: pd.DataFrame, text_column: str, form: TableOptions) -> tuple[str, ...]:
    """The columns that may be the label: those named, else those of 0 and 1, else those that a cut turns into it."""
    if form.label_columns is not None:
        return tuple(form.label_columns)
    found = find_label_columns(frame, text_column)
    return found or (() if form.label_cut is None else find_number_columns(frame, text_column, ()))


def _one_label(frame: pd.DataFrame, text_column: str, path: Path, form: TableOptions) -> tuple[str, pd.Series]:
    """Name and values of the one label."""
    if form.one_column is not None and form.one_column in frame.columns:
        spread = spread_labels(
            frame[form.one_column],
            label_format=form.label_format,
            none=form.label_none,
            given=form.label_columns,
            where=str(path),
        )
        found, columns = spread.labels, spread.columns
    else:
        found, columns = find_targets(frame, text_column, form), frame
    if len(found) == 1 and found[0] in columns.columns:
        return found[0], columns[found[0]]
    there = f": {show_names(found)}" if found else f"; columns there: {show_names(frame.columns)}"
    raise DataError(
        f"{path}: expected one column of 0 and 1 besides {text_column!r}, found {len(found)}{there}. Name the one to "
        "measure with --label-columns; for shares or votes add --label-cut; for a class or a list use --labels-in. If "
        "the table has several labels of the bundle, name the kind: NAME:jigsaw=PATH."
    )


def measure_binary(frame: pd.DataFrame, scorer: Scorer, options: SuiteOptions) -> SuiteResult:
    """Measure the label with the column's name, else the main one: ROC-AUC, AP, and F1 at its threshold."""
    named = str(frame.attrs["named"])
    positive = frame["positive"].to_numpy(dtype=bool)
    numbers = measure_single(frame["text"].tolist(), positive, scorer, options, named)
    metrics = numbers.metrics
    table = Table(f"Column {named}, label {numbers.label}", ("", *HEADER), (("all", *cells(numbers)),))
    return SuiteResult(
        n_rows=len(frame),
        figures=(
            Figure("ROC-AUC", metrics.roc_auc, metrics.intervals.roc_auc),
            Figure("average precision", metrics.average_precision, metrics.intervals.average_precision),
            Figure("F1", metrics.at_threshold.f1, metrics.intervals.f1),
        ),
        tables=(table,),
        numbers=numbers,
    )


def _plain(frame: pd.DataFrame, text_column: str, named: str, positive: BoolArray) -> pd.DataFrame:
    plain = pd.DataFrame({"text": frame[text_column].astype("str"), "positive": positive}, index=frame.index)
    plain.attrs["named"] = named
    return plain
