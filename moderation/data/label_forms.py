"""Labels in one column, as names, lists, JSON or classes -> one column of numbers per label."""

import ast
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from moderation.data.options import LabelFormat
from moderation.data.validation import NO, YES
from moderation.errors import DataError
from moderation.labels import JIGSAW_LABELS
from moderation.tables.columns import show_names, show_rows

NO_LABEL = ("none", "normal", "clean", "neither", "ok", "not")
"""Default classes that mean no label; `not_...`, `not-...` and `not ...` do, too."""

_SEPARATORS = re.compile(r"[|;,]")
_MOST_NAMES = 100
_EMPTY, _UNREADABLE, _TWICE, _NO_NAME = "empty", "unreadable", "twice", "no name"

Cell = dict[str, object] | str
"""The labels of a row with their values, or what is wrong with its cell."""


@dataclass(frozen=True)
class SpreadLabels:
    """Labels of one column, spread over several columns.

    Args:
        columns: Numbers, one column per label; the index is the frame's. NaN if a cell could not be read.
        labels: In order: those of the Jigsaw six that are present, then the others by name; or the given ones.
        problems: For each row, what is wrong with its cell, or None. The index is the frame's.
        summary: What was read, for the log.
    """

    columns: pd.DataFrame
    labels: tuple[str, ...]
    problems: pd.Series
    summary: str

    def describe_problems(self, kept: pd.Index, column: str) -> list[str]:
        """One line for each kind of problem in the kept rows."""
        found = self.problems.loc[kept].dropna()
        return [
            f"column {show_names([column])!r}: {len(rows)} cell{'s' if len(rows) > 1 else ''} {what} "
            f"({show_rows(rows.to_numpy()[:6] + 1)}); to read it in another way: --label-format"
            for what, rows in ((what, found.index[found == what]) for what in found.unique())
        ]


def spread_labels(
    cells: pd.Series,
    *,
    label_format: LabelFormat = "auto",
    none: Sequence[str] | None = None,
    given: Sequence[str] | None = None,
    where: str = "table",
) -> SpreadLabels:
    """Read a column that holds all labels of a row.

    Args:
        cells: The column.
        label_format: `names` (`toxic|insult`, also with `,` or `;`), `list` (`["toxic"]`), `json` (`{"toxic": 1}`),
            `class` (one name), or `auto`: what all cells look like.
        none: Names that mean no label, in upper or lower case; None: `NO_LABEL` and names that begin with `not_`.
        given: Labels to use, in this order; None: all that are found.
        where: The table's name in an error.

    Raises:
        DataError: no label at all, more than a hundred, or two that differ only by case.

    >>> spread = spread_labels(pd.Series(["toxic|insult", "", "none"]))
    >>> spread.labels, spread.columns["insult"].tolist()
    (('toxic', 'insult'), [1, 0, 0])
    """
    values = [_plain(value) for value in cells]
    read_as = _guess_format(values) if label_format in ("auto", "columns") else label_format
    parsed = [_PARSERS[read_as](value) for value in values]
    parsed = [cell if isinstance(cell, str) or all(map(_is_name, cell)) else _NO_NAME for cell in parsed]
    counts = Counter(name for cell in parsed if not isinstance(cell, str) for name in cell)
    no_label = {name for name in counts if _means_none(name, none)}
    if counts and (set(counts) <= {"0", "1"} or all(name.casefold() in YES | NO for name in counts)):
        raise DataError(
            f"{where}: column {show_names([cells.name])!r} contains 0 and 1, not names of labels. Use "
            "--label-columns for it instead of --labels-in."
        )
    names = _check_names(counts.keys() - no_label, str(cells.name), where)
    labels = tuple(given) if given is not None else names
    columns = {label: [np.nan if isinstance(cell, str) else cell.get(label, 0) for cell in parsed] for label in labels}
    wrong = {
        _EMPTY: "without a class",
        _UNREADABLE: f"that cannot be read as {read_as}",
        _TWICE: "in which a label is repeated, each time with a value; write it once",
        _NO_NAME: f"read as {read_as}, with a name that a label cannot have: empty, more than 64 characters, or with "
        'one of []{}"|;,',
    }
    problems = [wrong[cell] if isinstance(cell, str) else None for cell in parsed]
    return SpreadLabels(
        pd.DataFrame(columns, index=cells.index),
        labels,
        pd.Series(problems, index=cells.index, dtype=object),
        _summarise(read_as, labels, no_label, [name for name in names if name not in labels]),
    )


