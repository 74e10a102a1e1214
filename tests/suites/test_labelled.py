"""Labelled tables: of the bundle's own training table the test split alone."""

import dataclasses

import pytest

from moderation.artifacts import sha256
from moderation.bundles import read_bundle
from moderation.data.options import SplitOptions
from moderation.data.splits import load_splits
from moderation.errors import DataError
from moderation.suites.labelled import read_labelled
from tests.suites.conftest import write


def test_only_the_test_split_of_the_training_table_is_measured(tiny_bundle, table_path, tmp_path) -> None:
    bundle = read_bundle(tiny_bundle)
    frame = read_labelled(table_path, bundle)
    expected = load_splits(SplitOptions(data_path=table_path)).frames["test"]
    assert frame["comment_text"].tolist() == expected["comment_text"].tolist()
    copy = tmp_path / "copy.csv"
    copy.write_bytes(table_path.read_bytes() + b"\n")
    assert len(read_labelled(copy, bundle)) == 600  # another table is measured whole


def test_a_training_table_that_was_split_differently_is_refused(tiny_bundle, table_path) -> None:
    bundle = read_bundle(tiny_bundle)
    provenance = bundle.records["provenance"] | {"splits": {"train": 500, "val": 50, "test": 50}}
    other = dataclasses.replace(bundle, records=bundle.records | {"provenance": provenance})
    with pytest.raises(DataError, match="not with the split settings it seals"):
        read_labelled(table_path, other)


def other_provenance(bundle, **changes):
    provenance = {name: value for name, value in (bundle.records["provenance"] | changes).items() if value is not None}
    return dataclasses.replace(bundle, records=bundle.records | {"provenance": provenance})


def test_the_split_settings_that_a_bundle_seals_are_those_of_its_training(tiny_bundle, table_path) -> None:
    bundle = read_bundle(tiny_bundle)
    sealed = bundle.records["provenance"]["split_settings"]
    assert (sealed["val_size"], sealed["test_size"], sealed["seed"], sealed["own_tables"]) == (0.1, 0.1, 42, [])
    assert not [name for name in sealed if name.endswith("path")], "no place on somebody's disk"
    splits = load_splits(SplitOptions(data_path=table_path, val_size=0.2, test_size=0.3), seed=7)
    counts = {name: len(frame) for name, frame in splits.frames.items()}
    changed = sealed | {"val_size": 0.2, "test_size": 0.3, "seed": 7}
    frame = read_labelled(table_path, other_provenance(bundle, split_settings=changed, splits=counts))
    assert frame["comment_text"].tolist() == splits.frames["test"]["comment_text"].tolist()


def test_an_older_bundle_seals_no_split_settings_and_the_assumption_is_reported(
    tiny_bundle, table_path, caplog
) -> None:
    bundle = other_provenance(read_bundle(tiny_bundle), split_settings=None)
    with caplog.at_level("INFO"):
        assert len(read_labelled(table_path, bundle)) == 60
    assert "the default split settings, since the bundle seals none" in caplog.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"own_tables": ["test"]}, "its test split came from another table"),
        ({"val_size": "much"}, "its test split cannot be cut"),
        ({"nonsense": 1}, "its test split cannot be cut"),
        ({"seed": -1}, "its test split cannot be cut"),
    ],
)
def test_sealed_split_settings_that_cannot_be_used_are_named(tiny_bundle, table_path, changes, words) -> None:
    bundle = read_bundle(tiny_bundle)
    sealed = bundle.records["provenance"]["split_settings"]
    with pytest.raises(DataError, match=words):
        read_labelled(table_path, other_provenance(bundle, split_settings=sealed | changes))


def test_the_extra_table_of_the_training_measures_nothing(tiny_bundle, table_path, tmp_path) -> None:
    bundle = read_bundle(tiny_bundle)
    extra = tmp_path / "extra.csv"
    extra.write_bytes(table_path.read_bytes() + b"\n")
    data = bundle.records["provenance"]["data"] | {"extra_train_sha256": sha256(extra)}
    provenance = bundle.records["provenance"] | {"data": data}
    other = dataclasses.replace(bundle, records=bundle.records | {"provenance": provenance})
    with pytest.raises(DataError, match="trained on all of this table"):
        read_labelled(extra, other)


def test_labels_are_those_that_both_have_in_the_bundles_order(suites, scorer, tmp_path) -> None:
    frame = read_labelled(suites["jigsaw"], scorer.bundle)
    assert list(frame.columns) == ["comment_text", "insult", "toxic", "threat"]
    path = write(tmp_path, "other.csv", [{"comment_text": "a", "spam": 1}])
    with pytest.raises(DataError, match="none of the bundle's labels is a column; columns there: comment_text, spam"):
        read_labelled(path, scorer.bundle)
