"""HateCheck (Röttger et al. 2021) and Multilingual HateCheck (Röttger et al. 2022): each case tests one thing."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from moderation.bundles import Bundle
from moderation.data.cleaning import PLAIN_FORM
from moderation.data.options import TableOptions
from moderation.documents import json_field
from moderation.errors import DataError
from moderation.evaluation.probabilities import BoolArray
from moderation.evaluation.split_metrics import Interval
from moderation.suites.intervals import of_counts, wilson
from moderation.suites.options import SuiteOptions
from moderation.suites.results import Figure, SuiteResult, Table
from moderation.suites.rows import check_groups, read_rows, read_words
from moderation.suites.scorer import Scorer
from moderation.text_tables import interval, number

COLUMNS = ("functionality", "test_case", "label_gold", "target_ident")
PATTERN = "hatecheck_cases_final_*"  # one file per language
_GROUPS = ("functionality", "target_ident", "direction")
_GOLD = {"hateful": True, "non-hateful": False}
_NOTE = "A case counts as classified hateful if any label reaches its threshold."


@dataclass(frozen=True)
class Accuracy:
    """Share of cases that are classified correctly, with its 95 % interval; None without a case."""

    n: int
    accuracy: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Sides:
    """Accuracy on both kinds of cases."""

    hateful: Accuracy
    non_hateful: Accuracy = json_field(name="non-hateful")

    @property
    def named(self) -> tuple[tuple[str, Accuracy], tuple[str, Accuracy]]:
        """Both with their names."""
        return ("hateful", self.hateful), ("non-hateful", self.non_hateful)


@dataclass(frozen=True, kw_only=True)
class CaseNumbers:
    """What was measured on some cases; None for parts of the suite that they do not have.

    Args:
        n_cases: How many.
        accuracy: Share classified correctly.
        hateful: On hateful cases.
        non_hateful: On the others.
        macro_f1: Mean of the F1 of both classes.
        macro_f1_interval: Its 95 % interval.
        functionalities: Name -> accuracy.
        directions: Name -> accuracy.
        targets: Target group -> accuracy.
        languages: Code -> numbers of its cases.
    """

    n_cases: int
    accuracy: float | None
    hateful: Accuracy
    non_hateful: Accuracy = json_field(name="non-hateful")
    macro_f1: float
    macro_f1_interval: Interval | None
    functionalities: Mapping[str, Sides] | None = json_field(None, optional=True)
    directions: Mapping[str, Sides] | None = json_field(None, optional=True)
    targets: Mapping[str, Sides] | None = json_field(None, optional=True)
    languages: "Mapping[str, CaseNumbers] | None" = json_field(None, optional=True)

    @property
    def sides(self) -> Sides:
        """Accuracy on both kinds of cases."""
        return Sides(self.hateful, self.non_hateful)


def read_hatecheck(path: Path, bundle: Bundle, form: TableOptions = PLAIN_FORM) -> pd.DataFrame:
    """Read `test_suite_cases.csv`.

    Raises:
        DataError: other columns, or gold labels other than hateful and non-hateful.
    """
    frame = check_groups(read_rows(path, COLUMNS, "test_case", form), _GROUPS, path)
    return frame.assign(hateful=read_words(frame, "label_gold", _GOLD, path))


def files_of(path: Path) -> list[Path]:
    """The files of a folder, one per language; for a file, a list of that file.

    Raises:
        DataError: a folder without such files.
    """
    if not path.is_dir():
        return [path]
    files = sorted(path.glob(PATTERN))
    if not files:
        raise DataError(f"{path}: holds no file {PATTERN}; expected Multilingual HateCheck's files, one per language.")
    return files


def read_multilingual_hatecheck(path: Path, bundle: Bundle, form: TableOptions = PLAIN_FORM) -> pd.DataFrame:
    """Read the files of a folder, or one file; the column `language` is taken from the file names.

    Raises:
        DataError: no such files, other columns, or gold labels other than hateful and non-hateful.
    """
    frames = [
        check_groups(
            read_hatecheck(file, bundle, form).assign(language=file.name.split(".")[0].split("_")[-1]),
            ["language"],
            file,
        )
        for file in files_of(path)
    ]
    return pd.concat(frames, ignore_index=True)


def measure_hatecheck(frame: pd.DataFrame, scorer: Scorer, options: SuiteOptions) -> SuiteResult:
    """Measure accuracy per functionality, direction and target group, on both kinds of cases, and macro-F1."""
    hateful = frame["hateful"].to_numpy(dtype=bool)
    called = scorer.flagged(frame["test_case"], "hatecheck")
    functionalities = _by(frame["functionality"], hateful, called)
    directions = _by(_column(frame, "direction"), hateful, called)
    targets = _by(frame["target_ident"], hateful, called)
    overall = _overall(hateful, called, options)
    numbers = replace(overall, functionalities=functionalities, directions=directions, targets=targets)
    return SuiteResult(
        n_rows=len(frame),
        figures=_figures(numbers),
        tables=(
            _functionalities(functionalities),
            _two_sides("Target groups", "target", targets),
            *_directions(directions),
        ),
        numbers=numbers,
        notes=(_NOTE,),
    )


def measure_multilingual_hatecheck(frame: pd.DataFrame, scorer: Scorer, options: SuiteOptions) -> SuiteResult:
    """Measure each language on its own: both kinds of cases, macro-F1, functionalities, target groups."""
    hateful = frame["hateful"].to_numpy(dtype=bool)
    called = scorer.flagged(frame["test_case"], "multilingual-hatecheck")
    languages: dict[str, CaseNumbers] = {}
    for language in sorted(set(frame["language"])):
        rows = frame["language"].to_numpy() == language
        languages[language] = replace(
            _overall(hateful[rows], called[rows], options),
            functionalities=_by(frame["functionality"][rows], hateful[rows], called[rows]),
            targets=_by(frame["target_ident"][rows], hateful[rows], called[rows]),
        )
    overall = _overall(hateful, called, options)
    return SuiteResult(
        n_rows=len(frame),
        figures=(
            *_figures(overall),
            *(Figure(f"macro-F1, {name}", part.macro_f1, part.macro_f1_interval) for name, part in languages.items()),
        ),
        tables=(_languages(languages | {"all": overall}), _functionalities_by_language(languages)),
        numbers=replace(overall, languages=languages),
        notes=(_NOTE,),
    )


def macro_f1(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Mean of the F1 of both classes, from counts of true and false positives, false and true negatives.

    Args:
        counts: `(..., 4)` in that order.

    Returns:
        `(...)`; a class that neither occurs nor is predicted counts as 0.

    >>> float(macro_f1(np.array([2, 0, 0, 2])))
    1.0
    """
    tp, fp, fn, tn = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    positive, negative = 2 * tp + fp + fn, 2 * tn + fp + fn
    mean = tp / np.maximum(positive, 1) + tn / np.maximum(negative, 1)
    return np.asarray(mean, dtype=np.float64)


