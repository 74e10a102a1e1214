"""Several labelled sets in one table, in one language or many; a label that a set does not ask about is empty."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from moderation.bundles import Bundle
from moderation.data.cleaning import PLAIN_FORM
from moderation.data.options import TableOptions
from moderation.data.validation import is_empty
from moderation.errors import DataError
from moderation.evaluation.by_language import LANGUAGE_HEADER, LanguageTable, language_cells, measure_by_language
from moderation.evaluation.reliability import auc_interval
from moderation.evaluation.split_metrics import Interval, LanguageFigures
from moderation.suites.options import SuiteOptions
from moderation.suites.results import Figure, SuiteResult, Table
from moderation.suites.rows import check_groups, read_rows, read_targets
from moderation.suites.scorer import Scorer, main_label
from moderation.tables.columns import show_names
from moderation.tables.options import TEXT_COLUMN
from moderation.text_tables import interval, number

SOURCE, LANGUAGE = "source", "lang"
COLUMNS = (TEXT_COLUMN, LANGUAGE, SOURCE)
_FEWEST = 30  # examples of each class; with fewer, a ROC-AUC is too uncertain for the summary
_HEADER = ("set", "language", "label", "known", "positive", "ROC-AUC", "95 % interval", "recall", "false alarms", "ECE")


@dataclass(frozen=True)
class OpenNumbers:
    """The figures of `measure_open`.

    Args:
        sets: Name of a set -> label -> figures.
        languages: Language code -> label -> figures.
    """

    sets: LanguageTable
    languages: LanguageTable


def read_open(path: Path, bundle: Bundle, form: TableOptions = PLAIN_FORM) -> pd.DataFrame:
    """Read `comment_text`, `lang`, `source`, and the labels that table and bundle share.

    Returns:
        The labels are float32: 0, 1, or NaN where the cell is empty. `attrs["labels"]` names those that are known
        somewhere.

    Raises:
        DataError: other columns, no label of the bundle, or cells other than 0, 1 and empty.
    """
    frame = check_groups(read_rows(path, COLUMNS, TEXT_COLUMN, form), [LANGUAGE, SOURCE], path)
    labels = [label for label in bundle.labels if label in frame.columns and not is_empty(frame[label]).all()]
    if not labels:
        raise DataError(
            f"{path}: no label of the bundle is known in any row; columns there: {show_names(frame.columns)}. Expected "
            f"one or more of {', '.join(bundle.labels)}."
        )
    for label in labels:
        values = np.full(len(frame), np.nan, dtype=np.float32)
        known = ~is_empty(frame[label])
        values[known] = read_targets(frame[known], label, path, form.label_cut)
        frame = frame.assign(**{label: values})
    frame.attrs["labels"] = labels
    return frame


def measure_open(frame: pd.DataFrame, scorer: Scorer, options: SuiteOptions) -> SuiteResult:
    """Measure every label of every set, and of every language, at the thresholds that decide about each text.

    Args:
        frame: From `read_open`, or a part of it.
        scorer: The model.
        options: Not used: the intervals need no samples.
    """
    labels = [label for label in scorer.labels if label in frame.columns and frame[label].notna().any()]
    places = [scorer.labels.index(label) for label in labels]
    probabilities = scorer.read(frame[TEXT_COLUMN], "open")[:, places]
    cuts = scorer.thresholds_of(frame[TEXT_COLUMN])[..., places]
    truth = frame[labels].to_numpy(dtype=np.float32)

    def measure(column: str) -> dict[str, dict[str, LanguageFigures]]:
        names = frame[column].fillna("und").astype(str).tolist()
        return measure_by_language(probabilities, truth, names, labels, cuts)

    sets, languages = measure(SOURCE), measure(LANGUAGE)
    of_set = {str(name): _join(part[LANGUAGE]) for name, part in frame.groupby(SOURCE)}
    rows = [
        (name, of_set[name], label, *_cells(figures))
        for name, of_labels in sets.items()
        for label, figures in of_labels.items()
    ]
    return SuiteResult(
        n_rows=len(frame),
        figures=tuple(_figures(sets, languages, labels[main_label(labels)])),
        tables=(
            Table("Sets", _HEADER, tuple(rows)),
            Table("Languages", LANGUAGE_HEADER, tuple(language_cells(languages))),
        ),
        numbers=OpenNumbers(sets, languages),
    )


def _join(codes: "pd.Series[str]") -> str:
    """The languages of a set, the first few of many."""
    names = sorted({str(code) for code in codes.dropna()})
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _cells(one: LanguageFigures) -> tuple[str, ...]:
    shares = (number(one.recall), number(one.false_alarms), number(one.ece))
    return (f"{one.n_known:,}", f"{one.support:,}", number(one.roc_auc), interval(_bounds(one)), *shares)


def _bounds(one: LanguageFigures) -> Interval | None:
    return None if one.roc_auc is None else auc_interval(one.roc_auc, one.support, one.n_known - one.support)


def _figures(sets: LanguageTable, languages: LanguageTable, main: str) -> list[Figure]:
    """For the summary: ROC-AUC of the main label by set, their mean, the worst one, and false alarms by language."""
    ranked = _sound(sets, main)
    found = [Figure(f"ROC-AUC of {main}, {name}", one.roc_auc, _bounds(one)) for name, one in ranked.items()]
    if ranked:
        values: npt.NDArray[np.float64] = np.array([one.roc_auc for one in ranked.values()], dtype=np.float64)
        worst = list(ranked)[int(values.argmin())]
        mean = Figure(f"ROC-AUC of {main}, mean of sets", float(values.mean()))
        found = [mean, Figure(f"ROC-AUC of {main}, worst set", float(values.min()), detail=worst), *found]
    alarms = _sound(languages, main)
    return found + [Figure(f"false alarms of {main}, {code}", one.false_alarms) for code, one in alarms.items()]


def _sound(table: LanguageTable, label: str) -> Mapping[str, LanguageFigures]:
    """Groups with enough examples of both classes."""
    known: Sequence[tuple[str, LanguageFigures]] = [
        (name, figures[label]) for name, figures in table.items() if label in figures
    ]
    return {name: one for name, one in known if min(one.support, one.n_known - one.support) >= _FEWEST}
