"""The training tables of the open sets: what their labels mean, and which rows are held out."""

from pathlib import Path

import pandas as pd
import pytest

from examples.open_sets import SETS, TABLES, choose_splits, multilingual, read_set, write_tables
from moderation.errors import DataError
from moderation.labels import JIGSAW_LABELS


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


def test_english_sets_teach_and_sets_in_other_languages_judge(tmp_path: Path) -> None:
    def rows(source: str, lang: str, split: list[str], **labels: list[float | None]) -> pd.DataFrame:
        known = {name: labels.get(name, [None] * len(split)) for name in JIGSAW_LABELS}
        texts = [f"{source} {i}" for i in range(len(split))]
        frame = pd.DataFrame({"comment_text": texts, "lang": lang, "source": source, "split": split, **known})
        return frame.astype(dict.fromkeys(JIGSAW_LABELS, "float64"))

    zeros = {name: [0.0, 1.0, 0.0, 0.0] for name in JIGSAW_LABELS}
    english = rows("jigsaw", "en", ["train", "val", "val", "test"], **zeros)
    one_sided = rows("hate", "de", ["train", "val", "val"], toxic=[1, 1, None], identity_hate=[1, 1, 0])
    others = [rows("posts", "en", ["train", "val", "test", "test"], toxic=[1, 0, 1, 0]), one_sided]
    others += [rows("tweets", "tr", ["train", "val", "val", "test"], toxic=[1, 0, 1, 1])]
    write_tables(english, pd.concat(others, ignore_index=True), tmp_path)
    tables = {name: pd.read_parquet(tmp_path / f"{name}.parquet") for name in TABLES}
    assert tables["train"]["source"].tolist() == ["jigsaw"]
    assert tables["further"]["source"].tolist() == ["posts", "hate", "tweets"]
    assert tables["val"].groupby("source").size().to_dict() == {"jigsaw": 2, "hate": 2, "tweets": 2}
    assert tables["english"]["source"].tolist() == ["posts"] * 2
    hate = tables["val"][tables["val"]["source"] == "hate"]
    assert hate["toxic"].isna().all(), "only positive ones are known, which would look like a very toxic language"
    assert hate["identity_hate"].tolist() == [1, 0]


def test_jigsaws_comments_in_other_languages_have_three_splits(tmp_path: Path) -> None:
    path = tmp_path / "multilingual.csv"
    texts = [f"comment {i}" for i in range(400)]
    pd.DataFrame({"comment_text": texts, "lang": ["es", "it"] * 200, "toxic": [0, 0, 1, 0] * 100}).to_csv(path)
    found = multilingual(path)
    sizes = found.groupby("split").size().to_dict()
    assert 160 <= sizes["train"] <= 240
    assert all(60 <= sizes[split] <= 140 for split in ("val", "test"))
    assert found["insult"].isna().all()
    assert multilingual(path)["split"].tolist() == found["split"].tolist()
