"""Madlibs: which identity a sentence names, and the worst term first."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from moderation.documents import to_plain
from moderation.errors import DataError
from moderation.suites.madlibs import (
    POWER,
    find_terms,
    measure_bias,
    measure_madlibs,
    measure_subgroup,
    power_mean,
    read_madlibs,
)
from moderation.suites.options import SuiteOptions
from tests.suites.conftest import write


def test_the_template_shows_where_the_term_is(suites, tmp_path) -> None:
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


def test_the_worst_term_comes_first(tmp_path, scorer) -> None:
    rows = [
        {"Text": f"{verb} {term}", "Label": label, "Template": "verb_adj"}
        for term in ("red", "rotten", "blue")  # the model takes one of the terms for an insult
        for verb, label in (("praise", "NOT_BAD"), ("thank", "NOT_BAD"), ("loathe", "BAD"), ("despise", "BAD"))
    ]
    result = measure_madlibs(read_madlibs(write(tmp_path, "m.csv", rows), None), scorer, SuiteOptions())
    assert result.figures[0].detail == "rotten"
    assert result.figures[0].value == 0.0  # every harmless sentence with it ranks above all that are bad elsewhere
    assert result.tables[0].rows[0][0] == "rotten"
    assert to_plain(result.numbers)["label"] == "toxic"
    assert len(to_plain(result.numbers)["subgroups"]) == 3


def share_of_pairs(above: np.ndarray, below: np.ndarray) -> float | None:
    """AUC as its definition says: the share of pairs in the right order, ties counting half."""
    pairs = [(a > b) + (a == b) / 2 for a in above for b in below]
    return float(np.mean(pairs)) if pairs else None


def test_a_worked_example() -> None:
    inside = np.array([True, True, True, False, False, False])
    bad = np.array([True, False, False, True, True, False])
    scores = np.array([0.9, 0.7, 0.2, 0.8, 0.6, 0.1], dtype=np.float32)
    group = measure_subgroup("red", inside, bad, scores)
    assert group.n == 3
    assert group.subgroup_auc == 1.0  # 0.9 above 0.7 and 0.2
    assert group.bpsn_auc == 0.75  # of 0.8, 0.6 against 0.7, 0.2 one pair of four is wrong
    assert group.bnsp_auc == 1.0  # 0.9 above 0.1
    assert group.worst == 0.75


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 4)), min_size=1, max_size=30))
def test_each_auc_is_the_share_of_pairs_of_its_definition(rows: list[tuple[bool, bool, int]]) -> None:
    inside, bad = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    scores = np.array([row[2] / 4 for row in rows], dtype=np.float32)
    group = measure_subgroup("red", inside, bad, scores)
    for found, above, below in (
        (group.subgroup_auc, inside & bad, inside & ~bad),
        (group.bpsn_auc, ~inside & bad, inside & ~bad),
        (group.bnsp_auc, inside & bad, ~inside & ~bad),
    ):
        assert found == pytest.approx(share_of_pairs(scores[above], scores[below]))


def test_the_metric_agrees_with_scikit_learn_on_each_subset() -> None:
    rng = np.random.default_rng(0)
    terms = rng.choice(["red", "blue", "green", ""], size=400)
    bad = rng.random(400) < 0.4
    scores = np.clip(bad * 0.3 + (terms == "red") * 0.2 + rng.random(400) * 0.6, 0, 1).astype(np.float32)
    found = measure_bias(
        "toxic", [measure_subgroup(t, terms == t, bad, scores) for t in ("red", "blue", "green")], bad, scores
    )
    means = []
    for choose in (
        lambda inside: inside,
        lambda inside: (inside & ~bad) | (~inside & bad),
        lambda inside: (inside & bad) | (~inside & ~bad),
    ):
        aucs = [roc_auc_score(bad[choose(terms == t)], scores[choose(terms == t)]) for t in ("red", "blue", "green")]
        means.append(sum(auc**POWER / 3 for auc in aucs) ** (1 / POWER))
    assert [found.subgroup_auc, found.bpsn_auc, found.bnsp_auc] == pytest.approx(means)
    assert found.overall_auc == pytest.approx(roc_auc_score(bad, scores))
    assert found.final_metric == pytest.approx((roc_auc_score(bad, scores) + sum(means)) / 4)


def test_the_generalised_mean_is_near_the_worst() -> None:
    assert power_mean([0.6, 0.6]) == pytest.approx(0.6)
    assert 0.5 < power_mean([0.5, 0.9, 0.9]) < np.mean([0.5, 0.9, 0.9])
    assert power_mean([0.0, 1.0]) == 0.0


def test_undefined_values_are_none_and_do_not_count_in_means() -> None:
    bad, scores = np.array([True, True, False]), np.array([0.9, 0.8, 0.1], dtype=np.float32)
    alone = measure_subgroup("red", np.array([True, False, False]), bad, scores)
    assert (alone.subgroup_auc, alone.bpsn_auc, alone.bnsp_auc) == (None, None, 1.0)
    found = measure_bias("toxic", [alone], bad, scores)
    assert found.subgroup_auc is None
    assert found.final_metric is None
