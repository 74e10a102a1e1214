import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.data.cleaning import load_english_only
from moderation.data.languages import detect_foreign
from moderation.errors import ConfigError, DataError, MissingExtraError
from moderation.labels import JIGSAW_LABELS

ENGLISH = "You have been so kind to explain this article to me, thank you very much."
FRENCH = "Vous avez vraiment bien expliqué cet article et je vous en remercie beaucoup."


@pytest.fixture
def rows() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "comment_text": ["good", None, "bad", "  \n", "unlabelled", "worse"],
            "toxic": [0, 0, 1, 7, -1, 1],
            "threat": [0, 0, 0, 0, -1, 1],
        }
    )


def test_the_result_has_clean_rows_and_counts(rows: pd.DataFrame, caplog: pytest.LogCaptureFixture) -> None:
    before = rows.copy()
    with caplog.at_level(logging.INFO):
        df = load_english_only(rows)

    assert df.columns.tolist() == ["comment_text", "toxic", "threat"]
    assert df["comment_text"].tolist() == ["good", "bad", "worse"]
    assert df[["toxic", "threat"]].to_numpy().tolist() == [[0, 0], [1, 0], [1, 1]]
    assert df.dtypes.tolist()[1:] == [np.float32, np.float32] and isinstance(df["comment_text"].dtype, pd.StringDtype)
    assert df.index.tolist() == [0, 1, 2]
    assert df.attrs == {
        "labels": ("toxic", "threat"),
        "left_out": {"without_text": 2, "without_labels": 1, "other_language": 0},
    }
    assert "labels found (of the Jigsaw six): toxic, threat" in caplog.text
    assert "3 of 6 rows used; left out: 2 without text, 1 without labels" in caplog.text
    assert "worse" not in caplog.text
    pd.testing.assert_frame_equal(rows, before)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.jsonl", "t.tsv"])
def test_a_file_gives_the_same_as_its_frame(tmp_path: Path, rows: pd.DataFrame, name: str) -> None:
    path = tmp_path / name
    if name == "t.parquet":
        rows.to_parquet(path)
    elif name == "t.jsonl":
        rows.to_json(path, orient="records", lines=True)
    else:
        rows.to_csv(path, index=False, sep="\t" if name == "t.tsv" else ",")
    pd.testing.assert_frame_equal(load_english_only(str(path)), load_english_only(rows))


def test_row_numbers_are_those_of_the_file(tmp_path: Path, rows: pd.DataFrame) -> None:
    rows["toxic"] = rows["toxic"].astype(str).replace({"1": "yes"})
    path = tmp_path / "t.csv"
    rows.to_csv(path, index=False)
    with pytest.raises(DataError) as caught:
        load_english_only(path)
    assert str(path) in str(caught.value) and "rows 3, 6" in str(caught.value)


def test_given_labels_keep_their_order_and_a_cut_makes_targets() -> None:
    frame = pd.DataFrame({"text": ["a", "b", "c"], "low": [0.1, 0.5, 0.9], "high": ["0", "1", "0.49"], "n": [0, 1, 1]})
    df = load_english_only(frame, text_column="text", label_columns=["high", "low"], label_cut=0.5)
    assert df.columns.tolist() == ["text", "high", "low"]
    assert df[["high", "low"]].to_numpy().tolist() == [[0, 0], [1, 1], [0, 1]]


@pytest.mark.parametrize("column", ["lang", "language", "tongue"])
def test_the_language_column_keeps_english(column: str) -> None:
    codes = ["en", "EN", "en-US", "en_GB", "fr", None, "enm"]
    frame = pd.DataFrame({"comment_text": list("abcdefg"), "toxic": [0, 1, 0, 1, 0, 1, 0], column: codes})
    df = load_english_only(frame, language_column="tongue" if column == "tongue" else None)
    assert df["comment_text"].tolist() == ["a", "b", "c", "d"]
    assert df.attrs["left_out"]["other_language"] == 3


