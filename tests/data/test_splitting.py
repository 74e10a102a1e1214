import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.data.splitting import drop_shared_texts, split_examples, take_part
from moderation.data.validation import text_key
from moderation.errors import DataError

tables = st.lists(
    st.tuples(st.sampled_from(["a", "A ", "b", "c", "d e", "de", "f"]) | st.text(min_size=1), st.integers(0, 7)),
    min_size=60,
    max_size=300,
    unique_by=lambda row: row[0],
)


def unpack(rows: list[tuple[str, int]]) -> tuple[pd.Series, np.ndarray]:
    texts = pd.Series([text for text, _ in rows])
    targets = np.array([[code >> bit & 1 for bit in range(3)] for _, code in rows], dtype=np.float32)
    return texts, targets


@given(tables, st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_every_row_is_in_one_split_and_no_text_in_two(rows, seed):
    texts, targets = unpack(rows)
    splits = split_examples(texts, targets, val_size=0.2, test_size=0.2, seed=seed)
    assert sorted(np.concatenate(list(splits.values()))) == list(range(len(texts)))
    keys = {name: {text_key(text) for text in texts.iloc[chosen]} for name, chosen in splits.items()}
    assert not keys["train"] & keys["val"]
    assert not keys["train"] & keys["test"]
    assert not keys["val"] & keys["test"]


@given(st.lists(st.integers(0, 7), min_size=100, max_size=400), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_every_label_set_has_its_share_in_test_give_or_take_one(codes, seed):
    texts, targets = unpack([(f"text {i}", code) for i, code in enumerate(codes)])
    splits = split_examples(texts, targets, val_size=0.1, test_size=0.2, seed=seed)
    in_test = np.isin(np.arange(len(codes)), splits["test"])
    for code in set(codes):
        of_code = np.array(codes) == code
        assert abs((in_test & of_code).sum() - 0.2 * of_code.sum()) <= 1


def test_sizes_are_the_requested_shares():
    texts, targets = unpack([(f"text {i}", i % 5 == 0) for i in range(1000)])
    splits = split_examples(texts, targets, val_size=0.1, test_size=0.1)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 800, "val": 100, "test": 100}


def test_the_seed_decides():
    texts, targets = unpack([(f"text {i}", i % 3) for i in range(200)])
    first, again, other = (split_examples(texts, targets, seed=seed)["test"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_too_few_texts_for_a_split_are_refused_without_showing_them():
    with pytest.raises(DataError, match="2 different texts") as caught:
        split_examples(pd.Series(["secret", "SECRET ", "other"]), np.zeros((3, 1), np.float32))
    assert "secret" not in str(caught.value).lower()


def test_texts_of_another_table_are_dropped_without_case_and_white_space():
    assert drop_shared_texts(pd.Series(["One two", "three"]), pd.Series(["oneTWO"])).tolist() == [1]


def test_a_part_is_seeded_and_never_larger_than_requested():
    part = take_part(100, 10, seed=3)
    assert len(set(part)) == 10
    assert np.array_equal(part, take_part(100, 10, seed=3))
    assert np.array_equal(take_part(5, 10, seed=3), np.arange(5))
