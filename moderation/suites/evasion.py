"""Evasion: how many disguised toxic comments are still caught, and what the same edits do to clean comments."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from moderation.bundles import Bundle
from moderation.data.cleaning import PLAIN_FORM
from moderation.data.disguises import EVASIONS, INSERTIONS, edit_text
from moderation.data.options import TableOptions
from moderation.errors import DataError
from moderation.evaluation.probabilities import BoolArray
from moderation.evaluation.split_metrics import Interval
from moderation.suites.intervals import of_counts, wilson
from moderation.suites.labelled import read_labelled
from moderation.suites.options import SuiteOptions
from moderation.suites.results import Figure, SuiteResult, Table
from moderation.suites.rows import take_rows
from moderation.suites.scorer import MAIN_LABEL, Scorer
from moderation.tables.options import TEXT_COLUMN
from moderation.text_tables import interval, number

MOST_TOXIC, MOST_CLEAN = 1000, 2000  # with more comments, the edits would take longer than all other suites together


@dataclass(frozen=True)
class RecallKept:
    """Recall after an edit, and its share of the recall before; None if nothing was caught before."""

    recall: float
    kept: float | None
    kept_interval: Interval | None


@dataclass(frozen=True)
class FalsePositives:
    """Share of clean comments that are flagged after an edit, and what the edit added to it."""

    false_positives: float
    added: float
    added_interval: Interval | None


@dataclass(frozen=True)
class EvasionNumbers:
    """The effect of edits.

    Args:
        n_toxic: Toxic comments.
        n_clean: Clean ones.
        recall: Without edits.
        false_positives: Share of the clean comments that are flagged without edits.
        toxic: Edit -> recall kept.
        clean: Edit -> false positives added.
    """

    n_toxic: int
    n_clean: int
    recall: float
    false_positives: float
    toxic: Mapping[str, RecallKept]
    clean: Mapping[str, FalsePositives]


def read_evasion(path: Path, bundle: Bundle, form: TableOptions = PLAIN_FORM) -> pd.DataFrame:
    """Read a labelled table as `labelled.read_labelled` does.

    Raises:
        DataError: as there; also if no comment is toxic or all have a label.
    """
    frame = read_labelled(path, bundle, form)
    toxic, clean = _sides(frame)
    if not toxic.any() or not clean.any():
        raise DataError(f"{path}: expected toxic comments and comments without any label, found only one of these.")
    return frame


def measure_evasion(frame: pd.DataFrame, scorer: Scorer, options: SuiteOptions) -> SuiteResult:
    """Measure the recall kept under each edit, and the false positives that it adds.

    A comment is toxic if its label `toxic` is 1 (if the table lacks that label: any label), and clean if it has no
    label. A seeded part of both is used. A comment is caught if any label reaches its threshold.

    Args:
        frame: From `read_evasion`.
        scorer: The model.
        options: Samples and seed; `max_texts` limits toxic and clean comments each.
    """
    toxic, clean = _take_comments(frame, options)
    names = {"toxic": tuple(EVASIONS), "clean": (*EVASIONS, *INSERTIONS)}
    before: dict[str, BoolArray] = {}
    after: dict[str, dict[str, BoolArray]] = {}
    for side, texts in (("toxic", toxic), ("clean", clean)):
        edited = [edit_text(name, text, options.seed) for name in names[side] for text in texts]
        flags = scorer.flagged([*texts, *edited], f"evasion, {side}")
        before[side], rest = flags[: len(texts)], flags[len(texts) :].reshape(-1, len(texts))
        after[side] = dict(zip(names[side], rest, strict=True))
    kept = {name: _kept(before["toxic"], flags, options) for name, flags in after["toxic"].items()}
    added = {name: _added(before["clean"], flags, options) for name, flags in after["clean"].items()}
    recall, false = (wilson(int(before[side].sum()), len(before[side])) for side in ("toxic", "clean"))
    worst = min(kept, key=lambda name: kept[name].kept or 0)
    most = max(added, key=lambda name: added[name].added)
    return SuiteResult(
        n_rows=len(toxic) + len(clean),
        figures=(
            Figure("recall without edits", float(before["toxic"].mean()), recall),
            Figure("share of recall kept, worst edit", kept[worst].kept, kept[worst].kept_interval, worst),
            Figure("false positives without edits", float(before["clean"].mean()), false),
            Figure("false positives added, worst edit", added[most].added, added[most].added_interval, most),
        ),
        tables=(_recall_table(kept), _false_table(added)),
        numbers=EvasionNumbers(
            n_toxic=len(toxic),
            n_clean=len(clean),
            recall=float(before["toxic"].mean()),
            false_positives=float(before["clean"].mean()),
            toxic=kept,
            clean=added,
        ),
        notes=(f"{len(toxic):,} toxic and {len(clean):,} clean comments; a comment is caught if any label flags it.",),
    )


def _sides(frame: pd.DataFrame) -> tuple[BoolArray, BoolArray]:
    """Which comments are toxic and which are clean, bool `(n_rows,)` each."""
    labels = [name for name in frame.columns if name != TEXT_COLUMN]
    any_label = (frame[labels].to_numpy() > 0).any(axis=1)
    toxic = frame[MAIN_LABEL].to_numpy() > 0 if MAIN_LABEL in labels else any_label
    return np.asarray(toxic, dtype=np.bool_), np.asarray(~any_label, dtype=np.bool_)


def _take_comments(frame: pd.DataFrame, options: SuiteOptions) -> tuple[list[str], list[str]]:
    """A seeded part of the toxic comments, and one of the clean ones."""
    parts = []
    for rows, most in zip(_sides(frame), (MOST_TOXIC, MOST_CLEAN), strict=True):
        n_wanted = most if options.max_texts is None else min(most, options.max_texts)
        parts.append(take_rows(frame[rows], n_wanted, options.seed)[TEXT_COLUMN].tolist())
    return parts[0], parts[1]


def _kept(before: BoolArray, after: BoolArray, options: SuiteOptions) -> RecallKept:
    n_before, n_after = int(before.sum()), int(after.sum())
    if not n_before:
        return RecallKept(n_after / len(after), None, None)

    def ratio(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        caught = counts[:, 0] + counts[:, 1]
        return np.asarray(np.where(caught, (counts[:, 0] + counts[:, 2]) / caught, np.nan), dtype=np.float64)

    spread = of_counts(_cells(before, after), ratio, samples=options.bootstrap, seed=options.seed)
    return RecallKept(n_after / len(after), n_after / n_before, spread)


def _added(before: BoolArray, after: BoolArray, options: SuiteOptions) -> FalsePositives:
    def difference(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        return np.asarray((counts[:, 2] - counts[:, 1]) / len(after), dtype=np.float64)

    spread = of_counts(_cells(before, after), difference, samples=options.bootstrap, seed=options.seed)
    return FalsePositives(float(after.mean()), (int(after.sum()) - int(before.sum())) / len(after), spread)


def _cells(before: BoolArray, after: BoolArray) -> list[int]:
    """Comments flagged both times, only before, only after, never."""
    return [
        int((before & after).sum()),
        int((before & ~after).sum()),
        int((~before & after).sum()),
        int((~before & ~after).sum()),
    ]


def _recall_table(kept: Mapping[str, RecallKept]) -> Table:
    rows = [(name, number(one.recall), number(one.kept), interval(one.kept_interval)) for name, one in kept.items()]
    return Table("Toxic comments, edited", ("edit", "recall", "share kept", "95 % interval"), tuple(rows))


def _false_table(added: Mapping[str, FalsePositives]) -> Table:
    rows = [
        (name, number(one.false_positives, 4), number(one.added, 4), interval(one.added_interval))
        for name, one in added.items()
    ]
    return Table("Clean comments, edited", ("edit", "false positives", "added", "95 % interval"), tuple(rows))
