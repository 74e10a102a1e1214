"""The training tables of the open sets: what their labels mean, and which rows are held out."""

from pathlib import Path

import pandas as pd
import pytest

from examples.open_sets import SETS, choose_splits, read_set
from moderation.errors import DataError


def test_what_a_set_does_not_ask_about_is_unknown(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {"text": list("abcd"), "split": ["train"] * 4, "label": ["hatespeech", "offensive", "normal", "x"]}
    ).assign(y=[1, 1, 0, None])
    rows.to_csv(tmp_path / "hatexplain-text.csv.gz", index=False)
    found = read_set(tmp_path / "hatexplain-text.csv.gz", SETS["hatexplain-text"])
    assert found["comment_text"].tolist() == ["a", "b", "c"]
    assert found["toxic"].tolist() == [1, 1, 0]
    assert found["identity_hate"].fillna(-1).tolist() == [1, -1, 0]
    assert found["insult"].isna().all()


@pytest.mark.parametrize("given", [None, ["train"] * 500, ["train", "dev"] * 250, ["dev", "test"] * 250])
def test_every_set_gets_three_splits_and_keeps_those_of_its_authors(given: list[str] | None) -> None:
    texts = pd.Series([f"text {i}" for i in range(500)])
    split = choose_splits(texts, None if given is None else pd.Series(given))
    assert set(split) == {"train", "val", "test"}
    if given and "test" in given:
        assert (split == "test").tolist() == [name == "test" for name in given]
    if given and set(given) == {"train", "dev"}:
        assert (split == "test").tolist() == [name == "dev" for name in given]
    with pytest.raises(DataError, match="unknown name trial"):
        choose_splits(texts[:1], pd.Series(["trial"]))
