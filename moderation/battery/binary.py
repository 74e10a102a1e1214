"""Any table with a text and one 0/1 column; Surge AI's toxicity data is one whose column holds words."""

from pathlib import Path

import pandas as pd

from moderation.battery.results import Figure, Options, SuiteResult, Table
from moderation.battery.rows import read_rows, read_targets, read_words
from moderation.battery.scorer import Scorer
from moderation.battery.single import HEADER, cells, interval_of, measure_single
from moderation.bundles import Bundle
from moderation.data.columns import show_names
from moderation.data.reading import read_table
from moderation.data.validation import find_label_columns
from moderation.errors import DataError
from moderation.evaluation.probabilities import BoolArray

SURGE_COLUMNS = ("text", "is_toxic")
TEXT_COLUMNS = ("text", "comment_text")
_SURGE = {"Toxic": True, "Not Toxic": False}


def read_surge(path: Path, bundle: Bundle) -> pd.DataFrame:
    """Read `toxicity_en.csv`: `text`, `is_toxic` (Toxic, Not Toxic).

    Raises:
        DataError: other columns or words.
    """
    frame = read_rows(path, SURGE_COLUMNS, "text")
    return _plain(frame, "text", "is_toxic", read_words(frame, "is_toxic", _SURGE, path))


def read_binary(path: Path, bundle: Bundle) -> pd.DataFrame:
    """Read a table with a column `text` or `comment_text` and one column of 0 and 1.

    Raises:
        DataError: no such text column, no 0/1 column or several, or an empty cell in it.
    """
    names = read_table(path).columns
    text_column = next((name for name in TEXT_COLUMNS if name in names), TEXT_COLUMNS[0])
    frame = read_rows(path, (text_column,), text_column)
    found = find_label_columns(frame, text_column)
    if len(found) != 1:
        there = f": {show_names(found)}" if found else f"; columns there: {show_names(names)}"
        raise DataError(
            f"{path}: expected one column of 0 and 1 beside {text_column!r}, found {len(found)}{there}. "
            "With several labels of the bundle, name the kind: NAME:jigsaw=PATH."
        )
    return _plain(frame, text_column, found[0], read_targets(frame, found[0], path))


def measure_binary(frame: pd.DataFrame, scorer: Scorer, options: Options) -> SuiteResult:
    """Measure the label that the column names, else the main one: ROC-AUC, AP, and F1 at the shipped threshold."""
    named = str(frame.attrs["named"])
    positive = frame["positive"].to_numpy(dtype=bool)
    probabilities = scorer.read(frame["text"], named)
    numbers = measure_single(probabilities, positive, scorer, options, named)
    table = Table(f"Column {named}, label {numbers['label']}", ("", *HEADER), (("all", *cells(numbers)),))
    return SuiteResult(
        n_rows=len(frame),
        figures=(
            Figure("ROC-AUC", numbers["roc_auc"], interval_of(numbers, "roc_auc")),
            Figure("average precision", numbers["average_precision"], interval_of(numbers, "average_precision")),
            Figure("F1", numbers["at_threshold"]["f1"], interval_of(numbers, "f1")),
        ),
        tables=(table,),
        numbers=numbers,
    )


def _plain(frame: pd.DataFrame, text_column: str, named: str, positive: BoolArray) -> pd.DataFrame:
    plain = pd.DataFrame({"text": frame[text_column].astype("str"), "positive": positive}, index=frame.index)
    plain.attrs["named"] = named
    return plain
