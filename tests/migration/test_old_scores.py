"""Old scores as people kept them: columns, answers in a column, answers in a file."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moderation.errors import DataError
from moderation.migration.old_scores import read_old_scores
from moderation.tables.reading import read_table

SECRET = "you utter walnut"


def answer(**scores: float) -> dict[str, object]:
    return {
        "attributeScores": {
            name: {
                "spanScores": [{"begin": 0, "end": 9, "score": {"value": value, "type": "PROBABILITY"}}],
                "summaryScore": {"value": value, "type": "PROBABILITY"},
            }
            for name, value in scores.items()
        },
        "languages": ["en"],
        "detectedLanguages": ["en"],
    }


ERROR = {"error": {"code": 400, "message": "...", "status": "INVALID_ARGUMENT"}}


def read(path: Path, **options):
    return read_old_scores(read_table(path), path, "comment_text", **options)


@pytest.mark.parametrize(
    "names",
    [
        ("TOXICITY", "SEVERE_TOXICITY"),
        ("toxicity", "severe toxicity"),
        ("TOXICITY_EXPERIMENTAL", "Severe-Toxicity"),
        ("toxicity_score", "perspective_severe_toxicity"),
    ],
)
def test_columns_are_found_by_their_names(tmp_path, names) -> None:
    path = tmp_path / "a.csv"
    pd.DataFrame(
        {"text": ["a", " ", "c"], names[0]: [0.1, 0.2, 0.3], names[1]: ["", 0.5, 1], "likes": [7, 8, 9]}
    ).to_csv(path)
    old = read(path)
    assert old.texts == ["a", "c"]
    assert old.rows.tolist() == [1, 3]
    np.testing.assert_array_equal(old.scores["TOXICITY"], [0.1, 0.3])
    np.testing.assert_array_equal(old.scores["SEVERE_TOXICITY"], [np.nan, 1])


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: {"response": one, "status": "ok"}])
def test_answers_in_a_column_of_json_lines(tmp_path, wrap) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"comment_text": "a", "answer": wrap(answer(TOXICITY=0.25, THREAT=0.5))},
        {"comment_text": "b", "answer": wrap(ERROR)},
        {"comment_text": "c", "answer": wrap(answer(TOXICITY=0.75))},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    old = read(path)
    np.testing.assert_array_equal(old.scores["TOXICITY"], [0.25, np.nan, 0.75])
    np.testing.assert_array_equal(old.scores["THREAT"], [0.5, np.nan, np.nan])


def test_answers_as_json_in_a_column_of_csv(tmp_path) -> None:
    path = tmp_path / "a.csv"
    pd.DataFrame({"body": ["a", "b"], "raw": [json.dumps(answer(INSULT=0.5)), ""]}).to_csv(path, index=False)
    np.testing.assert_array_equal(read(path).scores["INSULT"], [0.5, np.nan])


def test_a_single_column_of_scores_is_read(tmp_path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"comment_text": "a"} | answer(TOXICITY=0.5)))
    assert read(path).scores["TOXICITY"].tolist() == [0.5]


def test_answers_in_a_separate_file(tmp_path) -> None:
    path, answers = tmp_path / "a.csv", tmp_path / "answers.jsonl"
    path.write_text('comment_text\na\nb\n"c\u2028d"\n', encoding="utf-8")
    lines = [
        json.dumps(answer(TOXICITY=0.5)),
        "",
        json.dumps(answer(TOXICITY=1) | {"clientToken": "x\u2028y"}, ensure_ascii=False),
    ]
    answers.write_text("\n".join(lines) + "\n", encoding="utf-8")
    np.testing.assert_array_equal(read(path, answers=answers).scores["TOXICITY"], [0.5, np.nan, 1])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f'comment_text,TOXICITY\n"{SECRET}",high\nb,0.5\n', "TOXICITY: 1 values that are not numbers.*row 1"),
        (f'comment_text,TOXICITY\n"{SECRET}",55\nb,0.5\n', "below 0 or above 1.*row 1"),
        (f'comment_text,toxicity,TOXICITY\n"{SECRET}",0.1,0.2\n', "two columns hold TOXICITY"),
        (f'comment_text,likes\n"{SECRET}",3\n', "no old scores; columns there.*--answers.*--flag-rate"),
        (f'words,TOXICITY\n"{SECRET}",0.5\n', "no column 'comment_text'.*--text-column"),
        ("comment_text,TOXICITY\n,0.5\n", "no row has a text"),
    ],
)
def test_problems_are_named_and_no_text_is_quoted(tmp_path, content, said) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=f"(?s){said}") as caught:
        read(path)
    assert "walnut" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("{}\n", "1 lines for a table of 2 rows"),
        ("{}\nnonsense\n", "some lines do not hold a JSON object.*row 2"),
        ("{}\n" * 3, "more than 2 lines for a table of 2 rows"),
        ("x\n" * 50, "some lines do not hold a JSON object.*rows 1, 2"),
        (json.dumps(ERROR) + "\n{}\n", "no answer of the Perspective API contains a score"),
    ],
)
def test_a_file_of_answers_that_does_not_fit_is_refused(tmp_path, lines, said) -> None:
    path, answers = tmp_path / "a.csv", tmp_path / "answers.jsonl"
    path.write_text("comment_text\na\nb\n", encoding="utf-8")
    answers.write_text(lines, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read(path, answers=answers)


NO_ANSWERS = (
    '{"attributeScores": {"TOXICITY"',  # cut off
    "[1]",
    "none",
    '{"attributeScores": [0.5]}',
    '{"attributeScores": "0.5"}',
    '{"attributeScores": {"TOXICITY": 1e999}}',
    '{"a": {"attributeScores": {}}, "b": {"attributeScores": {}}}',
)
NO_NUMBERS = ('"0.9"', "true", '{"summaryScore": {"value": "0.9"}}', '{"summaryScore": [0.9]}')


@pytest.mark.parametrize("within", ["a column", "a file"])
def test_an_invalid_answer_never_counts_as_a_missing_one(tmp_path, within) -> None:
    path, answers = tmp_path / "a.csv", tmp_path / "answers.jsonl"
    wrong = [(cell, "row 2") for cell in NO_ANSWERS]
    numbers = [f'{{"attributeScores": {{"TOXICITY": {score}}}}}' for score in NO_NUMBERS]
    wrong += [(cell, "values that are not numbers.*row 2") for cell in numbers]
    for cell, said in wrong:
        cells = [json.dumps(answer(TOXICITY=0.5)), cell, "", json.dumps(ERROR)]
        answers.write_text("\n".join(cells) + "\n")
        frame = pd.DataFrame({"comment_text": list("abcd")} | ({"raw": cells} if within == "a column" else {}))
        frame.to_csv(path, index=False)
        with pytest.raises(DataError, match=said) as caught:
            read(path, answers=answers if within == "a file" else None)
        assert "0.9" not in str(caught.value)


def test_a_score_that_no_float_can_hold_is_out_of_range(tmp_path) -> None:
    path, answers = tmp_path / "a.csv", tmp_path / "answers.jsonl"
    path.write_text("comment_text\na\n", encoding="utf-8")
    answers.write_text('{"attributeScores": {"TOXICITY": {"summaryScore": {"value": 1%s}}}}' % ("0" * 400))
    with pytest.raises(DataError, match="TOXICITY: 1 values that are below 0 or above 1"):
        read(path, answers=answers)


@pytest.mark.hostile("bombs: packed tables")
def test_answers_that_unpack_to_too_much_are_refused(tmp_path) -> None:
    path, answers = tmp_path / "a.csv", tmp_path / "answers.jsonl.gz"
    path.write_text("comment_text\na\n", encoding="utf-8")
    answers.write_bytes(gzip.compress(b"\n" * (1 << 27)))
    with pytest.raises(DataError, match="200"):
        read(path, answers=answers)


@pytest.mark.parametrize("names", [("TOXICITY", "TOXICITY_EXPERIMENTAL"), ("TOXICITY_EXPERIMENTAL", "TOXICITY")])
def test_the_plain_attribute_overrides_its_experimental_twin(tmp_path, names) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"comment_text": "a"} | answer(**{name: float(name == "TOXICITY") for name in names})))
    assert read(path).scores["TOXICITY"].tolist() == [1.0]