def test_languages_without_a_column_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    frame = pd.DataFrame({"comment_text": ["a", "b"], "toxic": [0, 1]})
    for languages in (["en"], ["any"]):
        load_english_only(frame, languages=languages)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(load_english_only(frame, languages=["fr", "de"])) == 2
    assert "--languages fr, de needs a column of language codes" in caplog.text


def test_languages_choose_what_the_column_keeps() -> None:
    codes = ["en", "pt-BR", "PT", "fr", None]
    frame = pd.DataFrame({"comment_text": list("abcde"), "toxic": [0, 1, 0, 1, 0], "lang": codes})
    assert load_english_only(frame, languages=["en", "pt"])["comment_text"].tolist() == ["a", "b", "c"]
    assert len(load_english_only(frame, languages=["any"])) == 5
    with pytest.raises(ConfigError, match="--detect-language keeps English only"):
        load_english_only(frame, languages=["pt"], detect_language=True)


def test_empty_cells_are_unknown_labels_if_they_may_be() -> None:
    frame = pd.DataFrame(
        {
            "comment_text": list("abcd"),
            "toxic": ["0", "1", "", ""],
            "threat": ["1", " ", "0", None],
            "note": list("wxyz"),
        }
    )
    with pytest.raises(DataError, match=r"missing \(--partial-labels"):
        load_english_only(frame)
    df = load_english_only(frame, partial_labels=True)
    np.testing.assert_array_equal(df[["toxic", "threat"]], [[0, 1], [1, np.nan], [np.nan, 0]])
    assert df.attrs["left_out"]["without_labels"] == 1
    cut = load_english_only(frame, partial_labels=True, label_cut=0.5)
    np.testing.assert_array_equal(cut["toxic"], [0, 1, np.nan])
    with pytest.raises(DataError, match="label 'threat': every cell is empty"):
        load_english_only(frame.assign(threat=""), partial_labels=True, label_columns=["toxic", "threat"])


def test_a_language_column_that_is_absent_comes_with_the_other_problems(rows: pd.DataFrame) -> None:
    rows["toxic"] = 0.5
    with pytest.raises(DataError, match="tongue") as caught:
        load_english_only(rows, language_column="tongue")
    assert "fractional" in str(caught.value)


def test_no_rows_left_is_an_error_that_counts_the_reasons() -> None:
    frame = pd.DataFrame({"comment_text": ["a", " ", "c"], "toxic": [0, 1, -1], "lang": ["fr", "en", "en"]})
    with pytest.raises(DataError, match="no rows left") as caught:
        load_english_only(frame)
    assert "1 without text, 1 without labels, 1 in other languages" in str(caught.value)


def test_detected_languages(caplog: pytest.LogCaptureFixture) -> None:
    texts = [ENGLISH, FRENCH, "merde", "Stupid idiot!!", FRENCH * 50, "123 456 :-) 789 000 111 222", ENGLISH.upper()]
    frame = pd.DataFrame({"comment_text": texts, "toxic": [0, 0, 1, 1, 0, 0, 0]})
    with caplog.at_level(logging.INFO):
        df = load_english_only(frame, detect_language=True)
    assert df["comment_text"].tolist() == [text for text in texts if not text.startswith(FRENCH)]
    assert df.attrs["left_out"]["other_language"] == 2
    assert "3 of uncertain language kept" in caplog.text


def test_detection_on_real_comments(shared: Path) -> None:
    foreign = pd.read_csv(shared / "data/jigsaw/multilingual_validation.csv.gz")["comment_text"].head(300)
    english = pd.read_parquet(shared / "data/jigsaw/train.parquet", columns=["comment_text"])["comment_text"].head(300)
    assert detect_foreign(foreign.tolist())[0].mean() > 0.97
    assert detect_foreign(english.tolist())[0].mean() < 0.01


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, rows: pd.DataFrame) -> None:
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)  # Python's own way to say "not installed"
    with pytest.raises(MissingExtraError, match=r"\[languages\]"):
        load_english_only(rows, detect_language=True)


