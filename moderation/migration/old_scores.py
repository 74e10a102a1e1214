"""A table of comments with their scores from the Perspective API.

The scores are in columns named after attributes (`TOXICITY`, `severe toxicity`), or in the API's own answers: in a
column of the table, or in a separate file, one per line, in the order of the table's rows.
"""

import logging
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moderation.categories import perspective_name
from moderation.data.validation import as_numbers, is_empty, text_problems
from moderation.errors import DataError
from moderation.tables import bounds
from moderation.tables.columns import find_text_column, show_names, show_rows
from moderation.tables.compression import check_unpacked, open_unpacked, reading
from moderation.tables.json_objects import parse_object

logger = logging.getLogger(__name__)

FloatValues = npt.NDArray[np.float64]

_AFFIXES = re.compile(r"(?i)^perspective[\W_]+|[\W_]+(score|value|prob|probability)$")  # of a column's name
_ANSWER = "attributeScores"
_LOOK_AT = 20  # cells that are examined to see whether a column holds answers
_LARGEST = 10.0**9  # a score is at most 1; a larger whole number may not fit a float
_MOST_WRONG = 5  # lines that are named


@dataclass(frozen=True)
class OldScores:
    """Comments and their old scores.

    Args:
        texts: Of the comments, none empty.
        rows: int64 `(n,)`, their row numbers in the table, from 1.
        scores: Attribute -> float64 `(n,)`, in [0, 1]; NaN: no score.
    """

    texts: list[str]
    rows: npt.NDArray[np.int64]
    scores: dict[str, FloatValues]


def read_old_scores(frame: pd.DataFrame, path: Path, text_column: str, answers: Path | None = None) -> OldScores:
    """Find texts and old scores in a table.

    Args:
        frame: The table.
        path: Of its file, for messages.
        text_column: Column of the texts; if the default is missing, a column with a usual name is used.
        answers: A file of the API's answers, JSON, one per line.

    Raises:
        DataError: no texts, no scores, or invalid scores; with the row numbers of each kind of problem.
    """
    column = _text_column(frame, path, text_column)
    problems = text_problems(frame[column])
    scores = {} if answers is not None else _find_columns(frame, column, problems)
    if answers is not None:
        scores = _spread(_read_answers(answers, len(frame)), str(answers), problems)
    elif not scores:
        scores = _find_answers(frame, column, path, problems)
    if problems:
        raise DataError(f"{path}:\n" + "\n".join(f"  {problem}" for problem in problems))
    return _take(frame, path, column, scores)


def read_comments(frame: pd.DataFrame, path: Path, text_column: str) -> OldScores:
    """Find only the texts; the arguments are those of `read_old_scores`.

    Raises:
        DataError: no texts.
    """
    column = _text_column(frame, path, text_column)
    if problems := text_problems(frame[column]):
        raise DataError(f"{path}: {problems[0]}")
    return _take(frame, path, column, {})


def _text_column(frame: pd.DataFrame, path: Path, asked: str) -> str:
    column = find_text_column(frame.columns, asked, str(path))
    if column not in frame.columns:
        raise DataError(
            f"{path}: no column {asked!r}; columns there: {show_names(frame.columns)}. Name the one that holds "
            "the texts with --text-column."
        )
    return column


def _take(frame: pd.DataFrame, path: Path, column: str, scores: dict[str, FloatValues]) -> OldScores:
    """The rows that have a text."""
    used = ~is_empty(frame[column])
    if not used.all():
        logger.info("%s: %d of %d rows left out because they have no text.", path, (~used).sum(), len(frame))
    if not used.any():
        raise DataError(f"{path}: no row has a text in column {column!r}.")
    return OldScores(
        texts=frame[column][used].tolist(),
        rows=np.flatnonzero(used) + 1,
        scores={name: values[used] for name, values in scores.items() if not np.isnan(values[used]).all()},
    )


def _find_columns(frame: pd.DataFrame, text_column: str, problems: list[str]) -> dict[str, FloatValues]:
    """The columns that are named after attributes."""
    scores: dict[str, FloatValues] = {}
    for column in frame.columns:
        name = perspective_name(_AFFIXES.sub("", str(column)))
        if name is None or column == text_column:
            continue
        if name in scores:
            problems.append(f"two columns hold {name}; expected one. Rename or remove the other.")
            continue
        values = as_numbers(frame[column])
        scores[name] = values
        problems += _check(name, values, ~is_empty(frame[column]))
    return scores


