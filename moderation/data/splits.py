"""Tables -> the three splits of a run. The same arguments give the same splits, so evaluation can rebuild them."""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from moderation.data.cleaning import load_labelled
from moderation.data.disguises import DISGUISES, STUBBORN, add_disguised
from moderation.data.options import LANGUAGE, SplitOptions, TableOptions
from moderation.data.splitting import drop_shared_texts, split_examples, take_part
from moderation.errors import DataError
from moderation.escapes import escape_name
from moderation.language_codes import UNDETERMINED

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")

_CURE = ", enlarge the split (--val-size, --test-size), or leave the label out with --label-columns"


@dataclass(frozen=True)
class Splits:
    """The examples of a run.

    Args:
        frames: One table per split, with the text column, the label columns and, if there are several languages, their
            codes.
        labels: Label columns in order.
        left_out: Rows left out when the tables were read, by reason.
        added: Rows of the train split after those of its table: first `extra`, then `disguised` ones.
    """

    frames: dict[str, pd.DataFrame]
    labels: tuple[str, ...]
    left_out: dict[str, int]
    added: dict[str, int] = field(default_factory=dict)

    def targets(self, split: str) -> npt.NDArray[np.float32]:
        """Targets of a split, float32 `(n_examples, n_labels)`."""
        return self.frames[split][list(self.labels)].to_numpy(dtype=np.float32)

    def languages(self, split: str) -> list[str] | None:
        """Language code of each example of a split; None if the table names none, or only English is kept."""
        return languages_of(self.frames[split])

    def optional_rows(self) -> npt.NDArray[np.bool_]:
        """Rows of the train split of which an epoch can use a share: without any label, and not from the extra table.

        The rows of an extra table were chosen deliberately; of the many clean rows of a comment section, a part does as
        well as all. Disguised copies of an extra table's rows are optional.

        Returns:
            bool `(n_examples,)`.
        """
        optional = np.asarray(~(self.targets("train") > 0).any(axis=1), dtype=np.bool_)  # unknown: not positive
        end = len(optional) - self.added.get("disguised", 0)
        optional[end - self.added.get("extra", 0) : end] = False
        return optional

    def count_added(self, rows: npt.NDArray[np.int64]) -> dict[str, int]:
        """How many of these rows of the train split are added ones, by kind, as in `added`."""
        end, counts = len(self.frames["train"]), {}
        for name, n_rows in reversed(self.added.items()):
            counts[name] = int(((rows >= end - n_rows) & (rows < end)).sum())
            end -= n_rows
        return dict(reversed(counts.items()))


def load_splits(options: SplitOptions, *, seed: int = 42, fold_disguises: bool = False) -> Splits:
    """Read the tables of a run and split them into train, val and test.

    Args:
        options: The tables, their format, and the shares of the splits.
        seed: Seed of the split.
        fold_disguises: The tokenizer undoes some disguises, so make no copies with these.

    Raises:
        DataError: a table cannot be used, or a split would be empty.
    """
    text_column = options.table.text_column
    whole = load_labelled(options.data_path, options.table, seed=seed)
    labels: tuple[str, ...] = tuple(whole.attrs["labels"])
    further = _Further(dataclasses.replace(options.table, label_columns=labels), dict(whole.attrs["left_out"]))
    frames = {
        split: further.read(path)
        for split, path in (("val", options.val_path), ("test", options.test_path))
        if path is not None
    }
    if len(frames) == 2:
        frames["val"] = _without_texts_of(frames["val"], frames["test"], text_column, "val", "test")
    for split, frame in frames.items():
        whole = _without_texts_of(whole, frame, text_column, "train", split)
    rows = split_examples(
        whole[text_column],
        whole[list(labels)].to_numpy(dtype=np.float32),
        val_size=0.0 if options.val_path else options.val_size,
        test_size=0.0 if options.test_path else options.test_size,
        seed=seed,
    )
    rows["train"] = rows["train"][take_part(len(rows["train"]), options.max_train_examples, seed)]
    for split in SPLITS:
        if split not in frames:
            frames[split] = whole.iloc[rows[split]].reset_index(drop=True)
    added = {"extra": 0}
    if options.extra_train_path is not None:
        extra = further.read(options.extra_train_path)
        for split in ("val", "test"):
            extra = _without_texts_of(extra, frames[split], text_column, "the extra table", split)
        frames["train"] = pd.concat([frames["train"], extra], ignore_index=True)
        added["extra"] = len(extra)
    n_plain = len(frames["train"])
    edits = STUBBORN if fold_disguises else DISGUISES
    frames["train"] = add_disguised(frames["train"], options.disguised, seed, text_column, edits)
    added["disguised"] = len(frames["train"]) - n_plain
    _check_positives(frames["train"], labels)
    for split in ("val", "test"):
        check_known(frames[split], labels, f"Split: {split}", _CURE)
    logger.info("Splits: %s.", ", ".join(f"{split} {len(frames[split])}" for split in SPLITS))
    return Splits({split: frames[split] for split in SPLITS}, labels, further.left_out, added)


