import numpy as np
import pandas as pd
import pytest

from moderation.data.options import SplitOptions, TableOptions
from moderation.data.splits import load_splits, take_handful
from moderation.data.validation import text_key
from moderation.errors import DataError
from moderation.labels import JIGSAW_LABELS


def write(path, texts, toxic):
    pd.DataFrame({"comment_text": texts, "toxic": toxic}).to_csv(path, index=False)
    return path


@pytest.fixture
def paths(tmp_path):
    train = write(tmp_path / "train.csv", [f"text {i}" for i in range(40)] + ["Shared one", "in val"], [0, 1] * 21)
    val = write(tmp_path / "val.csv", ["in VAL", "shared ONE", "val alone"], [0, 1, 0])
    test = write(tmp_path / "test.csv", ["sharedone", "test alone"], [1, 1])
    return train, val, test


def keys(splits, split):
    return {text_key(text) for text in splits.frames[split]["comment_text"]}


def test_tables_of_their_own_share_no_text_with_another_split(paths):
    train, val, test = paths
    splits = load_splits(SplitOptions(data_path=train, val_path=val, test_path=test))
    assert keys(splits, "test") == {"sharedone", "testalone"}
    assert keys(splits, "val") == {"inval", "valalone"}
    assert len(splits.frames["train"]) == 40


def test_one_table_of_its_own_and_the_other_split_cut_from_train(paths):
    train, val, _ = paths
    splits = load_splits(SplitOptions(data_path=train, val_path=val, test_size=0.25))
    assert len(splits.frames["val"]) == 3
    assert len(splits.frames["test"]) == 10
    assert not keys(splits, "train") & (keys(splits, "val") | keys(splits, "test"))


def test_a_label_that_the_train_split_lacks_is_named_with_its_cure(tmp_path):
    path = tmp_path / "rare.csv"
    rare = np.zeros(300, int)
    rare[7] = 1
    pd.DataFrame({"comment_text": [f"text {i}" for i in range(300)], "toxic": [0, 1, 0] * 100, "threat": rare}).to_csv(
        path, index=False
    )
    with pytest.raises(DataError, match=r"positive for threat.*max-train-examples"):
        load_splits(SplitOptions(data_path=path, max_train_examples=5), seed=1)


def test_a_handful_holds_every_label_in_every_split(table_path):
    splits = load_splits(SplitOptions(data_path=table_path))
    small = take_handful(splits, 2, seed=0)
    for split in splits.frames:
        assert small.frames[split].shape[0] <= 2 * 7
        assert ((small.targets(split) > 0).any(axis=0) == (splits.targets(split) > 0).any(axis=0)).all()


def test_a_handful_knows_which_of_its_rows_were_added(paths, tmp_path):
    train, val, test = paths
    extra = write(tmp_path / "extra.csv", ["extra one", "extra two", "extra three"], [0, 0, 1])
    splits = load_splits(
        SplitOptions(data_path=train, val_path=val, test_path=test, extra_train_path=extra, disguised=0.5)
    )
    small = take_handful(splits, 100, seed=0)
    assert small.added == splits.added
    assert (small.optional_rows() == splits.optional_rows()).all()
    few = take_handful(splits, 1, seed=0)
    assert sum(few.added.values()) <= len(few.frames["train"]) <= 2


def test_an_extra_table_goes_only_to_train_without_texts_of_the_other_splits(paths, tmp_path):
    train, val, test = paths
    extra = write(tmp_path / "extra.csv", ["extra one", "TEST alone", "val  alone", "extra two"], [0, 0, 1, 0])
    splits = load_splits(
        SplitOptions(data_path=train, val_path=val, test_path=test, max_train_examples=10, extra_train_path=extra)
    )
    assert len(splits.frames["train"]) == 12
    assert {"extraone", "extratwo"} <= keys(splits, "train")
    assert keys(splits, "test") == {"sharedone", "testalone"}


def test_an_extra_table_without_the_labels_is_refused(paths, tmp_path):
    extra = tmp_path / "extra.csv"
    pd.DataFrame({"comment_text": ["a", "b"], "rude": [0, 1]}).to_csv(extra, index=False)
    with pytest.raises(DataError, match=r"(?s)extra\.csv.*no column .toxic."):
        load_splits(SplitOptions(data_path=paths[0], extra_train_path=extra))


def test_disguised_copies_go_only_to_train(paths):
    train, val, test = paths
    plain = load_splits(SplitOptions(data_path=train, val_path=val, test_path=test))
    more = load_splits(SplitOptions(data_path=train, val_path=val, test_path=test, disguised=0.5))
    pd.testing.assert_frame_equal(more.frames["train"][:40], plain.frames["train"])
    assert len(more.frames["train"]) == 60
    for split in ("val", "test"):
        pd.testing.assert_frame_equal(more.frames[split], plain.frames[split])


def test_an_epoch_may_skip_only_clean_rows_of_the_table_and_copies(paths, tmp_path):
    extra = tmp_path / "extra.csv"
    rows = [{"comment_text": f"a kind word number {i}"} | dict.fromkeys(JIGSAW_LABELS, 0) for i in range(7)]
    pd.DataFrame(rows).to_csv(extra, index=False)
    splits = load_splits(
        SplitOptions(data_path=paths[0], val_path=paths[1], test_path=paths[2], extra_train_path=extra, disguised=0.5)
    )
    optional, clean = splits.optional_rows(), ~splits.targets("train").any(axis=1)
    n_copies = splits.added["disguised"]
    assert splits.added["extra"] == 7 and n_copies > 0
    assert not optional[-n_copies - 7 : -n_copies].any()
    assert (optional[: -n_copies - 7] == clean[: -n_copies - 7]).all()
    assert (optional[-n_copies:] == clean[-n_copies:]).all() and optional.any()


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_label_that_is_never_known_in_a_split_is_refused_before_the_training(split, tmp_path):
    frame = pd.DataFrame(
        {"comment_text": [f"text {i}" for i in range(60)], "toxic": [0, 1] * 30, "threat": [1, 0] * 30}
    )
    frame.to_csv(tmp_path / "train.csv", index=False)
    frame.assign(threat=None, comment_text=frame["comment_text"] + "!").to_csv(tmp_path / "own.csv", index=False)
    table = {"data_path": tmp_path / "train.csv", f"{split}_path": tmp_path / "own.csv"}
    with pytest.raises(
        DataError, match=rf"{split}: none of the 60 rows has a known target for threat.*--label-columns"
    ):
        load_splits(SplitOptions(**table, table=TableOptions(partial_labels=True)))
    few = frame.assign(threat=[1.0, 0.0] + [np.nan] * 58)
    few.to_csv(tmp_path / "train.csv", index=False)
    with pytest.raises(DataError, match=r"has a known target for threat"):
        load_splits(SplitOptions(data_path=tmp_path / "train.csv", table=TableOptions(partial_labels=True)), seed=1)


def test_a_handful_knows_every_label_that_its_split_knows(tmp_path):
    rare = np.where(np.arange(400) % 20 == 0, 0.0, np.nan)
    rare[np.arange(400) % 40 == 0] = 1
    frame = pd.DataFrame({"comment_text": [f"text {i}" for i in range(400)], "toxic": [0, 1] * 200, "threat": rare})
    frame.to_csv(tmp_path / "train.csv", index=False)
    splits = load_splits(SplitOptions(data_path=tmp_path / "train.csv", table=TableOptions(partial_labels=True)))
    for small in (take_handful(splits, 1, seed=seed) for seed in range(5)):
        for split, part in small.frames.items():
            assert part["threat"].notna().sum() >= splits.frames[split]["threat"].nunique()
