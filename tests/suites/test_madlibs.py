"""Madlibs: which identity a sentence names, and the worst term first."""

import pandas as pd
import pytest

from moderation.errors import DataError
from moderation.suites.madlibs import find_terms, measure_madlibs, read_madlibs
from moderation.suites.results import Options
from tests.suites.conftest import write


def test_the_template_says_where_the_term_stands(suites, tmp_path) -> None:
    frame = read_madlibs(suites["madlibs"], None)
    assert set(frame["term"]) == {"red", "dark blue", ""}
    assert (frame["term"] == "red").sum() == (frame["term"] == "dark blue").sum() == 6
    assert frame["Template"][frame["term"] == ""].tolist() == ["you_occupation"]


@pytest.mark.parametrize(
    ("text", "template"), [("blue", "verb_adj"), ("Seeming so fine.", "being_adj"), ("praise blue", "another")]
)
def test_a_sentence_of_no_template_is_named_by_its_row(text, template, tmp_path) -> None:
    texts = pd.Series(["praise red", text])
    with pytest.raises(DataError, match=r"1 sentences .* \(row 2") as caught:
        find_terms(texts, pd.Series(["verb_adj", template]), tmp_path / "m.csv")
    assert text not in str(caught.value)


def test_the_worst_term_stands_first(tmp_path, scorer) -> None:
    rows = [
        {"Text": f"{verb} {term}", "Label": label, "Template": "verb_adj"}
        for term in ("red", "rotten", "blue")  # the model takes one of the terms for an insult
        for verb, label in (("praise", "NOT_BAD"), ("thank", "NOT_BAD"), ("loathe", "BAD"), ("despise", "BAD"))
    ]
    result = measure_madlibs(read_madlibs(write(tmp_path, "m.csv", rows), None), scorer, Options())
    assert result.figures[0].detail == "rotten"
    assert result.figures[0].value == 0.0  # every harmless sentence with it ranks above all that are bad elsewhere
    assert result.tables[0].rows[0][0] == "rotten"
    assert result.numbers["label"] == "toxic"
    assert len(result.numbers["subgroups"]) == 3