def _find_answers(frame: pd.DataFrame, text_column: str, path: Path, problems: list[str]) -> dict[str, FloatValues]:
    """The column that holds answers, as objects or as JSON."""
    for column in frame.columns:
        cells = frame[column]
        if column == text_column or (cells.dtype != object and not isinstance(cells.dtype, pd.StringDtype)):
            continue
        if column == _ANSWER or any(_scores_of(cell) for cell in cells[~is_empty(cells)].head(_LOOK_AT)):
            wrap = (lambda cell: {_ANSWER: _parse(cell)}) if column == _ANSWER else _parse
            empty = is_empty(cells)
            found = [{} if none else _scores_of(wrap(cell)) for cell, none in zip(cells, empty, strict=True)]
            wrong = [row for row, scores in enumerate(found, start=1) if scores is None]
            if wrong:
                problems.append(
                    f"column {show_names([column])}: {len(wrong):,} cells do not hold an answer of the API "
                    f"({show_rows(wrong[:6])}, counted from 1 below the header); expected a JSON object. Leave a cell "
                    "empty where there was no answer."
                )
            return _spread((scores or {} for scores in found), str(path), problems)
    raise DataError(
        f"{path}: no old scores; columns there: {show_names(frame.columns)}. Expected columns named after "
        "Perspective's attributes, such as TOXICITY; or a column of the API's answers in JSON; or a file of them, one "
        "per line: --answers FILE. Without old scores, set the share to flag: --flag-rate 0.05"
    )


def _read_answers(path: Path, n_rows: int) -> Iterator[dict[str, float]]:
    """The scores of a file's answers, one for each row of the table.

    Raises:
        DataError: lines that are not JSON objects, or the numbers of lines and rows differ.
    """
    check_unpacked(path)
    wrong: list[int] = []
    n_lines = 0
    with open_unpacked(path) as (_, stream, _), reading(path):
        for n_lines, line in enumerate(iter(partial(stream.readline, bounds.CELL_BYTES + 2), b""), start=1):
            too_long = bounds.is_too_long(len(line.rstrip(b"\r\n")))
            scores = None if too_long else _scores_of_line(line)
            if scores is None:
                wrong.append(n_lines)
            if too_long or n_lines > n_rows or len(wrong) > _MOST_WRONG:
                break
            yield scores or {}
    if wrong:
        raise DataError(
            f"{path}: some lines do not hold a JSON object, or no answer of the API ({show_rows(wrong)}). "
            "Leave the line empty if there was no answer."
        )
    if n_lines != n_rows:
        found = f"more than {n_rows:,}" if n_lines > n_rows else f"{n_lines:,}"
        raise DataError(
            f"{path}: {found} lines for a table of {n_rows:,} rows; expected one answer per row, in their order. "
            "Leave the line empty if there was no answer."
        )


def _scores_of_line(line: bytes) -> dict[str, float] | None:
    """The scores of a line; an empty line has none; None: it does not hold an answer."""
    try:
        text = line.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return None
    return _scores_of(parse_object(text)) if text else {}


def _spread(answers: Iterable[dict[str, float]], where: str, problems: list[str]) -> dict[str, FloatValues]:
    """The scores of each row -> one array for each attribute."""
    found = list(answers)
    names = list(dict.fromkeys(name for one in found for name in one))
    if not names:
        raise DataError(
            f"{where}: no answer of the Perspective API contains a score. Expected objects such as "
            '{"attributeScores": {"TOXICITY": {"summaryScore": {"value": 0.9}}}}'
        )
    scores = {name: np.array([one.get(name, np.nan) for one in found], dtype=np.float64) for name in names}
    for name, values in scores.items():
        problems += _check(name, values, np.array([name in one for one in found], dtype=np.bool_))
    n_without = sum(not one for one in found)
    if n_without:
        logger.info(
            "%s: %d of %d rows have no old score, for example because the request failed.", where, n_without, len(found)
        )
    return scores


def _scores_of(answer: Any) -> dict[str, float] | None:
    """Attribute -> score of one answer, which may be wrapped in another object.

    Returns:
        Empty for an object without scores, such as that of a failed request; NaN for a score that is not a number.
        None: it is not an object, or its scores are not where they should be.
    """
    answer = _parse(answer)
    if not isinstance(answer, dict):
        return None
    if _ANSWER not in answer:
        inner = [value for value in answer.values() if isinstance(value, dict) and _ANSWER in value]
        return _scores_of(inner[0]) if len(inner) == 1 else None if inner else {}
    scores = _parse(answer[_ANSWER])
    if scores is None:
        return {}
    if not isinstance(scores, dict):
        return None
    found: dict[str, float] = {}
    for key, value in scores.items():
        name = perspective_name(key)
        for step in ("summaryScore", "value"):
            value = value.get(step) if isinstance(value, dict) else value
        if name is None or value is None:
            continue
        if name not in found or key == name:  # TOXICITY takes precedence over TOXICITY_EXPERIMENTAL
            found[name] = _as_score(value)
    return found


def _as_score(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return math.nan
    return float(value) if abs(value) < _LARGEST else math.inf


def _parse(cell: Any) -> Any:
    """A cell's JSON, or the cell."""
    return parse_object(cell) if isinstance(cell, str) and cell.lstrip().startswith("{") else cell


def _check(name: str, values: FloatValues, there: npt.NDArray[np.bool_]) -> list[str]:
    kinds = (
        (there & np.isnan(values), "not numbers", "Write decimals with a point, and leave missing ones empty"),
        ((values < 0) | (values > 1), "below 0 or above 1", "Divide percentages by 100"),
    )
    return [
        f"{name}: {mask.sum():,} values that are {what}; expected scores in [0, 1] "
        f"({show_rows(np.flatnonzero(mask)[:6] + 1)}, counted from 1 below the header). {cure}."
        for mask, what, cure in kinds
        if mask.any()
    ]
