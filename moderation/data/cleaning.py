"""Table -> clean rows: find and check the labels, leave out and count unusable rows, keep the wanted languages."""

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moderation.data.label_forms import SpreadLabels, spread_labels
from moderation.data.languages import detect_foreign
from moderation.data.options import LANGUAGE, TableOptions
from moderation.data.splitting import take_part
from moderation.data.validation import (
    Mask,
    as_numbers,
    as_targets,
    find_almost_labels,
    find_label_columns,
    find_number_columns,
    find_problems,
    is_empty,
    label_problems,
    raise_problems,
    text_problems,
)
from moderation.errors import ConfigError, DataError
from moderation.labels import JIGSAW_LABELS, as_labels, name_problem
from moderation.language_codes import UNDETERMINED, base_language, keeps_any, same_language
from moderation.options import build
from moderation.tables.columns import check_column_names, find_text_column, show_names
from moderation.tables.reading import read_table

logger = logging.getLogger(__name__)

_LANGUAGE_COLUMNS = ("lang", "language")
PLAIN_FORM = TableOptions()


@dataclass(frozen=True)
class CleanTable:
    """Usable rows of a table, and what was wrong with the others.

    Args:
        rows: Text column (absent if it has no texts), the float32 0/1 columns of `labels` and, if other languages than
            English are kept and the table names them, the codes of the languages as `LANGUAGE`; the index is the row
            order of the file.
        labels: Label columns without a problem: all requested ones if `problems` is empty.
        left_out: Reason -> number of rows left out: `without_text`, `without_labels` (-1, or no known one),
            `other_language`.
        problems: One line each; if there are any, the table cannot be used for training or evaluation.
        left_aside: Other columns that could be labels, too, if the label columns were not named.
    """

    rows: pd.DataFrame
    labels: tuple[str, ...]
    left_out: dict[str, int]
    problems: list[str]
    left_aside: tuple[str, ...] = field(default=())


def load_english_only(
    data_path: Path | str | pd.DataFrame,
    *,
    max_examples: int | None = None,
    seed: int = 42,
    require_both_classes: bool = True,
    **settings: Any,
) -> pd.DataFrame:
    r"""Load a table of labelled comments: checked, only English unless `languages` names others, with 0/1 targets.

    Left out, and counted in one log line: rows without text (missing or only white space), rows with a label of -1
    (used by the Jigsaw test set for rows that were never labelled), with `partial_labels` rows without any known label,
    and rows in other languages.

    Args:
        data_path: CSV, TSV, Parquet or JSON lines, also `.gz`, `.zip` or `.zst`; or a DataFrame.
        max_examples: Take a seeded sample of this many rows, in the order of the file; None: all.
        seed: Seed of that sample; the same seed gives the same rows.
        require_both_classes: Refuse a label without positives or without negatives, which cannot be trained; use False
            if a small table is only evaluated.
        **settings: Format of the table, with the names of `data.options.TableOptions`: `text_column`,
            `label_columns`, `label_cut`, `labels_in`, `label_format`, `label_none`, `partial_labels`,
            `language_column`, `languages`, `detect_language`, `delimiter`, `quoting`, `escape`.

    Returns:
        `text_column` (str) and the label columns (float32, 0 or 1, NaN if unknown), with the index 0..n-1.
        `attrs["labels"]` is the tuple of labels, `attrs["left_out"]` has the counts `without_text`, `without_labels`
        and `other_language`.

    Raises:
        DataError: the file cannot be read, or the table cannot be used; one message lists all problems, by column,
            count and first row numbers, which count from 1 without the header.
        ConfigError: a setting is out of range.
        TypeError: a keyword is not a setting.
        MissingExtraError: `detect_language` without py3langid.

    Example:
        >>> table = pd.DataFrame({
        ...     "comment_text": ["Thank you!", "You fool.", "  ", "Merci."],
        ...     "lang": ["en", "en-GB", "en", "fr"],
        ...     "insult": [0, 1, 0, 0],
        ... })
        >>> df = load_english_only(table)
        >>> df["insult"].tolist(), df.attrs["labels"], df.attrs["left_out"]["other_language"]
        ([0.0, 1.0], ('insult',), 1)
    """
    several = {
        name: tuple(settings[name])
        for name in ("label_columns", "label_none", "languages")
        if settings.get(name) is not None
    }
    options = build(TableOptions, settings | several)
    return load_labelled(
        data_path, options, max_examples=max_examples, seed=seed, require_both_classes=require_both_classes
    )


