"""Tables like those of the 2018 Jigsaw challenge: a text and the bundle's own labels."""

import logging
from dataclasses import replace
from pathlib import Path

import pandas as pd

from moderation.artifacts import sha256
from moderation.bundles import Bundle
from moderation.data.cleaning import PLAIN_FORM, load_labelled, read_unchecked
from moderation.data.label_forms import spread_labels
from moderation.data.options import SealedSplits, TableOptions
from moderation.data.splits import load_splits
from moderation.errors import ConfigError, DataError
from moderation.flags import from_plain, to_plain
from moderation.manifests import MANIFEST
from moderation.tables.columns import show_names
from moderation.tables.options import TEXT_COLUMN

logger = logging.getLogger(__name__)


def read_labelled(path: Path, bundle: Bundle, form: TableOptions = PLAIN_FORM) -> pd.DataFrame:
    """Read the rows on which a bundle may be measured.

    For the table that the bundle was trained on (recognised by its hash), only the rows of the test split; for any
    other table, all rows.

    Returns:
        `comment_text` and the labels that table and bundle share (float32, 0 or 1). `attrs["labels"]` names them;
        `attrs["of_authors"]`: whether these are comments of the Jigsaw challenges.

    Raises:
        DataError: no such column, no label of the bundle, values that are not labels, or a training table whose test
            split cannot be cut again.
    """
    table = read_unchecked(path, form)
    provenance = bundle.records.get("provenance") or {}
    found, trained_on = sha256(path), provenance.get("data") or {}
    if found == trained_on.get("extra_train_sha256"):
        raise DataError(
            f"{path}: the bundle was trained on all of this table (--extra-train-path). Measure on another table."
        )
    if found == trained_on.get("sha256"):
        frame = _test_split(path, bundle, form)
    else:
        shared = _shared_labels(table, path, bundle, form)
        frame = load_labelled(path, replace(form, label_columns=tuple(shared)), require_both_classes=False)
    frame = frame.rename(columns={form.text_column: TEXT_COLUMN})
    frame.attrs["of_authors"] = _is_jigsaw(table)
    return frame


def _shared_labels(table: pd.DataFrame, path: Path, bundle: Bundle, form: TableOptions) -> list[str]:
    """The bundle's labels, in its order, that the table has or that were requested."""
    names, what = list(map(str, table.columns)), "a column"
    if form.one_column is not None and form.one_column in table.columns:
        cells, what = table[form.one_column], f"in the column {form.one_column}"
        spread = spread_labels(cells, label_format=form.label_format, none=form.label_none, where=str(path))
        names = list(spread.labels)
    if form.label_columns is not None:
        foreign = [name for name in form.label_columns if name not in bundle.labels or name not in names]
        if foreign:
            raise DataError(
                f"{path}: --label-columns names {show_names(foreign)}; expected labels that both the bundle and the "
                f"table have. Of the bundle: {', '.join(bundle.labels)}. Of the table: {show_names(names)}."
            )
        names = list(form.label_columns)
    shared = [label for label in bundle.labels if label in names]
    if not shared:
        raise DataError(
            f"{path}: none of the bundle's labels is {what}; {'columns' if what == 'a column' else 'labels'} there: "
            f"{show_names(names)}. Expected {TEXT_COLUMN} and one or more of {', '.join(bundle.labels)}; if one column "
            "holds all labels of a row, name it with --labels-in."
        )
    return shared


def _test_split(path: Path, bundle: Bundle, form: TableOptions) -> pd.DataFrame:
    """The test split of the training table, cut with the settings sealed in the bundle; older bundles have none."""
    provenance = bundle.records["provenance"]
    sealed = provenance.get("split_settings")
    settings = {"seed": provenance["seed"]} | to_plain(form) if sealed is None else dict(sealed)
    if own := settings.pop("own_tables", []):
        raise DataError(
            f"{path}: the bundle was trained on this table, but its {' and '.join(own)} split came from another table. "
            "Pass the table of the test split."
        )
    settings |= {"label_columns": list(bundle.labels), "max_train_examples": None, "disguised": 0.0}
    where = f"{bundle.path / MANIFEST} (split_settings)"
    try:
        cut = from_plain(SealedSplits, settings | {"data_path": str(path)}, where)
    except ConfigError as error:
        raise DataError(
            f"{path}: the bundle was trained on this table, and its test split cannot be cut.\n{error}"
        ) from error
    splits = load_splits(cut.data, seed=cut.seed, fold_disguises=cut.fold_disguises)
    recorded = provenance.get("splits") or {}
    found = {name: len(splits.frames[name]) for name in ("val", "test")}
    how = "the default split settings, since the bundle seals none" if sealed is None else "the split settings it seals"
    if any(recorded.get(name) != count for name, count in found.items()):
        raise DataError(
            f"{path}: the bundle was trained on this table, but not with {how} (found {found}, recorded {recorded}), "
            "so its test split cannot be told apart from its training data. Write the test split to a separate file "
            "and name that."
        )
    logger.info(
        "%s: the bundle was trained on this table; measuring only the %d rows of its test split, by %s.",
        path,
        found["test"],
        how,
    )
    frame = splits.frames["test"].rename(columns={cut.data.table.text_column: TEXT_COLUMN})
    frame.attrs["labels"] = splits.labels
    return frame


def _is_jigsaw(table: pd.DataFrame) -> bool:
    """Whether these are comments of the Jigsaw challenges: at least a tenth of their ids have 16 hex digits."""
    ids = table["id"].head(1000).astype("str") if "id" in table.columns else pd.Series([], dtype="str")
    return bool(len(ids)) and float(ids.str.fullmatch(r"[0-9a-f]{16}").mean()) >= 0.1
