"""Table -> clean rows: labels found and checked, what cannot be used left out and counted, English kept."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from moderation.data.label_forms import SpreadLabels, spread_labels
from moderation.data.languages import detect_foreign, is_english
from moderation.data.options import LabelFormat
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
from moderation.tables.columns import TEXT_COLUMN, check_column_names, find_text_column, show_names
from moderation.tables.options import Quoting
from moderation.tables.reading import read_table

logger = logging.getLogger(__name__)

_LANGUAGE_COLUMNS = ("lang", "language")


@dataclass(frozen=True, kw_only=True)
class TableForm:
    """How a table of labelled comments is written; `load_english_only` says what each argument means."""

    text_column: str = TEXT_COLUMN
    label_columns: Sequence[str] | None = None
    label_cut: float | None = None
    labels_in: str | None = None
    label_format: LabelFormat = "auto"
    label_none: Sequence[str] | None = None
    language_column: str | None = None
    detect_language: bool = False
    delimiter: str | None = None
    quoting: Quoting = "standard"
    escape: str | None = None

    def __post_init__(self) -> None:
        """Check values that need no table.

        Raises:
            ConfigError: a value out of range.
        """
        cut = self.label_cut
        if cut is not None and not (0 < cut <= 1 or (cut > 1 and float(cut).is_integer())):
            raise ConfigError(
                f"--label-cut is {cut}, expected more than 0 and at most 1 for fractions, or a whole number of votes."
            )
        if self.label_format not in get_args(LabelFormat):
            raise ConfigError(f"--label-format is {self.label_format}, expected {' | '.join(get_args(LabelFormat))}.")
        if self.label_format not in ("auto", "columns") and self.labels_in is None:
            raise ConfigError(f"--label-format {self.label_format} needs --labels-in, which names the column.")

    @property
    def one_column(self) -> str | None:
        """The column that holds all labels of a row; None where each label has its own."""
        return None if self.label_format == "columns" else self.labels_in

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of `load_english_only`."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def read(self, path: Path) -> pd.DataFrame:
        """Read a file that is written so, as `reading.read_table` does."""
        return read_table(path, delimiter=self.delimiter, quoting=self.quoting, escape=self.escape)


@dataclass(frozen=True)
class CleanTable:
    """Rows of a table that can be used, and what was wrong with the rest.

    Args:
        rows: Text column (absent where it holds no texts) and the float32 0/1 columns of `labels`; the index is the
            row order of the file.
        labels: Label columns without a problem: all that were asked for where `problems` is empty.
        left_out: Reason to number of rows left out: `without_text`, `without_labels` (-1), `other_language`.
        problems: One line each; with any, the table is not fit for training or evaluation.
        left_aside: Columns that may be labels too, and are none of `labels`, where nobody said which are.
    """

    rows: pd.DataFrame
    labels: tuple[str, ...]
    left_out: dict[str, int]
    problems: list[str]
    left_aside: tuple[str, ...] = field(default=())


PLAIN_FORM = TableForm()


def load_english_only(
    data_path: Path | str | pd.DataFrame,
    *,
    text_column: str = "comment_text",
    label_columns: Sequence[str] | None = None,
    label_cut: float | None = None,
    labels_in: str | None = None,
    label_format: LabelFormat = "auto",
    label_none: Sequence[str] | None = None,
    language_column: str | None = None,
    detect_language: bool = False,
    delimiter: str | None = None,
    quoting: Quoting = "standard",
    escape: str | None = None,
    max_examples: int | None = None,
    seed: int = 42,
    require_both_classes: bool = True,
) -> pd.DataFrame:
    r"""Load a table of labelled comments: checked, English alone, with 0/1 targets.

    Left out, and counted in one log line: rows without text (missing or white space alone), rows with a label of -1
    (the Jigsaw test set marks so what was never labelled) and rows in other languages.

    Args:
        data_path: CSV, TSV, Parquet or JSON lines, also `.gz`, `.zip` or `.zst`; or a DataFrame.
        text_column: Column of the texts; where the default is not there, the one column of a usual name (`text`,
            `comment`, `tweet`, ...) is taken, which is logged, and arrives under the name of the default.
        label_columns: Label columns in the order of the targets; default: the Jigsaw six, as far as present, else
            every column of 0 and 1, of true and false, or of yes and no. Which ones, and which others may be labels
            too, is logged. With `labels_in`: the labels to take from there.
        label_cut: In (0, 1]: labels may be fractions in [0, 1] and count as positive from this value on. A whole number
            from 1 on: labels may be numbers of votes. None: a fraction or a number of votes is an error.
        labels_in: One column that holds all labels of a row, as `label_forms.spread_labels` reads it.
        label_format: `names`, `list`, `json` or `class`: how it does; `auto`: as it looks; `columns`: take no notice of
            `labels_in`.
        label_none: Names there that mean no label; default: none, normal, clean, neither, ok, not and not_... .
        language_column: Column of language codes, of which `en`, `EN`, `en-US` and the like are kept; default: `lang`
            or `language` where there is one.
        detect_language: Also leave out texts that are clearly not English: at least 20 letters, and another language
            has a probability of at least 0.5. Texts that are too short or undecided are kept and counted. About 4,000
            texts a second. Needs the extra `languages`.
        delimiter: Field delimiter of a CSV file; default: a comma, for TSV a tab.
        quoting: What quotes mean in a CSV file: `standard` or `none`, as `csv_dialects.CsvDialect` has it.
        escape: Its escape character, as there.
        max_examples: Take a seeded part of so many rows, in the order of the file; None: all.
        seed: Seed of that part; the same seed gives the same rows.
        require_both_classes: Refuse a label without positives or without negatives, with which nothing can be trained;
            False where a small table is only evaluated.

    Returns:
        `text_column` (str) and the label columns (float32, 0 or 1), the index 0..n-1. `attrs["labels"]` holds the
        tuple of labels, `attrs["left_out"]` the counts `without_text`, `without_labels` and `other_language`.

    Raises:
        DataError: the file cannot be read, or the table cannot be used; all problems in one message, by column, count
            and first row numbers, which count from 1 without the header.
        ConfigError: a setting is out of range.
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
    if max_examples is not None and max_examples < 1:
        raise ConfigError(f"max_examples is {max_examples}, expected 1 or more.")
    where = "table" if isinstance(data_path, pd.DataFrame) else str(data_path)
    form = TableForm(
        text_column=text_column,
        label_columns=label_columns,
        label_cut=label_cut,
        labels_in=labels_in,
        label_format=label_format,
        label_none=label_none,
        language_column=language_column,
        detect_language=detect_language,
        delimiter=delimiter,
        quoting=quoting,
        escape=escape,
    )
    clean = clean_table(data_path, form, require_both_classes=require_both_classes)
    raise_problems(clean.problems, where)
    frame = clean.rows.iloc[take_part(len(clean.rows), max_examples, seed)].reset_index(drop=True)
    if len(frame) < len(clean.rows):
        logger.info("%s: took a seeded part of %d rows.", where, len(frame))
    frame.attrs.update(labels=clean.labels, left_out=clean.left_out)
    return frame


