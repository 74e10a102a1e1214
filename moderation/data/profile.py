"""Contents of a table: prevalence, lengths, duplicates and labels that occur together, as data and as text."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moderation.data.validation import text_key
from moderation.tables.options import TEXT_COLUMN


@dataclass(frozen=True)
class Spread:
    """Smallest, middle and largest of some lengths; `p95` is the length that 95 % of the texts do not exceed."""

    min: int
    median: float
    p95: float
    max: int


@dataclass(frozen=True)
class TableReport:
    """Contents of a table of labelled comments. All numbers count rows unless stated otherwise.

    Args:
        n_rows: Rows with text and targets.
        positives: Label -> number of positives, in label order.
        co_occurrence: Label -> label -> number of rows with both; the diagonal is `positives`.
        characters: Lengths of the texts in characters; None without rows.
        tokens: Lengths in tokens, including special ones; None if they were not counted.
        max_length: Tokens that the model reads of a text; None if unknown.
        n_too_long: Texts with more tokens than that.
        n_duplicates: Rows whose text is in an earlier row, ignoring case and white space.
        n_conflicts: Different texts that are in several rows with different labels; None without labels.
        unknown: Label -> rows in which it is unknown, if there are any.
    """

    n_rows: int
    positives: dict[str, int]
    co_occurrence: dict[str, dict[str, int]]
    characters: Spread | None
    tokens: Spread | None
    max_length: int | None
    n_too_long: int | None
    n_duplicates: int
    n_conflicts: int | None
    unknown: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Plain types, ready for JSON; `labels` has count and share of the positives, in [0, 1]."""
        content = asdict(self)
        positives = content.pop("positives")
        shares = {name: {"count": n, "share": self._share(name)} for name, n in positives.items()}
        return {"n_rows": content.pop("n_rows"), "labels": shares, **content}

    def _share(self, label: str) -> float:
        """Share of positives among the rows in which the label is known."""
        n_known = self.n_rows - self.unknown.get(label, 0)
        return self.positives[label] / n_known if n_known else 0.0

    def to_text(self) -> str:
        """A table to read in a terminal."""
        blocks = [self._facts()]
        if self.positives:
            blocks += [self._prevalence()]
        if len(self.positives) > 1:
            blocks += [self._together()]
        return "\n\n".join(blocks)

    def _facts(self) -> str:
        facts = [("rows", f"{self.n_rows:,}")]
        facts += [
            (name, f"min {spread.min:,}   median {spread.median:,.0f}   p95 {spread.p95:,.0f}   max {spread.max:,}")
            for name, spread in (("characters per text", self.characters), ("tokens per text", self.tokens))
            if spread
        ]
        if self.n_too_long is not None:
            share = self.n_too_long / max(self.n_rows, 1)
            facts.append((f"more than {self.max_length} tokens", f"{self.n_too_long:,} texts ({share:.2%})"))
        facts += [
            ("duplicates", f"{self.n_duplicates:,} rows repeat an earlier text (ignoring case and white space)"),
            ("conflicts", self._conflicts()),
        ]
        width = max(len(name) for name, _ in facts)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in facts)

    def _conflicts(self) -> str:
        if self.n_conflicts is None:
            return "not counted: there are no labels to compare"
        return f"{self.n_conflicts:,} texts are in several rows with different labels"

    def _prevalence(self) -> str:
        width = max(map(len, ("label", *self.positives)))
        lines = [f"   {'label':<{width}}  positives    share{'    unknown' if self.unknown else ''}"]
        lines += [
            f"{number:>2} {name:<{width}}  {count:>9,}  {self._share(name):>7.2%}"
            + (f"  {self.unknown.get(name, 0):>9,}" if self.unknown else "")
            for number, (name, count) in enumerate(self.positives.items(), start=1)
        ]
        return "\n".join(lines)

    def _together(self) -> str:
        width = max(map(len, ("rows with both", *self.positives)))
        lines = [f"   {'rows with both':<{width}}" + "".join(f"  {n:>7}" for n in range(1, len(self.positives) + 1))]
        lines += [
            f"{number:>2} {name:<{width}}" + "".join(f"  {count:>7,}" for count in row.values())
            for number, (name, row) in enumerate(self.co_occurrence.items(), start=1)
        ]
        return "\n".join(lines)


