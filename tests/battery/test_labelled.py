"""Labelled tables: of the bundle's own training table the test split alone."""

import dataclasses

import pytest

from moderation.artifacts import sha256
from moderation.battery.labelled import read_labelled
from moderation.bundles import read_bundle
from moderation.data.preparing import load_splits
from moderation.errors import DataError
from tests.battery.conftest import write


def test_of_the_training_table_the_test_split_alone(tiny_bundle, table_path, tmp_path) -> None:
    bundle = read_bundle(tiny_bundle)
    frame = read_labelled(table_path, bundle)
    expected = load_splits(table_path).frames["test"]
    assert frame["comment_text"].tolist() == expected["comment_text"].tolist()
    copy = tmp_path / "copy.csv"
    copy.write_bytes(table_path.read_bytes() + b"\n")
    assert len(read_labelled(copy, bundle)) == 600  # another table is measured whole


def test_a_training_table_that_was_cut_otherwise_is_refused(tiny_bundle, table_path) -> None:
    bundle = read_bundle(tiny_bundle)
    provenance = bundle.manifest["provenance"] | {"splits": {"train": 500, "val": 50, "test": 50}}
    other = dataclasses.replace(bundle, manifest=bundle.manifest | {"provenance": provenance})
    with pytest.raises(DataError, match="not with the default splits"):
        read_labelled(table_path, other)


def test_the_extra_table_of_the_training_measures_nothing(tiny_bundle, table_path, tmp_path) -> None:
    bundle = read_bundle(tiny_bundle)
    extra = tmp_path / "extra.csv"
    extra.write_bytes(table_path.read_bytes() + b"\n")
    data = bundle.manifest["provenance"]["data"] | {"extra_train_sha256": sha256(extra)}
    provenance = bundle.manifest["provenance"] | {"data": data}
    other = dataclasses.replace(bundle, manifest=bundle.manifest | {"provenance": provenance})
    with pytest.raises(DataError, match="trained on all of this table"):
        read_labelled(extra, other)


def test_labels_are_those_that_both_have_in_the_bundles_order(suites, scorer, tmp_path) -> None:
    frame = read_labelled(suites["jigsaw"], scorer.bundle)
    assert list(frame.columns) == ["comment_text", "insult", "toxic", "threat"]
    path = write(tmp_path, "other.csv", [{"comment_text": "a", "spam": 1}])
    with pytest.raises(DataError, match="none of the bundle's labels is a column; columns there: comment_text, spam"):
        read_labelled(path, scorer.bundle)