def clean_table(
    data_path: Path | str | pd.DataFrame, form: TableForm = PLAIN_FORM, *, require_both_classes: bool = True
) -> CleanTable:
    """Read a table and part what can be used from what is wrong.

    Args:
        data_path: As `load_english_only` takes it.
        form: How the table is written.
        require_both_classes: A label without positives or without negatives is a problem.

    Raises:
        DataError: the file cannot be read at all.
        ConfigError: a setting is out of range.
        MissingExtraError: `detect_language` without py3langid.
    """
    where, frame = _read(data_path, form)
    text_column = find_text_column(frame.columns, form.text_column, where)
    spread, labels, left_aside = None, tuple[str, ...](), tuple[str, ...]()
    language_column, problems = _language_column(frame, form.language_column)
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
        raise DataError(f"{where}: no column {form.one_column!r} of labels; columns there: {there} (--labels-in)")
    rows, left_out = _leave_out(frame, text_column, labels, language_column)
    if spread is not None and form.one_column is not None:
        problems += spread.describe_problems(rows.index, form.one_column)
        rows = rows[spread.problems.loc[rows.index].isna().to_numpy(dtype=bool)]
    check = partial(find_problems, labels=labels, text_column=text_column, label_cut=form.label_cut)
    n_undecided = 0
    if form.detect_language and not problems and not check(rows, require_both_classes=False):
        foreign, n_undecided = detect_foreign(rows[text_column].tolist())
        rows = rows[~foreign]
        left_out["other_language"] += int(foreign.sum())
    summary = _describe_use(len(frame), left_out, n_undecided)
    if rows.empty and not problems:
        problems.append(f"no rows left: {summary} (--text-column, --language-column)")
    problems += check(rows, require_both_classes=require_both_classes)
    if not problems:
        logger.info("%s: %s", where, summary)
    clean, sound = _sound_columns(rows, text_column, labels, form)
    return CleanTable(clean, sound, left_out, problems, left_aside)


def _read(data_path: Path | str | pd.DataFrame, form: TableForm) -> tuple[str, pd.DataFrame]:
    if not isinstance(data_path, pd.DataFrame):
        return str(data_path), form.read(Path(data_path).expanduser())
    check_column_names(data_path.columns, "table")
    return "table", data_path.reset_index(drop=True)