def describe(
    frame: pd.DataFrame,
    labels: Sequence[str],
    text_column: str = TEXT_COLUMN,
    token_lengths: npt.NDArray[np.integer[Any]] | None = None,
    max_length: int | None = None,
) -> TableReport:
    """Describe a table of clean rows.

    Args:
        frame: Rows with a text each, and 0, 1 or NaN (unknown) in every label column.
        labels: Label columns, in the order of the report; may be empty.
        text_column: Column of the texts.
        token_lengths: Tokens of each text, int `(n_rows,)`, including special ones; None: not counted.
        max_length: Tokens that the model reads of a text.

    Returns:
        The report.

    >>> frame = pd.DataFrame({"text": ["Hi you", "hi  you", "go"], "rude": [0, 1, 1]})
    >>> report = describe(frame, ["rude"], "text")
    >>> report.positives, report.n_duplicates, report.n_conflicts
    ({'rude': 2}, 1, 1)
    """
    targets = frame[list(labels)].to_numpy(dtype=np.float64)
    positive = np.nan_to_num(targets)
    together = (positive.T @ positive).astype(int).tolist()  # (n_labels, n_labels), exact up to 2^53 rows
    keys = frame[text_column].map(text_key)
    n_too_long = None
    if token_lengths is not None and max_length is not None:
        n_too_long = int(np.count_nonzero(token_lengths > max_length))
    return TableReport(
        n_rows=len(frame),
        positives={label: together[i][i] for i, label in enumerate(labels)},
        co_occurrence={label: dict(zip(labels, row, strict=True)) for label, row in zip(labels, together, strict=True)},
        characters=_spread(frame[text_column].str.len().to_numpy(dtype=np.int64)),
        tokens=None if token_lengths is None else _spread(token_lengths),
        max_length=max_length,
        n_too_long=n_too_long,
        n_duplicates=int(keys.duplicated().sum()),
        n_conflicts=_count_conflicts(keys, targets) if len(labels) else None,
        unknown={label: int(n) for label, n in zip(labels, np.isnan(targets).sum(axis=0), strict=True) if n},
    )


def shared_texts(frames: dict[str, pd.DataFrame], text_column: str = TEXT_COLUMN) -> dict[tuple[str, str], int]:
    """Count the different texts that two tables share, compared without case and white space.

    Args:
        frames: Name of a table to its rows with texts.
        text_column: Column of the texts, the same in each.

    Returns:
        A count for every pair of names, in the order of `frames`.

    >>> one, two = pd.DataFrame({"text": ["Hi you", "go"]}), pd.DataFrame({"text": ["hi you", "HI YOU", "stay"]})
    >>> shared_texts({"one": one, "two": two}, "text")
    {('one', 'two'): 1}
    """
    keys = {name: set(frame[text_column].map(text_key)) for name, frame in frames.items()}
    return {(one, two): len(keys[one] & keys[two]) for one, two in combinations(keys, 2)}


def _spread(lengths: npt.NDArray[np.integer[Any]]) -> Spread | None:
    if not len(lengths):
        return None
    median, p95 = np.percentile(lengths, (50, 95))
    return Spread(int(lengths.min()), float(median), float(p95), int(lengths.max()))


def _count_conflicts(keys: pd.Series, targets: npt.NDArray[np.float64]) -> int:
    repeated = keys.duplicated(keep=False).to_numpy(dtype=bool)
    if not repeated.any():
        return 0
    different = pd.DataFrame(targets[repeated]).groupby(keys[repeated].to_numpy()).nunique() > 1
    return int(different.any(axis=1).sum())
