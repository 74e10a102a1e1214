"""Suites: how they are named, how they are known, and what the simple ones measure."""

from pathlib import Path

import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from moderation.data.options import TableOptions
from moderation.documents import to_plain
from moderation.errors import ConfigError, DataError
from moderation.suites.binary import measure_binary, read_binary
from moderation.suites.jigsaw import measure_labels, measure_multilingual, read_multilingual
from moderation.suites.labelled import read_labelled
from moderation.suites.measuring import measure_suites
from moderation.suites.options import SuiteOptions
from moderation.suites.registry import KINDS, Suite, find_kind, parse_suites
from tests.suites.conftest import write

OPTIONS = SuiteOptions(bootstrap=20)


def test_a_name_a_kind_or_both() -> None:
    assert [(suite.name, suite.kind) for suite in parse_suites(["hatecheck=a", "mine:binary=b", "ours=c"])] == [
        ("hatecheck", "hatecheck"),
        ("mine", "binary"),
        ("ours", None),
    ]


@pytest.mark.parametrize("word", ["cases.csv", "=a.csv", "a:=b.csv", "mine:=", "mine:hatechek=a.csv", "x="])
def test_another_form_is_refused_and_the_kinds_are_listed(word: str) -> None:
    with pytest.raises(ConfigError, match=r"Kinds: .*hatecheck.*evasion"):
        parse_suites([word])


def test_two_suites_with_the_same_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="surge named more than once"):
        parse_suites(["surge=a.csv", "surge=b.csv"])


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"evasion"}))
def test_a_file_is_known_by_its_columns(kind: str, suites, scorer) -> None:
    assert find_kind(Suite("mine", suites[kind]), scorer.bundle).name == kind


def test_a_file_of_no_kind_is_reported_with_its_columns(tmp_path, scorer) -> None:
    path = write(tmp_path, "other.csv", [{"author": "x", "words": "y"}])
    with pytest.raises(DataError, match=r"columns there: author, words\. Name the kind in --suite mine:KIND=PATH"):
        find_kind(Suite("mine", path), scorer.bundle)


def test_all_unreadable_files_are_reported_before_anything_is_scored(suites, model, tmp_path) -> None:
    named = [Suite("a", tmp_path / "none.csv"), Suite("b", suites["surge"], "madlibs"), Suite("c", suites["surge"])]
    with pytest.raises(DataError) as caught:
        measure_suites(model, named, OPTIONS)
    assert "suite a: " in str(caught.value)
    assert "suite b: " in str(caught.value)
    assert "suite c" not in str(caught.value)
    assert not model.read


def test_a_text_is_computed_once_for_all_suites(suites, model) -> None:
    named = [Suite(kind, suites[kind], kind) for kind in ("hatecheck", "multilingual-hatecheck", "surge")]
    measured = measure_suites(model, [*named, Suite("again", suites["surge"])], OPTIONS)
    assert len(model.read) == len(set(model.read)) == measured.n_computed == 6 + 2


def test_a_part_is_seeded_and_reported(suites, model) -> None:
    options = SuiteOptions(bootstrap=0, max_texts=4)
    suite = Suite("hatecheck", suites["hatecheck"], "hatecheck")
    first, again = (measure_suites(model, [suite], options).suites[0] for _ in range(2))
    assert first.result == again.result
    assert (first.result.n_rows, first.n_rows, first.whole) == (4, 6, False)


def test_labels_languages_and_columns_agree_with_scikit_learn(suites, scorer) -> None:
    frame = read_labelled(suites["jigsaw"], scorer.bundle)
    scores = scorer.read(frame["comment_text"], "test")
    numbers = to_plain(measure_labels(frame, scorer, OPTIONS).numbers)["labels"]
    for place, label in enumerate(("insult", "toxic")):
        truth = frame[label].to_numpy()
        assert numbers[label]["roc_auc"] == pytest.approx(roc_auc_score(truth, scores[:, place]))
        assert numbers[label]["average_precision"] == pytest.approx(average_precision_score(truth, scores[:, place]))
        assert numbers[label]["at_threshold"]["f1"] == pytest.approx(f1_score(truth, scores[:, place] >= 0.5))
    assert numbers["threat"]["roc_auc"] is None  # no comment has it

    frame = read_multilingual(suites["jigsaw-multilingual"], scorer.bundle)
    numbers = to_plain(measure_multilingual(frame, scorer, OPTIONS).numbers)
    scores = scorer.read(frame["comment_text"], "test")[:, 1]
    rows = (frame["lang"] == "es").to_numpy()
    assert numbers["languages"]["es"]["roc_auc"] == roc_auc_score(frame["toxic"][rows], scores[rows])
    assert numbers["languages"]["it"]["roc_auc"] is None
    assert numbers["all"]["n_texts"] == 9


def test_languages_of_a_labelled_table_have_a_table_of_their_own(tmp_path, scorer) -> None:
    lines = rows(comment_text=list("abcd"), lang=["en", "pt-BR", "pt", "en"], toxic=[1, 0, 1, 0], insult=["", 1, 0, 1])
    path = write(tmp_path, "languages.csv", lines)
    form = TableOptions(languages=("any",), partial_labels=True)
    result = measure_labels(read_labelled(path, scorer.bundle, form), scorer, OPTIONS)
    found = [(row[0], row[1], row[2]) for row in result.tables[1].rows]
    assert sorted(found) == [("en", "insult", "1"), ("en", "toxic", "2"), ("pt", "insult", "2"), ("pt", "toxic", "2")]
    english = read_labelled(path, scorer.bundle, TableOptions(partial_labels=True))
    assert len(measure_labels(english, scorer, OPTIONS).tables) == 1


