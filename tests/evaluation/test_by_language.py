"""Figures by language: those of the examples in it, for the labels that are known there."""

import numpy as np
import pandas as pd
import pytest

from moderation.data.cleaning import load_english_only
from moderation.errors import DataError
from moderation.evaluation.by_language import format_languages, measure_by_language
from moderation.evaluation.metrics import measure_split

LABELS = ("toxic", "threat")


def test_the_figures_of_a_language_are_those_of_its_examples() -> None:
    rng = np.random.default_rng(2)
    scores, truth = rng.random((300, 2)), (rng.random((300, 2)) < 0.4).astype(np.float32)
    languages = rng.choice(["en", "pt", "de"], 300, p=[0.6, 0.3, 0.1])
    truth[languages == "pt", 1] = np.nan
    table = measure_by_language(scores, truth, languages.tolist(), LABELS, [0.5, 0.7])
    assert list(table) == ["en", "pt", "de"]
    assert list(table["pt"]) == ["toxic"]
    for language in table:
        rows = languages == language
        alone = measure_split(scores[rows][:, :1], truth[rows][:, :1], LABELS[:1], 0.5, bootstrap=0).labels["toxic"]
        found, negative = table[language]["toxic"], truth[rows, 0] == 0
        assert (found.n_known, found.support, found.roc_auc) == (rows.sum(), alone.support, alone.roc_auc)
        assert (found.precision, found.recall, found.f1) == (
            alone.at_threshold.precision,
            alone.at_threshold.recall,
            alone.at_threshold.f1,
        )
        assert found.false_alarms == (scores[rows, 0][negative] >= 0.5).mean()
    assert format_languages(table).count("\n") == 5


def test_a_language_without_positives_has_what_is_defined() -> None:
    figures = measure_by_language([[0.2], [0.9], [0.1]], [[0], [0], [1]], ["tr", "tr", "en"], ["toxic"], [0.5])
    assert figures["tr"]["toxic"].roc_auc is None
    assert figures["tr"]["toxic"].false_alarms == 0.5
    assert figures["en"]["toxic"].false_alarms is None


def test_each_example_has_one_language() -> None:
    with pytest.raises(DataError, match="1 codes for 2 examples"):
        measure_by_language([[0.2], [0.9]], [[0], [1]], ["tr"], ["toxic"], [0.5])


def test_a_label_is_no_column_of_languages() -> None:
    frame = pd.DataFrame({"comment_text": list("ab"), "lang": [0, 1], "tongue": ["en", "de"]})
    with pytest.raises(DataError, match="'lang' is both text or label"):
        load_english_only(frame, label_columns=["lang"], language_column="tongue", languages=["any"])


def test_the_languages_of_a_table_are_kept_with_its_rows() -> None:
    codes = ["en-GB", "pt-BR", "ur-Latn", "fr", None]
    frame = pd.DataFrame({"comment_text": list("abcde"), "toxic": [0, 1, 0, 1, 0], "language": codes})
    assert load_english_only(frame, languages=["any"])["lang"].tolist() == ["en", "pt", "ur-Latn", "fr", "und"]
    assert "lang" not in load_english_only(frame.assign(toxic=[0, 1, 0, 1, 0]), require_both_classes=False)
    assert "lang" not in load_english_only(frame, languages=[" EN"], require_both_classes=False)
    assert len(load_english_only(frame, languages=["ANY"])) == 5