def load_labelled(
    data_path: Path | str | pd.DataFrame,
    options: TableOptions = PLAIN_FORM,
    *,
    max_examples: int | None = None,
    seed: int = 42,
    require_both_classes: bool = True,
) -> pd.DataFrame:
    """Like `load_english_only`, which documents the result and the errors, but with the options in one object.

    Args:
        data_path: As there.
        options: Format of the table.
        max_examples: As there.
        seed: As there.
        require_both_classes: As there.
    """
    if max_examples is not None and max_examples < 1:
        raise ConfigError(f"max_examples is {max_examples}, expected 1 or more.")
    where = "table" if isinstance(data_path, pd.DataFrame) else str(data_path)
    clean = clean_table(data_path, options, require_both_classes=require_both_classes)
    raise_problems(clean.problems, where)
    frame = clean.rows.iloc[take_part(len(clean.rows), max_examples, seed)].reset_index(drop=True)
    if len(frame) < len(clean.rows):
        logger.info("%s: using a seeded sample of %d rows.", where, len(frame))
    frame.attrs.update(labels=clean.labels, left_out=clean.left_out)
    return frame


def read_unchecked(path: Path, options: TableOptions) -> pd.DataFrame:
    """Read a file of this format with `reading.read_table`; nothing is checked or left out."""
    return read_table(path, delimiter=options.delimiter, quoting=options.quoting, escape=options.escape)


def clean_table(
    data_path: Path | str | pd.DataFrame, form: TableOptions = PLAIN_FORM, *, require_both_classes: bool = True
) -> CleanTable:
    """Read a table and separate the usable rows from what is wrong.

    Args:
        data_path: As for `load_english_only`.
        form: Format of the table.
        require_both_classes: Count a label without positives or without negatives as a problem.

    Raises:
        DataError: the file cannot be read at all.
        ConfigError: a setting is out of range.
        MissingExtraError: `detect_language` without py3langid.
    """
    where, frame = _read(data_path, form)
    text_column = find_text_column(frame.columns, form.text_column, where)
    spread, labels, left_aside = None, tuple[str, ...](), tuple[str, ...]()
    language_column, problems = _language_column(frame, form, where)
    if form.one_column is None:
        labels, left_aside, almost = _find_labels(frame, text_column, form, where)
        problems += almost
    elif form.one_column in frame.columns:
        spread = _spread(frame, form, where)
        labels = spread.labels
        logger.info("%s: %s.", where, spread.summary)
        frame = _with_labels(frame, spread, form.one_column, (text_column, language_column), where)
    else:
        there = show_names(frame.columns)
        raise DataError(f"{where}: no column {form.one_column!r} of labels; the columns are: {there} (--labels-in)")
    rows, left_out = _leave_out(frame, text_column, labels, language_column, form)
    if spread is not None and form.one_column is not None:
        problems += spread.describe_problems(rows.index, form.one_column)
        rows = rows[spread.problems.loc[rows.index].isna().to_numpy(dtype=bool)]
    check = functools.partial(
        find_problems, labels=labels, text_column=text_column, label_cut=form.label_cut, partial=form.partial_labels
    )
    n_undecided = 0
    if form.detect_language and not problems and not check(rows, require_both_classes=False):
        foreign, n_undecided = detect_foreign(rows[text_column].tolist())
        rows = rows[~foreign]
        left_out["other_language"] += int(foreign.sum())
    summary = _describe_use(len(frame), left_out, n_undecided)
    if rows.empty and not problems and len(frame) and frame[text_column].isna().all():
        problems.append(
            f"no rows left: column {text_column!r} has no value in any of {len(frame):,} rows (in Parquet its type "
            "may be null); expected texts. Choose another column with --text-column NAME"
        )
    elif rows.empty and not problems:
        problems.append(f"no rows left: {summary} (--text-column, --language-column)")
    problems += check(rows, require_both_classes=require_both_classes)
    if not problems:
        logger.info("%s: %s", where, summary)
    clean, sound = _sound_columns(rows, text_column, labels, form)
    if language_column is not None and not form.only_english:
        if LANGUAGE in clean.columns:
            problems.append(f"column {LANGUAGE!r} is both text or label and the codes of languages; rename it")
        clean[LANGUAGE] = rows[language_column].astype("str").fillna(UNDETERMINED).map(base_language)
    return CleanTable(clean, sound, left_out, problems, left_aside)


def _read(data_path: Path | str | pd.DataFrame, form: TableOptions) -> tuple[str, pd.DataFrame]:
    if not isinstance(data_path, pd.DataFrame):
        return str(data_path), read_unchecked(Path(data_path).expanduser(), form)
    check_column_names(data_path.columns, "table")
    return "table", data_path.reset_index(drop=True)


def _find_labels(
    frame: pd.DataFrame, text_column: str, form: TableOptions, where: str
) -> tuple[tuple[str, ...], tuple[str, ...], list[str]]:
    """Label columns, others that could be labels, and problems of those that would be labels except for some words."""
    if form.label_columns is not None:
        return as_labels(form.label_columns), (), []
    labels = find_label_columns(frame, text_column)
    if not labels:
        return labels, (), find_almost_labels(frame, text_column, labels)
    six = bool(set(labels) & set(JIGSAW_LABELS))
    how = "of the Jigsaw six" if six else "every 0/1 column"
    logger.info("%s: labels found (%s): %s.", where, how, show_names(labels))
    aside = find_number_columns(frame, text_column, labels)
    if aside:
        logger.info(
            "%s: columns not used: %s. To use them, too: --label-columns %s (fractions, votes: with --label-cut)",
            *(where, show_names(aside), show_names((*labels, *aside)).replace(", ", ",")),
        )
    return labels, aside, [] if six else find_almost_labels(frame, text_column, labels)


