"""Toxic spans: F1 of characters, and evidence found where the model flags a sentence or a word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.documents import to_plain
from moderation.errors import DataError
from moderation.suites.options import SuiteOptions
from moderation.suites.toxic_spans import character_f1, measure_toxic_spans, read_toxic_spans
from tests.suites.conftest import write

PLACES = st.sets(st.integers(0, 12))


@given(PLACES, PLACES)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(found: set[int], gold: set[int]) -> None:
    both = len(found & gold)
    if not found or not gold:
        assert character_f1(found, gold) == float(found == gold)
    elif both:
        precision, recall = both / len(found), both / len(gold)
        assert character_f1(found, gold) == pytest.approx(2 * precision * recall / (precision + recall))
    else:
        assert character_f1(found, gold) == 0


def test_figures_agree_with_manually_counted_posts(suites, scorer) -> None:
    result = measure_toxic_spans(
        read_toxic_spans(suites["toxic-spans"], scorer.bundle), scorer, SuiteOptions(bootstrap=20)
    )
    evidence = {name: values["character_f1"] for name, values in to_plain(result.numbers)["evidence"].items()}
    # first post: its first sentence of 22 characters holds the 6 marked ones; second: nothing, rightly; third: 11 for 4
    assert evidence["flagged sentences"] == pytest.approx((2 * 6 / (22 + 6) + 1 + 2 * 4 / (11 + 4)) / 3)
    assert evidence["flagged words"] == 1.0
    assert evidence["no character"] == pytest.approx(1 / 3)
    assert evidence["every character"] == pytest.approx((2 * 6 / (31 + 6) + 0 + 2 * 4 / (11 + 4)) / 3)
    assert (
        to_plain(result.numbers)["n_posts"],
        to_plain(result.numbers)["n_marked"],
        to_plain(result.numbers)["n_shown"],
    ) == (
        3,
        2,
        2,
    )


@pytest.mark.parametrize("cell", ["", "none", "[1, 2", "[-1]", "[99]", "[true]", "[NaN]", "[" * 10_000, '["a"]', "3"])
def test_a_cell_that_is_not_a_list_of_offsets_is_named_by_its_row(cell, tmp_path) -> None:
    path = write(tmp_path, "tsd.csv", [{"spans": "[0]", "text": "first"}, {"spans": cell, "text": "second"}])
    with pytest.raises(DataError, match=r"'spans': 1 cells .* \(row 2"):
        read_toxic_spans(path, None)
