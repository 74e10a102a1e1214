"""One text, a line of a pipe, a row of a table: the same results, to the byte."""

import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation import Classifier
from moderation.scoring.batch import score_batch
from moderation.scoring.cells import encode_json_lines
from moderation.scoring.lines import pipe_lines
from moderation.scoring.records import join_flagged, number_text, result_names, score_texts

TEXTS = [
    "you are an idiot",
    "have a nice day",
    "",
    "  ",
    "you are an idiot",
    'quotes " \\ and\ttabs',
    "żółć 🙂",
    "\u2028",
]


@pytest.fixture(scope="module")
def classifier():
    pytest.importorskip("onnxruntime")
    with Classifier.load(threads=1) as found:
        yield found


class Codes:
    def detect(self, text):
        return "en" if "you" in text else "und"


@pytest.mark.parametrize("flag_columns", [False, True])
@pytest.mark.parametrize("languages", [None, Codes()], ids=["untold", "told"])
def test_lines_and_tables_give_the_same_bytes(classifier, flag_columns, languages):
    given = b"\n".join([*(text.encode() for text in TEXTS), b"not \xff UTF-8", b"x\r", b""])
    lines = [line for some in pipe_lines(io.BytesIO(given)) for line in some]
    texts, errors = [text for text, _ in lines], [error for _, error in lines]
    found = score_texts(classifier, texts, errors, languages)
    batch = pa.RecordBatch.from_arrays([pa.array(texts, pa.string())], ["text"])
    scored = score_batch(
        classifier,
        batch,
        text_column="text",
        errors=pa.array(errors, pa.string()),
        languages=languages,
        flag_columns=flag_columns,
    )
    as_lines = found.to_json_lines(texts, "text", flag_columns=flag_columns)
    assert as_lines == encode_json_lines(scored)
    rows = [json.loads(line) for line in as_lines.splitlines()]
    for row, expected in zip(rows, scored.to_pylist(), strict=True):
        for name in ["text", *result_names(classifier.labels, flag_columns=flag_columns)]:
            value = expected[name]
            same = np.float32(row[name]) == np.float32(value) if isinstance(value, float) else row[name] == value
            assert same, name
    assert [row["error"] for row in rows] == [
        None,
        None,
        "no text",
        "no text",
        None,
        None,
        None,
        "no text",
        "not UTF-8",
        None,
    ]


def test_the_results_are_those_of_the_classifier(classifier):
    texts = ["you are an idiot", "have a nice day"]
    found = score_texts(classifier, texts, [None, None])
    for place, result in enumerate(classifier.classify(texts)):
        assert found.probabilities[place].tolist() == list(result.probabilities.values())
        assert tuple(found.flagged[place]) == result.flagged


@given(st.lists(st.text(min_size=1), max_size=5))
def test_joined_names_come_back(names):
    cell = join_flagged(names)
    assert (next(csv.reader([cell], strict=True)) if names else cell) == (names or "")


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_number_comes_back_from_its_text(number):
    text = number_text(np.float32(number))
    assert np.float32(json.loads(text)) == np.float32(number)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_values_that_json_lacks_become_null(number):
    assert number_text(np.float32(number)) == "null"


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"pyarrow", "pandas", "scipy", "sklearn", "torch", "transformers"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
from moderation import cli
sys.exit(cli.main(sys.argv[1:]))
"""


def run_without_tables(*words, **keywords):
    return subprocess.run(
        [sys.executable, "-c", BLOCKED, *map(str, words)], capture_output=True, timeout=120, env=os.environ, **keywords
    )


def test_a_pipe_and_a_text_are_scored_without_arrow_and_pandas():
    pytest.importorskip("onnxruntime")
    piped = run_without_tables("score", "-", input=b"you are an idiot\n")
    assert piped.returncode == 0, piped.stderr
    named = run_without_tables("score", "--text", "you are an idiot", stdin=subprocess.DEVNULL)
    assert named.returncode == 0, named.stderr
    assert named.stdout == piped.stdout
    assert "toxic" in json.loads(piped.stdout)["flagged"]


@pytest.mark.parametrize("words", [("in.csv", "-o", "o.csv"), ("in.parquet", "-o", "-"), ("-", "-o", "o.jsonl")])
def test_files_without_arrow_name_the_extra(words, tmp_path):
    done = run_without_tables("score", *words, cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert b".[tables]" in done.stderr
    assert b"Traceback" not in done.stderr
