"""Tables in the form of the Jigsaw challenge of 2018: a text and the bundle's own labels."""

import logging
from pathlib import Path

import pandas as pd

from moderation.artifacts import sha256
from moderation.bundles import MANIFEST, Bundle
from moderation.config import TrainConfig
from moderation.data.loading import load_english_only
from moderation.data.preparing import load_splits
from moderation.data.reading import read_table, show_names
from moderation.errors import ConfigError, DataError
from moderation.flags import from_plain

logger = logging.getLogger(__name__)

TEXT_COLUMN = "comment_text"


def read_labelled(path: Path, bundle: Bundle) -> pd.DataFrame:
    """Read the rows on which a bundle may be measured.

    Of the very table that the bundle was trained on (its hash says so), these are the rows of the test split alone;
    of any other table, all.

    Returns:
        `comment_text` and the labels that table and bundle share (float32, 0 or 1), `attrs["labels"]` names them.

    Raises:
        DataError: no such column, no label of the bundle's, values that are no labels, or a training table whose test
            split cannot be cut again.
    """
    names = read_table(path).columns
    shared = [label for label in bundle.labels if label in names]
    if not shared:
        raise DataError(
            f"{path}: none of the bundle's labels is a column; columns there: {show_names(names)}. "
            f"Expected {TEXT_COLUMN} and one or more of {', '.join(bundle.labels)}."
        )
    provenance = bundle.manifest.get("provenance") or {}
    found, trained_on = sha256(path), provenance.get("data") or {}
    if found == trained_on.get("sha256"):
        return _test_split(path, bundle)
    if found == trained_on.get("extra_train_sha256"):
        raise DataError(
            f"{path}: the bundle was trained on all of this table (--extra-train-path); it measures nothing."
        )
    return load_english_only(path, text_column=TEXT_COLUMN, label_columns=shared, require_both_classes=False)


def _test_split(path: Path, bundle: Bundle) -> pd.DataFrame:
    """The test split of the training table, cut by the settings that the bundle seals; older ones seal none."""
    provenance = bundle.manifest["provenance"]
    sealed = provenance.get("split_settings")
    settings = {"seed": provenance["seed"], "text_column": TEXT_COLUMN} if sealed is None else dict(sealed)
    if own := settings.pop("own_tables", []):
        raise DataError(
            f"{path}: the bundle was trained on this table, and its {' and '.join(own)} split came from another one. "
            "Name that of the test split."
        )
    settings |= {"label_columns": list(bundle.labels), "max_train_examples": None, "disguised": 0.0}
    where = f"{bundle.path / MANIFEST} (split_settings)"
    try:
        config = from_plain(TrainConfig, settings | {"data_path": str(path)}, where)
    except ConfigError as error:
        raise DataError(
            f"{path}: the bundle was trained on this table, and its test split cannot be cut.\n{error}"
        ) from error
    splits = load_splits(**config.split_settings)
    recorded = provenance.get("splits") or {}
    found = {name: len(splits.frames[name]) for name in ("val", "test")}
    how = "the default split settings, since the bundle seals none" if sealed is None else "the split settings it seals"
    if any(recorded.get(name) != count for name, count in found.items()):
        raise DataError(
            f"{path}: the bundle was trained on this table, but not with {how} (found {found}, recorded {recorded}), "
            "so that its test split cannot be told from what it has seen. Write the test split to a file of its own "
            "and name that."
        )
    logger.info(
        "%s: the bundle was trained on this table; measured are the %d rows of its test split, by %s.",
        path,
        found["test"],
        how,
    )
    frame = splits.frames["test"].rename(columns={config.text_column: TEXT_COLUMN})
    frame.attrs["labels"] = splits.labels
    return frame