def test_a_column_with_the_name_of_a_label_is_measured_by_that_label(suites, scorer, tmp_path) -> None:
    numbers = to_plain(measure_binary(read_binary(suites["binary"], scorer.bundle), scorer, OPTIONS).numbers)
    assert (numbers["label"], numbers["at_threshold"]["f1"]) == ("insult", 1.0)
    path = write(tmp_path, "other.csv", [{"text": "rotten", "mean": 1}, {"text": "you fool", "mean": 0}])
    numbers = to_plain(measure_binary(read_binary(path, scorer.bundle), scorer, OPTIONS).numbers)
    assert (numbers["label"], numbers["roc_auc"]) == ("toxic", 1.0)


def test_a_plain_table_has_one_column_of_0_and_1(tmp_path, scorer) -> None:
    two = write(tmp_path, "two.csv", [{"text": "a", "mean": 1, "rude": 0}, {"text": "b", "mean": 0, "rude": 1}])
    with pytest.raises(DataError, match=r"found 2: mean, rude"):
        read_binary(two, scorer.bundle)
    none = write(tmp_path, "none.csv", [{"text": "a", "mean": "maybe"}])
    with pytest.raises(DataError, match=r"found 0; columns there: text, mean"):
        read_binary(none, scorer.bundle)
    empty = write(
        tmp_path, "empty.csv", [{"text": "a", "mean": 1}, {"text": "b", "mean": ""}, {"text": "c", "mean": 0}]
    )
    with pytest.raises(DataError, match=r"label 'mean': 1 value is missing .*; expected 0 or 1 \(row 2\)"):
        read_binary(empty, scorer.bundle)
    known = read_binary(empty, scorer.bundle, TableOptions(partial_labels=True))
    assert known["text"].tolist() == ["a", "c"]
    nothing = write(tmp_path, "nothing.csv", [{"text": "a", "mean": ""}, {"text": "b", "mean": ""}])
    with pytest.raises(DataError, match="no row has a known value of mean"):
        read_binary(nothing, scorer.bundle, TableOptions(partial_labels=True, label_columns=("mean",)))


def test_rows_without_a_text_are_left_out_and_counted(tmp_path, scorer, caplog) -> None:
    caplog.set_level("INFO")
    path = write(tmp_path, "gaps.csv", [{"text": "a", "mean": 1}, {"text": " ", "mean": 0}, {"text": "c", "mean": 0}])
    assert len(read_binary(path, scorer.bundle)) == 2
    assert "1 of 3 rows left out" in caplog.text


def rows(**columns: list[object]) -> list[dict[str, object]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize(
    ("columns", "form", "expected"),
    [
        ({"text": ["a", "b", "c"], "mean": [True, False, True]}, {}, [True, False, True]),
        ({"Tweet": ["a", "b", "c"], "mean": ["yes", "no", "no"]}, {}, [True, False, False]),
        ({"comment": ["a", "b", "c"], "isHate": [0.7, 0.1, 0.5]}, {"label_cut": 0.5}, [True, False, True]),
        ({"comment": ["a", "b", "c"], "votes": [0, 3, 2]}, {"label_cut": 3}, [False, True, False]),
        (
            {"text": ["a", "b", "c"], "mean": [1, 0, 0], "rude": [0, 0, 1]},
            {"label_columns": ("rude",)},
            [False, False, True],
        ),
        ({"text": ["a", "b", "c"], "class": ["hate", "none", "hate"]}, {"labels_in": "class"}, [True, False, True]),
        ({"words": ["a", "b", "c"], "mean": [1, 0, 0]}, {"text_column": "words"}, [True, False, False]),
    ],
)
def test_your_own_table_is_read_as_it_is_written(columns, form, expected, tmp_path, scorer) -> None:
    path = write(tmp_path, "own.csv", rows(**columns))
    assert read_binary(path, scorer.bundle, TableOptions(**form))["positive"].tolist() == expected
    if "labels_in" not in form:
        assert find_kind(Suite("mine", path), scorer.bundle, TableOptions(**form)).name == "binary"


@pytest.mark.parametrize("form", [{}, {"labels_in": "labels"}])
def test_labels_of_the_bundle_are_found_in_columns_and_in_lists(form, tmp_path, scorer) -> None:
    cells = {"insult": [1, 0, 0], "toxic": [1, 1, 0]} if not form else {"labels": ["toxic|insult|spam", "toxic", ""]}
    path = write(tmp_path, "own.csv", rows(body=["a", "b", "c"], **cells))
    frame = read_labelled(path, scorer.bundle, TableOptions(**form))
    assert frame[["insult", "toxic"]].to_numpy().tolist() == [[1, 1], [0, 1], [0, 0]]
    assert frame.attrs["of_authors"] is False
    assert find_kind(Suite("mine", path), scorer.bundle, TableOptions(**form)).name == "jigsaw"
    one = TableOptions(**form, label_columns=("toxic",))
    assert list(read_labelled(path, scorer.bundle, one).columns) == ["comment_text", "toxic"]
    with pytest.raises(DataError, match="--label-columns names spam"):
        read_labelled(path, scorer.bundle, TableOptions(**form, label_columns=("spam",)))


def test_the_module_in_the_guide_to_a_new_suite_imports() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "adding-a-suite.md").read_text(encoding="utf-8")
    code = guide.split("```python")[1].split("\n", 1)[1].split("```")[0]
    names: dict[str, object] = {}
    exec(code, names)
    assert callable(names["read_irony"]) and callable(names["measure_irony"])