def _find_labels(
    frame: pd.DataFrame, text_column: str, form: TableForm, where: str
) -> tuple[tuple[str, ...], tuple[str, ...], list[str]]:
    """The label columns, others that may be some too, and the problems of columns that would be but for some words."""
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
            "%s: columns left aside: %s. To take them too: --label-columns %s (fractions and votes: with --label-cut)",
            *(where, show_names(aside), show_names((*labels, *aside)).replace(", ", ",")),
        )
    return labels, aside, [] if six else find_almost_labels(frame, text_column, labels)


def _spread(frame: pd.DataFrame, form: TableForm, where: str) -> SpreadLabels:
    given = None if form.label_columns is None else as_labels(form.label_columns)
    return spread_labels(
        frame[form.one_column], label_format=form.label_format, none=form.label_none, given=given, where=where
    )


def _with_labels(
    frame: pd.DataFrame, spread: SpreadLabels, column: str, kept: Sequence[str | None], where: str
) -> pd.DataFrame:
    """The columns of texts and languages, and those of the labels in place of all others."""
    clash = [name for name in kept if name in spread.labels]
    if clash:
        raise DataError(
            f"{where}: column {show_names([column])!r} holds a label named {show_names(clash)}, which is also the name "
            "of another column. Rename that column, or leave the label out with --label-columns."
        )
    columns = [name for name in kept if name in frame.columns]
    return pd.concat([frame[columns], spread.columns], axis=1)


def _language_column(frame: pd.DataFrame, named: str | None) -> tuple[str | None, list[str]]:
    """The column of language codes, None where there is none; and the problem of one that was named and is absent."""
    if named is None:
        return next((name for name in _LANGUAGE_COLUMNS if name in frame.columns), None), []
    if named in frame.columns:
        return named, []
    problem = f"no column {named!r} of languages; columns there: {show_names(frame.columns)} (--language-column)"
    return None, [problem]


def _leave_out(
    frame: pd.DataFrame, text_column: str, labels: Sequence[str], language_column: str | None
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows to use, and reason to number of rows left out; each row counts under its first reason."""
    without_text = np.zeros(len(frame), dtype=bool)
    if text_column in frame.columns:
        without_text = is_empty(frame[text_column])
    unlabelled = ~without_text & _any_minus_one(frame, [label for label in labels if label != text_column])
    kept = ~without_text & ~unlabelled
    foreign = np.zeros(len(frame), dtype=bool)
    if language_column is not None:
        codes = frame[language_column].astype("str")  # missing stays missing, and is not English
        foreign = kept & ~codes.map(is_english, na_action="ignore").eq(True).to_numpy(dtype=bool)
    counts = {"without_text": without_text, "without_labels": unlabelled, "other_language": foreign}
    return frame[kept & ~foreign], {reason: int(mask.sum()) for reason, mask in counts.items()}


def _sound_columns(
    rows: pd.DataFrame, text_column: str, labels: Sequence[str], form: TableForm
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The text column, where it is one, under the name that was asked for; the targets of labels without problems."""
    columns: dict[str, pd.Series | npt.NDArray[np.float32]] = {}
    if text_column in rows.columns and not text_problems(rows[text_column]):
        columns[form.text_column] = rows[text_column].astype("str")
    present = [label for label in labels if label in rows.columns and label != text_column]
    named = [label for label in present if not name_problem(label)]
    sound = tuple(label for label in named if not label_problems(rows[label], form.label_cut))
    columns |= {label: as_targets(rows[label], form.label_cut) for label in sound}
    return pd.DataFrame(columns, index=rows.index), sound


def _any_minus_one(frame: pd.DataFrame, labels: Sequence[str]) -> Mask:
    unlabelled = np.zeros(len(frame), dtype=bool)
    for label in labels:
        if label in frame.columns:
            unlabelled |= as_numbers(frame[label]) == -1
    return unlabelled


def describe_left_out(left_out: dict[str, int]) -> str:
    """Write the reasons for which rows were left out, with their counts.

    >>> describe_left_out({"without_text": 2, "without_labels": 0, "other_language": 1200})
    '2 without text, 0 with labels of -1, 1,200 in other languages than English'
    """
    words = {
        "without_text": "without text",
        "without_labels": "with labels of -1",
        "other_language": "in other languages than English",
    }
    return ", ".join(f"{left_out[reason]:,} {word}" for reason, word in words.items())


def _describe_use(n_rows: int, left_out: dict[str, int], n_undecided: int) -> str:
    n_kept = n_rows - sum(left_out.values())
    undecided = f" ({n_undecided} of undecided language kept)" if n_undecided else ""
    return f"{n_kept} of {n_rows} rows used{undecided}; left out: {describe_left_out(left_out)}."
