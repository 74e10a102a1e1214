"""Labels as people write them: words of truth, votes, and all labels of a row in one column."""

import json
import logging
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.data.cleaning import clean_table, load_english_only
from moderation.data.label_forms import spread_labels
from moderation.data.options import TableOptions
from moderation.errors import ConfigError, DataError

SECRET = "zanzibar"


def targets(frame: pd.DataFrame, **form: object) -> dict[str, list[float]]:
    found = load_english_only(frame, **form)  # type: ignore[arg-type]
    return {label: found[label].tolist() for label in found.attrs["labels"]}


def labelled(cells: list[object]) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"{SECRET} {row}" for row in range(len(cells))], "labels": cells})


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        ("True", "False"),
        ("true", "FALSE"),
        ("yes", "No"),
        ("t", "f"),
        ("Y", "n"),
        (" yes ", "no"),
        ("1", "0"),
        ("1.0", "0.0"),
    ],
)
@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.jsonl"])
def test_true_and_false_words_are_labels_in_every_format(tmp_path: Path, name: str, yes: str, no: str) -> None:
    frame = pd.DataFrame({"comment_text": ["a", "b", "c"], "rude": [yes, no, yes]})
    path = tmp_path / name
    if name == "t.csv":
        frame.to_csv(path, index=False)
    elif name == "t.parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    assert load_english_only(path)["rude"].tolist() == [1, 0, 1]


def test_words_among_numbers_stay_a_problem() -> None:
    frame = pd.DataFrame({"comment_text": ["a", "b", "c"], "toxic": ["yes", "0", "1"]})
    with pytest.raises(DataError, match=r"1 value is not numeric; expected 0 or 1 \(row 1\)"):
        load_english_only(frame)


@pytest.mark.parametrize(
    "name", ["text", "Comment", "TWEET", "body", "content", "message", "Tweet Text", "full-text", "comment_body"]
)
def test_a_usual_name_of_the_text_column_is_found_and_reported(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = load_english_only(pd.DataFrame({"id": ["x", "y"], name: ["a", "b"], "toxic": [0, 1]}))
    assert found["comment_text"].tolist() == ["a", "b"]
    assert "using the texts in column" in caplog.text


def test_the_default_comes_first_and_of_several_others_one_is_named() -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "comment_text": ["c", "d"], "toxic": [0, 1]})
    assert load_english_only(frame)["comment_text"].tolist() == ["c", "d"]
    with pytest.raises(DataError, match=r"several columns may contain the texts: text, body.*--text-column"):
        load_english_only(frame.rename(columns={"comment_text": "body"}))
    with pytest.raises(DataError, match="no column 'words'"):
        load_english_only(frame, text_column="words")


@pytest.mark.parametrize(
    ("cells", "label_format"),
    [
        (["toxic|insult", "", "insult"], "names"),
        (["toxic, insult", "none", "insult"], "names"),
        (["toxic;insult", " ", "insult"], "names"),
        (['["toxic", "insult"]', "[]", '["insult"]'], "list"),
        (["['toxic', 'insult']", "[]", "['insult']"], "list"),
        ([["toxic", "insult"], [], ["insult"]], "list"),
        ([np.array(["toxic", "insult"]), None, ("insult",)], "list"),
        (['{"toxic": 1, "insult": true}', "{}", '{"toxic": 0, "insult": 1}'], "json"),
        (["{'toxic': True, 'insult': True}", "{'toxic': False}", "{'insult': 1.0}"], "json"),
        ([{"toxic": 1, "insult": 1}, {"toxic": None}, {"insult": 1}], "json"),
    ],
)
def test_all_labels_of_a_row_in_one_column(cells: list[object], label_format: str) -> None:
    expected = {"toxic": [1, 0, 0], "insult": [1, 0, 1]}
    assert targets(labelled(cells), labels_in="labels") == expected
    assert targets(labelled(cells), labels_in="labels", label_format=label_format) == expected


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.jsonl"])
def test_lists_and_objects_of_a_file(tmp_path: Path, name: str) -> None:
    frame = labelled([["toxic"], [], ["toxic", "spam"]]).assign(
        object=[{"toxic": 1}, {"spam": 1}, {"toxic": 0.2, "spam": 1}]
    )
    path = tmp_path / name
    if name == "t.csv":
        frame.to_csv(path, index=False)
    elif name == "t.parquet":
        frame.to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")), encoding="utf-8")
    found = load_english_only(path, labels_in="labels")
    assert found[["toxic", "spam"]].to_numpy().tolist() == [[1, 0], [0, 0], [1, 1]]
    found = load_english_only(path, labels_in="object", label_cut=0.5)
    assert found[["toxic", "spam"]].to_numpy().tolist() == [[1, 0], [0, 1], [0, 1]]