@dataclass(frozen=True)
class _Further:
    """Tables in addition to the first one, with its labels; `left_out` counts the rows of all tables."""

    table: TableOptions
    left_out: dict[str, int]

    def read(self, path: Path) -> pd.DataFrame:
        frame = load_labelled(path, self.table, require_both_classes=False)
        for reason, count in frame.attrs["left_out"].items():
            self.left_out[reason] = self.left_out.get(reason, 0) + count
        return frame


def _without_texts_of(
    frame: pd.DataFrame, other: pd.DataFrame, text_column: str, name: str, other_name: str
) -> pd.DataFrame:
    """Rows whose text is not in the other table."""
    kept = drop_shared_texts(frame[text_column], other[text_column])
    if len(kept) == len(frame):
        return frame
    logger.info("Split: %d rows left out of %s, since their texts are in %s.", len(frame) - len(kept), name, other_name)
    return frame.iloc[kept].reset_index(drop=True)


def _check_positives(train: pd.DataFrame, labels: tuple[str, ...]) -> None:
    absent = [label for label in labels if not (train[label] > 0).any()]
    if absent:
        raise DataError(
            f"Split: none of the {len(train)} train rows is positive for {', '.join(absent)}. "
            "Add data, raise --max-train-examples, or leave the label out with --label-columns."
        )


def languages_of(frame: pd.DataFrame) -> list[str] | None:
    """Language code of each row of a clean table; None if it names none.

    >>> languages_of(pd.DataFrame({LANGUAGE: ["pt", None]}))
    ['pt', 'und']
    """
    return frame[LANGUAGE].fillna(UNDETERMINED).astype(str).tolist() if LANGUAGE in frame.columns else None


def check_known(frame: pd.DataFrame, labels: Sequence[str], where: str, cure: str = "") -> None:
    """Check that each label is known for at least one row, before hours are spent on what could then not be measured.

    Args:
        frame: A table with the label columns; NaN where a label is unknown.
        labels: Label columns.
        where: Name of the table, for the message.
        cure: What else can be done, for the end of the message.

    Raises:
        DataError: names the labels that are unknown throughout.
    """
    if unknown := [label for label in labels if len(frame) and frame[label].isna().all()]:
        raise DataError(
            f"{where}: none of the {len(frame)} rows has a known target for {', '.join(map(escape_name, unknown))}, so "
            f"nothing can be measured there. Add rows that have one{cure}."
        )


def take_handful(splits: Splits, n_per_label: int, seed: int) -> Splits:
    """A few rows of each split, with every label that the split has: for a dry run.

    Args:
        splits: All rows.
        n_per_label: Positives of each label, and rows without labels, at most.
        seed: Seed of the choice.

    Raises:
        DataError: a split has no rows; never for splits from `load_splits`.
    """
    rng = np.random.default_rng(seed)
    frames, added = {}, {}
    for split, frame in splits.frames.items():
        if frame.empty:
            raise DataError(f"Split: {split} is empty.")
        targets = splits.targets(split)
        partly_known = np.isnan(targets).any(axis=0)
        groups = [*(targets.T > 0), ~(targets > 0).any(axis=1), *(targets.T == 0)[partly_known]]
        rows = np.unique(np.concatenate([rng.permutation(np.flatnonzero(group))[:n_per_label] for group in groups]))
        frames[split] = frame.iloc[rows].reset_index(drop=True)
        if split == "train":
            added = splits.count_added(rows)
    return Splits(frames, splits.labels, splits.left_out, added)
