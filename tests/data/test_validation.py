import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.data.validation import as_numbers, check_table, find_label_columns, find_problems, is_empty, text_key
from moderation.errors import DataError

SECRET = "zanzibar"


def frame_of(**columns: list[object]) -> pd.DataFrame:
    n_rows = len(next(iter(columns.values())))
    return pd.DataFrame({"comment_text": [f"{SECRET} {row}" for row in range(n_rows)], **columns})


def only_problem(frame: pd.DataFrame, *labels: str, **settings: object) -> str:
    problems = find_problems(frame, labels, **settings)  # type: ignore[arg-type]
    assert len(problems) == 1, problems
    return problems[0]


def test_those_of_the_jigsaw_six_that_are_present_are_found_in_their_order() -> None:
    frame = frame_of(threat=[0, 1], spam=[0, 1], toxic=[1, 0])
    assert find_label_columns(frame, "comment_text") == ("toxic", "threat")


def test_otherwise_every_column_of_zeros_and_ones_is_found() -> None:
    frame = frame_of(
        id=[10, 11, 12],
        rude=["0", "1", "0"],
        spam=[0.0, 1.0, 0.0],
        bot=[True, False, True],
        gap=["1", "", "0"],
        votes=[0, 1, 2],
        sentiment=[-1, 0, 1],
        score=[0.0, 0.5, 1.0],
        nothing=[None, None, None],
        when=pd.to_datetime(["1970-01-01"] * 3),
        word=["yes", "no", "1"],
    )
    assert find_label_columns(frame, "comment_text") == ("rude", "spam", "bot", "gap")
    assert find_label_columns(frame, "rude") == ("spam", "bot", "gap")


def test_a_value_far_below_the_head_still_counts() -> None:
    assert find_label_columns(frame_of(late=[0, 1] * 1500 + [2]), "comment_text") == ()


def test_as_numbers_of_mixed_objects() -> None:
    column = pd.Series([1, "0", True, None, [1], {"a": 1}, 0.5, "x"], dtype=object)
    expected = [1, 0, 1, np.nan, np.nan, np.nan, 0.5, np.nan]
    np.testing.assert_array_equal(as_numbers(column), expected)
    np.testing.assert_array_equal(as_numbers(column.head(3).astype("category")), [1, 0, 1])
    np.testing.assert_array_equal(as_numbers(pd.Series([1, None], dtype="Int64")), [1, np.nan])
    np.testing.assert_array_equal(as_numbers(pd.Series([True, None], dtype="boolean")), [1, np.nan])


@pytest.mark.parametrize("dtype", ["str", object, "category"])
def test_is_empty(dtype: object) -> None:
    column = pd.Series(["x", "", " \t\n\u00a0", None, "NA"]).astype(dtype)  # type: ignore[call-overload]
    assert is_empty(column).tolist() == [False, True, True, True, False]


def test_a_sound_table_has_no_problems() -> None:
    check_table(frame_of(toxic=["0", "1"], rude=[True, False], spam=[0.0, 1.0]), ("toxic", "rude", "spam"))


def test_labels_as_words() -> None:
    problem = only_problem(frame_of(toxic=["yes", "0", "no", "1"]), "toxic")
    assert "'toxic'" in problem and "2 values are not numeric" in problem and "rows 1, 3" in problem
    assert "yes" not in problem


def test_missing_labels() -> None:
    assert "1 value is missing" in only_problem(frame_of(toxic=[0, None, 1]), "toxic")
    assert "2 values are missing" in only_problem(frame_of(toxic=["", "0", " ", "1"]), "toxic")


@pytest.mark.parametrize("value", [2, -1, -0.5, np.inf, "7"])
def test_labels_out_of_range(value: object) -> None:
    problem = only_problem(frame_of(toxic=[0, 1, value]), "toxic", label_cut=0.5)
    assert "1 value is below 0 or above 1" in problem and "row 3" in problem


def test_fractions_need_a_cut() -> None:
    frame = frame_of(toxic=[0.0, 0.2, 0.7, 1.0])
    assert "--label-cut" in only_problem(frame, "toxic")
    assert find_problems(frame, ["toxic"], label_cut=0.5) == []
    assert "no positives" in only_problem(frame.head(2), "toxic", label_cut=0.5)


def test_a_single_class_is_a_problem_for_training() -> None:
    frame = frame_of(never=[0, 0], always=[1, 1], both=[0, 1])
    problems = find_problems(frame, ["never", "always", "both"])
    assert len(problems) == 2
    assert "'never': no positives, all 2 rows" in problems[0] and "'always': no negatives" in problems[1]
    assert find_problems(frame, ["never", "always", "both"], require_both_classes=False) == []


def test_values_that_are_not_texts_are_refused() -> None:
    frame = pd.DataFrame({"comment_text": [SECRET, 3, "\ud800"], "toxic": [0, 1, 0]}, dtype=object)
    problem = only_problem(frame, "toxic")
    assert "2 values are not text" in problem and "rows 2, 3" in problem
    assert "not text" in only_problem(pd.DataFrame({"comment_text": [1, 2], "toxic": [0, 1]}), "toxic")


def test_a_missing_column_lists_the_existing_ones_but_quotes_no_comment() -> None:
    frame = pd.DataFrame({"text": ["x"], f"{SECRET} you": ["y"], "toxic": [0]})
    problem = only_problem(frame, "rude")
    assert "'comment_text', 'rude'" in problem and "text, (a name of 12 characters), toxic" in problem
    assert SECRET not in problem and "--text-column" in problem


def test_no_labels_and_a_text_that_is_a_label() -> None:
    assert "--label-columns" in only_problem(frame_of(words=["a", "b"]))
    assert "both text and label" in only_problem(frame_of(toxic=[0, 1]), "comment_text", "toxic")


def test_every_problem_comes_in_one_message_with_the_rows_of_the_file() -> None:
    frame = frame_of(toxic=["maybe"] * 8, rude=[0.5] + [2] * 7, spam=[0] * 8).drop(index=[0, 1])
    with pytest.raises(DataError) as caught:
        check_table(frame, ("toxic", "rude", "spam", "gone"), where="train.csv")
    message = str(caught.value)
    assert message.startswith("train.csv: ")
    assert "toxic': 6 values are not numeric" in message and "rows 3, 4, 5, 6, 7, …" in message
    assert "rude': 6 values are below 0" in message and "spam': no positives" in message and "'gone'" in message
    assert SECRET not in message


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from([" ", "\n", "\t ", "\u00a0", "\u2003"]))
def test_text_key_ignores_only_case_and_white_space(text: str, space: str) -> None:
    key = text_key(text)
    assert text_key(key) == key
    assert text_key(space.join(text.casefold())) == key
    assert text_key(text + "!") != key


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["0", "1", "0.5", "2", "-3", "", "x", "nan", None]), min_size=1, max_size=12))
def test_problems_count_exactly_the_values_that_are_not_targets(values: list[str | None]) -> None:
    problems = find_problems(frame_of(toxic=list(values)), ["toxic"], require_both_classes=False)
    counted = sum(int(problem.split("': ")[1].split()[0]) for problem in problems)
    assert counted == sum(value not in ("0", "1") for value in values)