def test_a_column_of_one_class_per_row_is_read_with_its_name_for_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    frame = labelled(["hate", "normal", "offensive", "hate"])
    assert targets(frame, labels_in="labels") == {"hate": [1, 0, 0, 1], "offensive": [0, 0, 1, 0]}
    assert "labels found (class): hate, offensive; no label: normal" in caplog.text
    frame = labelled(["OFF", "NOT", "OFF"])
    assert targets(frame, labels_in="labels") == {"OFF": [1, 0, 1]}
    frame = labelled(["abusive", "fine", "hateful"])
    assert list(targets(frame, labels_in="labels")) == ["abusive", "fine", "hateful"]
    assert "every name counts as a label (list those that mean no label with --label-none)" in caplog.text
    assert list(targets(frame, labels_in="labels", label_none=["FINE"])) == ["abusive", "hateful"]
    frame = labelled([0, 1, 2, 2])
    assert targets(frame, labels_in="labels", label_none=["2"]) == {"0": [1, 0, 0, 0], "1": [0, 1, 0, 0]}


@pytest.mark.parametrize(
    ("cells", "form", "message"),
    [
        (["hate", "", "none"], {"label_format": "class"}, r"1 cell without a class \(row 2\)"),
        (['["a"]', "[broken", '["b"]'], {"label_format": "list"}, r"1 cell that cannot be read as list \(row 2\)"),
        (['{"a": 1}', '{"a": [1]}', '{"a": 0}'], {}, r"1 cell that cannot be read as json \(row 2\)"),
        (['{"a": 1, "a": 0}', '{"a": 1}', '{"a": 0}'], {}, r"1 cell in which a label is repeated.* \(row 1\)"),
        (['{"a": 0}', '{"a": 1, " a": 0}', '{"a": 0}'], {}, r"1 cell in which a label is repeated.* \(row 2\)"),
        ([[("a", 1), ("a", 0)], [("a", 1)], []], {}, r"1 cell in which a label is repeated.* \(row 1\)"),
        (
            ['["hate, open"]', '["a"]', "[]"],
            {},
            r"1 cell read as list, with a name that a label cannot have.* \(row 1\)",
        ),
        ([True, False, True], {}, "--label-columns for it instead of --labels-in"),
        (["none", "normal"], {}, "has no label at all"),
        ([f"{SECRET} {row}" for row in range(150)], {}, "more than 100 different labels"),
        (["Hate", "hate", "none"], {}, "differ only by case: Hate, hate"),
        (["0", "1", "1"], {}, "--label-columns for it instead of --labels-in"),
        (["text", "none", "text"], {}, "contains a label named text, which is also the name of another column"),
    ],
)
def test_a_column_without_labels_is_refused_without_quoting_it(
    cells: list[object], form: dict[str, str], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_english_only(labelled(cells), labels_in="labels", **form)  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


def test_given_labels_are_used_in_their_order_and_others_ignored(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    frame = labelled(["toxic|spam", "insult", "none", "spam"])
    assert targets(frame, labels_in="labels", label_columns=["spam", "toxic"]) == {
        "spam": [1, 0, 0, 1],
        "toxic": [1, 0, 0, 0],
    }
    assert "not used: insult" in caplog.text


def test_maps_and_sets_and_empty_lists_of_json_are_read() -> None:
    kind = pa.map_(pa.string(), pa.int8())
    maps = pa.array([[("a", 1), ("b", 0)], [("b", 1)], None, []], kind).to_pylist()
    expected = {"a": [1, 0, 0, 0], "b": [0, 1, 0, 0]}
    assert targets(labelled(maps), labels_in="labels") == expected
    assert targets(labelled(['{"a": 1}', '{"b": 1}', "", "[]"]), labels_in="labels") == expected
    assert targets(labelled([{"a"}, frozenset({"b"}), None, set()]), labels_in="labels") == expected


@pytest.mark.parametrize("column", [[Decimal("1"), Decimal("0")], pd.Categorical([1, 0]), [Decimal("1.0"), "0"]])
def test_columns_of_other_kinds_of_numbers_are_labels(column: object) -> None:
    frame = pd.DataFrame({"comment_text": ["a", "b"], "hate": column})
    assert targets(frame) == {"hate": [1, 0]}


def test_settings_that_do_not_go_together() -> None:
    for form in ({"label_format": "list"}, {"label_format": "lists"}, {"label_cut": 1.5}, {"label_cut": 0}):
        with pytest.raises(ConfigError):
            TableOptions(**form)  # type: ignore[arg-type]


def test_votes_are_cut() -> None:
    frame = pd.DataFrame({"comment_text": list("abcd"), "hate": [0, 1, 2, 5], "mild": ["3", "2", "1", "0"]})
    assert targets(frame, label_columns=["hate", "mild"], label_cut=2) == {"hate": [0, 0, 1, 1], "mild": [1, 1, 0, 0]}
    assert targets(frame, label_columns=["hate"], label_cut=1) == {"hate": [0, 1, 1, 1]}
    with pytest.raises(DataError, match=r"2 values are below 0 or above 1 \(if they are votes: --label-cut N counts N"):
        load_english_only(frame, label_columns=["hate"])
    with pytest.raises(DataError, match=r"if hate, mild has fractions or votes: --label-columns and --label-cut"):
        load_english_only(frame)


def test_ignored_columns_are_named_with_the_cure(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    frame = pd.DataFrame(
        {"comment_text": ["a", "b"], "toxic": [0, 1], "spam": [1, 0], "self_harm": [0, 0], "id": [812, 813]}
    )
    assert clean_table(frame).left_aside == ("spam", "self_harm")
    assert "columns not used: spam, self_harm. To use them, too: --label-columns toxic,spam,self_harm" in caplog.text
    frame = pd.DataFrame({"comment_text": ["a", "b"], "toxicity": [0.2, 0.9], "insult": [0.1, 0.8]})
    assert clean_table(frame, TableOptions(label_cut=0.5)).left_aside == ("toxicity",)


def test_columns_of_words_get_the_flag_that_reads_them() -> None:
    frame = labelled(["hate", "none", "offensive"])
    with pytest.raises(DataError, match="if labels has the labels as words: --labels-in COLUMN"):
        load_english_only(frame)


def test_an_unusable_table_is_not_reported_as_used(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for frame in (
        labelled(["a", "b"]),
        pd.DataFrame({"text": ["a", "b"], "toxic": [0, 7]}),
        pd.DataFrame({"text": ["a"], "toxic": [1]}),
    ):
        with pytest.raises(DataError):
            load_english_only(frame)
    assert "rows used" not in caplog.text


names = st.sampled_from(["toxic", "insult", "spam", "a b", "self-harm", "x"])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sets(names), min_size=1, max_size=8).filter(any), st.sampled_from(["names", "list", "json"]))
def test_every_form_gives_the_same_labels(rows: list[set[str]], label_format: str) -> None:
    write = {
        "names": "|".join,
        "list": lambda row: json.dumps(list(row)),
        "json": lambda row: json.dumps(dict.fromkeys(row, 1)),
    }
    cells = pd.Series([write[label_format](sorted(row)) for row in rows], name="labels")
    found = spread_labels(cells, label_format=label_format)  # type: ignore[arg-type]
    assert set(found.labels) == set().union(*rows)
    for label in found.labels:
        assert found.columns[label].tolist() == [int(label in row) for row in rows]
    assert found.problems.isna().all()