def _overall(hateful: BoolArray, called: BoolArray, options: SuiteOptions) -> CaseNumbers:
    right = hateful == called
    counts = [int((hateful & called).sum()), int((~hateful & called).sum())]
    counts += [int((hateful & ~called).sum()), int((~hateful & ~called).sum())]
    return CaseNumbers(
        n_cases=len(hateful),
        accuracy=_share(right),
        hateful=_accuracy(right[hateful]),
        non_hateful=_accuracy(right[~hateful]),
        macro_f1=float(macro_f1(np.array(counts))),
        macro_f1_interval=of_counts(counts, macro_f1, samples=options.bootstrap, seed=options.seed),
    )


def _by(column: pd.Series, hateful: BoolArray, called: BoolArray) -> dict[str, Sides]:
    """Accuracy for each value of a column on both kinds of cases, in file order; empty values are skipped."""
    values = column.fillna("").astype("str").to_numpy()
    right = hateful == called
    return {
        str(value): Sides(_accuracy(right[(values == value) & hateful]), _accuracy(right[(values == value) & ~hateful]))
        for value in dict.fromkeys(values)
        if value not in ("", "-")
    }


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    return frame[name] if name in frame.columns else pd.Series([""] * len(frame), index=frame.index)


def _accuracy(right: BoolArray) -> Accuracy:
    return Accuracy(len(right), _share(right), wilson(int(right.sum()), len(right)))


def _share(right: BoolArray) -> float | None:
    return float(right.mean()) if len(right) else None


def _figures(numbers: CaseNumbers) -> tuple[Figure, ...]:
    sides = [Figure(f"accuracy, {name} cases", one.accuracy, one.interval) for name, one in numbers.sides.named]
    return (*sides, Figure("macro-F1", numbers.macro_f1, numbers.macro_f1_interval))


def _functionalities(found: Mapping[str, Sides]) -> Table:
    rows = []
    for name, sides in found.items():
        side, one = next((side, one) for side, one in sides.named if one.n)
        rows.append((name, side, f"{one.n}", number(one.accuracy), interval(one.interval)))
    return Table("Functionalities", ("functionality", "cases", "n", "accuracy", "95 % interval"), tuple(rows))


def _two_sides(title: str, first: str, found: Mapping[str, Sides]) -> Table:
    rows = [
        (name, *(cell for _, one in sides.named for cell in (f"{one.n}", number(one.accuracy))))
        for name, sides in found.items()
    ]
    return Table(title, (first, "hateful", "accuracy", "non-hateful", "accuracy"), tuple(rows))


def _directions(found: Mapping[str, Sides]) -> tuple[Table, ...]:
    """The table of directions, which only hateful cases have, and none of Multilingual HateCheck's."""
    rows = [
        (name, f"{one.n}", number(one.accuracy), interval(one.interval))
        for name, one in ((name, sides.hateful) for name, sides in found.items())
    ]
    header = ("direction", "hateful", "accuracy", "95 % interval")
    return (Table("Directions of hateful cases", header, tuple(rows)),) if rows else ()


def _languages(found: Mapping[str, CaseNumbers]) -> Table:
    rows = [
        (
            name,
            f"{part.n_cases:,}",
            *(cell for _, one in part.sides.named for cell in (number(one.accuracy), interval(one.interval))),
            number(part.macro_f1),
            interval(part.macro_f1_interval),
        )
        for name, part in found.items()
    ]
    header = ("language", "cases", "hateful", "95 % interval", "non-hateful", "95 % interval", "macro-F1")
    return Table("Accuracy by language", (*header, "95 % interval"), tuple(rows))


def _functionalities_by_language(languages: Mapping[str, CaseNumbers]) -> Table:
    by_language = [part.functionalities or {} for part in languages.values()]
    rows = []
    for name in dict.fromkeys(name for found in by_language for name in found):
        sides = [found[name].named if name in found else () for found in by_language]
        rows.append((name, *(next((number(one.accuracy) for _, one in both if one.n), "") for both in sides)))
    return Table("Accuracy by functionality", ("functionality", *languages), tuple(rows))