class _JsonObject(dict[str, object]):
    """An object that knows how many pairs it was made from, even if a name was repeated."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.n_pairs = len(pairs)


def _guess_format(values: Sequence[Any]) -> str:
    """The format that all cells with content have."""
    held = [value for value in values if value not in ("", None, [], "[]")]
    for name, kind, mark in (("list", list, "["), ("json", dict, "{")):
        if held and all(isinstance(value, kind) or (isinstance(value, str) and value[0] == mark) for value in held):
            return name
    return "names" if any(isinstance(value, str) and _SEPARATORS.search(value) for value in held) else "class"


def _plain(value: Any) -> Any:
    """A cell as text, list, dict or None."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple, set, frozenset)):
        pairs = [part for part in value if isinstance(part, tuple) and len(part) == 2]  # a map in Parquet
        return _JsonObject(pairs) if pairs and len(pairs) == len(value) else list(value)
    if isinstance(value, dict):
        return value
    if value is None or pd.isna(value):
        return None
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _parse_class(value: Any) -> Cell:
    if value in ("", None):
        return _EMPTY
    return {value: 1} if isinstance(value, str) else _UNREADABLE


def _parse_names(value: Any) -> Cell:
    if not isinstance(value, (str, type(None))):
        return _UNREADABLE
    return {part.strip(): 1 for part in _SEPARATORS.split(value or "") if part.strip()}


def _parse_list(value: Any) -> Cell:
    found = _literal(value) if isinstance(value, str) else value
    if found is None:
        return {}
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        return _UNREADABLE
    return {name.strip(): 1 for name in found}


def _parse_json(value: Any) -> Cell:
    found = _literal(value) if isinstance(value, str) else value
    if found is None or found == []:  # how PHP writes an object without names
        return {}
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        return _UNREADABLE
    if not all(isinstance(number, (bool, int, float, str, type(None))) for number in found.values()):
        return _UNREADABLE
    cell = {name.strip(): 0 if number is None else number for name, number in found.items()}
    n_names = found.n_pairs if isinstance(found, _JsonObject) else len(found)
    return cell if len(cell) == n_names else _TWICE


def _literal(text: str) -> Any:
    """The value of JSON, or of a Python literal, which pandas writes to files; the text itself if it is neither."""
    if not text:
        return None
    try:
        return json.loads(text, object_pairs_hook=_JsonObject)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text) if len(text) < 10_000 else text
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return text


_PARSERS: dict[str, Callable[[Any], Cell]] = {
    "class": _parse_class,
    "names": _parse_names,
    "list": _parse_list,
    "json": _parse_json,
}


def _is_name(name: str) -> bool:
    return 0 < len(name) <= 64 and name.isprintable() and not set(name) & set('[]{}"|;,')


def _means_none(name: str, none: Sequence[str] | None) -> bool:
    folded = name.casefold()
    if none is not None:
        return folded in {word.strip().casefold() for word in none}
    return folded in NO_LABEL or bool(re.match(r"not[_\s-]", folded))


def _check_names(names: Iterable[str], column: str, where: str) -> tuple[str, ...]:
    found = sorted(names)
    if not found or len(found) > _MOST_NAMES:
        what = f"more than {_MOST_NAMES} different labels" if found else "no label at all"
        raise DataError(
            f"{where}: column {show_names([column])!r} has {what}; expected names of labels. For another column: "
            "--labels-in; to read it in another way: --label-format"
        )
    folded = Counter(name.casefold() for name in found)
    alike = [name for name in found if folded[name.casefold()] > 1]
    if alike:
        raise DataError(
            f"{where}: column {show_names([column])!r} has labels that differ only by case: {show_names(alike)}. "
            "Write each label in one way."
        )
    return tuple(name for name in JIGSAW_LABELS if name in found) + tuple(
        name for name in found if name not in JIGSAW_LABELS
    )


def _summarise(read_as: str, labels: Sequence[str], no_label: set[str], aside: Sequence[str]) -> str:
    parts = [f"labels found ({read_as}): {show_names(labels)}"]
    if no_label:
        parts.append(f"no label: {show_names(sorted(no_label))}")
    else:
        parts.append("every name counts as a label (list those that mean no label with --label-none)")
    if aside:
        parts.append(f"not used: {show_names(aside)}")
    return "; ".join(parts)
