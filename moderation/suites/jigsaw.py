"""Jigsaw's suites: the labels of the 2018 challenge with bootstrap intervals, the languages of the 2020 one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from moderation.bundles import Bundle
from moderation.data.cleaning import PLAIN_FORM
from moderation.data.options import TableOptions
from moderation.data.splits import languages_of
from moderation.errors import DataError
from moderation.evaluation.by_language import LANGUAGE_HEADER, language_cells, measure_by_language
from moderation.evaluation.metrics import measure_split
from moderation.suites.options import SuiteOptions
from moderation.suites.results import Figure, SuiteResult, Table
from moderation.suites.rows import check_groups, read_rows, read_targets
from moderation.suites.scorer import Scorer
from moderation.suites.single import HEADER, SingleLabel, cells, measure_single
from moderation.tables.options import TEXT_COLUMN
from moderation.text_tables import interval, number

MULTILINGUAL_COLUMNS = (TEXT_COLUMN, "lang", "toxic")


@dataclass(frozen=True)
class LanguageNumbers:
    """The label `toxic` in each language, and over all of them."""

    languages: Mapping[str, SingleLabel]
    all: SingleLabel


def measure_labels(frame: pd.DataFrame, scorer: Scorer, options: SuiteOptions) -> SuiteResult:
    """Measure every label that both the table and the bundle have, at its threshold.

    Args:
        frame: From `labelled.read_labelled`, or a part of it.
        scorer: The model.
        options: Samples and seed.
    """
    labels = [label for label in scorer.labels if label in frame.columns and frame[label].notna().any()]
    if not labels:
        raise DataError("jigsaw: no label is known in any row of the table. Expected 0 and 1 in some cells.")
    places = [scorer.labels.index(label) for label in labels]
    probabilities = scorer.read(frame[TEXT_COLUMN], "jigsaw")[:, places]
    cuts = scorer.thresholds_of(frame[TEXT_COLUMN])[..., places]
    by_text = cuts if cuts.ndim == 2 else None
    numbers = measure_split(
        probabilities,
        frame[labels].to_numpy(),
        labels,
        scorer.thresholds[places],
        by_text=by_text,
        bootstrap=options.bootstrap,
        seed=options.seed,
    )
    spread, macro = numbers.macro_intervals, numbers.macro
    header = ("label", "positive", "ROC-AUC", "95 % interval", "AP", "95 % interval", "precision", "recall", "F1")
    rows = []
    for label, one in numbers.labels.items():
        ranking = [number(one.roc_auc, 4), interval(one.intervals.roc_auc)]
        ranking += [number(one.average_precision), interval(one.intervals.average_precision)]
        decided = one.at_threshold
        decisions = [number(decided.precision), number(decided.recall), number(decided.f1)]
        more = [interval(one.intervals.f1), number(one.ece)]
        rows.append((label, f"{one.support:,}", *ranking, *decisions, *more))
    languages = []
    if (codes := languages_of(frame)) is not None:
        by_language = measure_by_language(probabilities, frame[labels].to_numpy(), codes, labels, cuts)
        numbers = replace(numbers, languages=by_language)
        cells_by_language = tuple(language_cells(by_language))
        languages = [Table("Languages", LANGUAGE_HEADER, cells_by_language)]
    return SuiteResult(
        n_rows=len(frame),
        figures=(
            Figure("mean ROC-AUC", macro.roc_auc, spread.roc_auc),
            Figure("mean average precision", macro.average_precision, spread.average_precision),
            Figure("macro-F1", macro.f1, spread.f1),
            Figure("ECE, worst label", macro.ece_worst),
        ),
        tables=(Table("Labels at their thresholds", (*header, "95 % interval", "ECE"), tuple(rows)), *languages),
        numbers=numbers,
    )


def read_multilingual(path: Path, bundle: Bundle, form: TableOptions = PLAIN_FORM) -> pd.DataFrame:
    """Read comments in several languages: `comment_text`, `lang`, `toxic`.

    Raises:
        DataError: other columns, or targets other than 0 and 1.
    """
    frame = check_groups(read_rows(path, MULTILINGUAL_COLUMNS, TEXT_COLUMN, form), ["lang"], path)
    return frame.assign(toxic=read_targets(frame, "toxic", path))


def measure_multilingual(frame: pd.DataFrame, scorer: Scorer, options: SuiteOptions) -> SuiteResult:
    """Measure the label `toxic` in each language and over all of them."""
    scorer.read(frame[TEXT_COLUMN], "jigsaw-multilingual")
    positive = frame["toxic"].to_numpy(dtype=bool)
    languages = frame["lang"].astype("str").to_numpy()
    groups = {str(code): languages == code for code in sorted(set(languages))}
    numbers = {
        code: measure_single(frame[TEXT_COLUMN][rows].tolist(), positive[rows], scorer, options, "toxic")
        for code, rows in groups.items()
    }
    overall = measure_single(frame[TEXT_COLUMN].tolist(), positive, scorer, options, "toxic")
    found = {"all languages": overall} | numbers
    figures = [
        Figure(f"ROC-AUC, {name}", one.metrics.roc_auc, one.metrics.intervals.roc_auc) for name, one in found.items()
    ]
    rows = [(code, *cells(values)) for code, values in (numbers | {"all": overall}).items()]
    return SuiteResult(
        n_rows=len(frame),
        figures=tuple(figures),
        tables=(Table("Languages, label toxic at its threshold", ("language", *HEADER), tuple(rows)),),
        numbers=LanguageNumbers(numbers, overall),
    )