def _spread(frame: pd.DataFrame, form: TableOptions, where: str) -> SpreadLabels:
    given = None if form.label_columns is None else as_labels(form.label_columns)
    return spread_labels(
        frame[form.one_column], label_format=form.label_format, none=form.label_none, given=given, where=where
    )


def _with_labels(
    frame: pd.DataFrame, spread: SpreadLabels, column: str, kept: Sequence[str | None], where: str
) -> pd.DataFrame:
    """The columns of texts and languages, and the label columns instead of all others."""
    clash = [name for name in kept if name in spread.labels]
    if clash:
        raise DataError(
            f"{where}: column {show_names([column])!r} contains a label named {show_names(clash)}, which is also the "
            "name of another column. Rename that column, or leave the label out with --label-columns."
        )
    columns = [name for name in kept if name in frame.columns]
    return pd.concat([frame[columns], spread.columns], axis=1)


def _language_column(frame: pd.DataFrame, form: TableOptions, where: str) -> tuple[str | None, list[str]]:
    """The column of language codes, or None; and the problem if a named one is missing."""
    named = form.language_column
    if named in frame.columns:
        return named, []
    if named is not None:
        there = show_names(frame.columns)
        return None, [f"no column {named!r} of languages; the columns are: {there} (--language-column)"]
    found = next((name for name in _LANGUAGE_COLUMNS if name in frame.columns), None)
    if found is None and not form.only_english and not keeps_any(form.languages):
        logger.warning(
            "%s: all rows are used, whatever their language: --languages %s needs a column of language codes, and "
            "there is no %s (--language-column).",
            *(where, show_names(form.languages), " or ".join(_LANGUAGE_COLUMNS)),
        )
    return found, []


def _leave_out(
    frame: pd.DataFrame, text_column: str, labels: Sequence[str], language_column: str | None, form: TableOptions
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows to use, and reason -> number of rows left out; each row counts under its first reason."""
    without_text = np.zeros(len(frame), dtype=bool)
    if text_column in frame.columns:
        without_text = is_empty(frame[text_column])
    present = [label for label in labels if label in frame.columns and label != text_column]
    unlabelled = ~without_text & _any_minus_one(frame, present)
    if form.partial_labels and present:
        unlabelled |= ~without_text & np.all([is_empty(frame[label]) for label in present], axis=0)
    kept = ~without_text & ~unlabelled
    foreign = np.zeros(len(frame), dtype=bool)
    if language_column is not None and not keeps_any(form.languages):
        codes = frame[language_column].astype("str")  # missing values stay missing, and are no language
        wanted = {code for code in codes.dropna().unique() if any(same_language(code, one) for one in form.languages)}
        foreign = kept & ~codes.isin(wanted).to_numpy(dtype=bool)
    counts = {"without_text": without_text, "without_labels": unlabelled, "other_language": foreign}
    return frame[kept & ~foreign], {reason: int(mask.sum()) for reason, mask in counts.items()}


def _sound_columns(
    rows: pd.DataFrame, text_column: str, labels: Sequence[str], form: TableOptions
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The text column, if it is valid, under the requested name; the targets of labels without problems."""
    columns: dict[str, pd.Series | npt.NDArray[np.float32]] = {}
    if text_column in rows.columns and not text_problems(rows[text_column]):
        columns[form.text_column] = rows[text_column].astype("str")
    present = [label for label in labels if label in rows.columns and label != text_column]
    named = [label for label in present if not name_problem(label)]
    sound = tuple(
        label for label in named if not label_problems(rows[label], form.label_cut, partial=form.partial_labels)
    )
    columns |= {label: as_targets(rows[label], form.label_cut) for label in sound}
    return pd.DataFrame(columns, index=rows.index), sound


def _any_minus_one(frame: pd.DataFrame, labels: Sequence[str]) -> Mask:
    unlabelled = np.zeros(len(frame), dtype=bool)
    for label in labels:
        unlabelled |= as_numbers(frame[label]) == -1
    return unlabelled


def describe_left_out(left_out: dict[str, int]) -> str:
    """List the reasons why rows were left out, with their counts.

    >>> describe_left_out({"without_text": 2, "without_labels": 0, "other_language": 1200})
    '2 without text, 0 without labels, 1,200 in other languages'
    """
    words = {
        "without_text": "without text",
        "without_labels": "without labels",
        "other_language": "in other languages",
    }
    return ", ".join(f"{left_out[reason]:,} {word}" for reason, word in words.items())


def _describe_use(n_rows: int, left_out: dict[str, int], n_undecided: int) -> str:
    n_kept = n_rows - sum(left_out.values())
    undecided = f" ({n_undecided} of uncertain language kept)" if n_undecided else ""
    return f"{n_kept} of {n_rows} rows used{undecided}; left out: {describe_left_out(left_out)}."