def test_a_part_is_seeded_and_in_the_order_of_the_file(table: pd.DataFrame) -> None:
    one, same, other = (load_english_only(table, max_examples=100, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, same)
    assert one["comment_text"].tolist() != other["comment_text"].tolist()
    positions = [int(text.rsplit(" ", 1)[1]) for text in one["comment_text"]]
    assert positions == sorted(set(positions)) and len(positions) == 100
    assert len(load_english_only(table, max_examples=10_000)) == len(table)


def test_one_class_is_accepted_if_requested(rows: pd.DataFrame) -> None:
    rows["threat"] = 0
    with pytest.raises(DataError, match="'threat': no positives"):
        load_english_only(rows)
    assert load_english_only(rows, require_both_classes=False)["threat"].sum() == 0


def test_a_table_may_have_a_single_label() -> None:
    frame = pd.DataFrame({"comment_text": ["a", "b"], "toxic": ["0", "1"]})
    assert load_english_only(frame).attrs["labels"] == ("toxic",)


def test_settings_out_of_range_are_refused(rows: pd.DataFrame) -> None:
    for settings_ in ({"max_examples": 0}, {"label_cut": 0.0}, {"label_cut": 1.5}, {"label_columns": []}):
        with pytest.raises(ConfigError):
            load_english_only(rows, **settings_)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="repeated column names"):
        load_english_only(pd.concat([rows, rows["toxic"]], axis=1))


def test_the_jigsaw_file_as_it_is(shared: Path, tmp_path: Path) -> None:
    path = shared / "data/jigsaw/train.parquet"
    df = load_english_only(path, max_examples=2000, seed=3)
    assert df.attrs["labels"] == JIGSAW_LABELS and len(df) == 2000
    assert df.attrs["left_out"]["without_text"] == 5
    df.assign(id=range(2000)).to_csv(tmp_path / "part.csv", index=False)
    pd.testing.assert_frame_equal(load_english_only(tmp_path / "part.csv"), df, check_like=True)


def test_loading_imports_no_torch_and_no_language_model() -> None:
    code = "import sys, moderation.data.cleaning; print({'torch', 'transformers', 'py3langid'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


cells = st.sampled_from(["0", "1", "-1"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["hi", "", " ", "NA", None]), cells, cells), min_size=1, max_size=10))
def test_every_row_is_used_or_counted(cells_of_rows: list[tuple[str | None, str, str]]) -> None:
    frame = pd.DataFrame(cells_of_rows, columns=["comment_text", "toxic", "threat"])
    usable = [row for row in cells_of_rows if row[0] and row[0].strip() and "-1" not in row]
    if not usable:
        with pytest.raises(DataError, match=r"no rows left|not text"):
            load_english_only(frame, require_both_classes=False)
        return
    df = load_english_only(frame, require_both_classes=False)
    assert df[["toxic", "threat"]].to_numpy().tolist() == [[float(a), float(b)] for _, a, b in usable]
    assert len(df) + sum(df.attrs["left_out"].values()) == len(frame)


def test_a_label_column_with_a_word_in_it_is_not_skipped(tmp_path: Path) -> None:
    path = tmp_path / "forum.csv"
    rude = ["0", "1"] * 20 + ["zqx yes"]
    pd.DataFrame({"body": [f"text {i}" for i in range(41)], "rude": rude, "spam": [0, 1] * 20 + [0]}).to_csv(path)
    with pytest.raises(DataError, match=r"'rude' cannot be a label: 1 value .*row 41.*--label-columns") as caught:
        load_english_only(path, text_column="body")
    assert "zqx" not in str(caught.value)
    assert load_english_only(path, text_column="body", label_columns=["spam"]).attrs["labels"] == ("spam",)
