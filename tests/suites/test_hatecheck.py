"""HateCheck: accuracy of both kinds of cases, by functionality, target and direction, on cases counted by hand."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from moderation.documents import to_plain
from moderation.errors import DataError
from moderation.suites.hatecheck import (
    macro_f1,
    measure_hatecheck,
    measure_multilingual_hatecheck,
    read_hatecheck,
    read_multilingual_hatecheck,
)
from moderation.suites.options import SuiteOptions
from tests.suites.conftest import hatecheck_rows, write

OPTIONS = SuiteOptions(bootstrap=50)


def test_figures_agree_with_manually_counted_cases(suites, scorer) -> None:
    result = measure_hatecheck(read_hatecheck(suites["hatecheck"], scorer.bundle), scorer, OPTIONS)
    numbers = to_plain(result.numbers)
    assert numbers["hateful"]["accuracy"] == 3 / 4
    assert numbers["non-hateful"]["accuracy"] == 1 / 2
    assert numbers["macro_f1"] == pytest.approx((2 * 3 / (2 * 3 + 1 + 1) + 2 * 1 / (2 * 1 + 1 + 1)) / 2)
    found = {name: sides["hateful"] | {} for name, sides in numbers["functionalities"].items()}
    assert (found["derog_h"]["accuracy"], found["implied_h"]["accuracy"]) == (1.0, 0.5)
    assert numbers["functionalities"]["object_nh"]["non-hateful"]["accuracy"] == 0.0
    assert numbers["targets"]["bakers"]["hateful"] | {"interval": None} == {"n": 3, "accuracy": 2 / 3, "interval": None}
    assert set(numbers["targets"]) == {"bakers", "painters"}  # a case may have none
    assert {name: sides["hateful"]["n"] for name, sides in numbers["directions"].items()} == {
        "general": 3,
        "directed": 1,
    }
    assert [figure.value for figure in result.figures] == [3 / 4, 1 / 2, numbers["macro_f1"]]


def test_macro_f1_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, called = rng.random(200) < 0.7, rng.random(200) < 0.5
    cells = [(truth & called).sum(), (~truth & called).sum(), (truth & ~called).sum(), (~truth & ~called).sum()]
    assert float(macro_f1(np.array(cells))) == pytest.approx(f1_score(truth, called, average="macro"))


def test_each_language_is_measured_separately(suites, scorer) -> None:
    frame = read_multilingual_hatecheck(suites["multilingual-hatecheck"], scorer.bundle)
    result = measure_multilingual_hatecheck(frame, scorer, OPTIONS)
    assert set(to_plain(result.numbers)["languages"]) == {"french", "german"}
    assert to_plain(result.numbers)["languages"]["german"]["hateful"]["accuracy"] == 3 / 4
    assert to_plain(result.numbers)["n_cases"] == 12
    assert result.tables[1].header == ("functionality", "french", "german")
    one = read_multilingual_hatecheck(next(suites["multilingual-hatecheck"].glob("*german*")), scorer.bundle)
    assert set(one["language"]) == {"german"}


def test_files_that_are_not_hatecheck_are_named(tmp_path, scorer) -> None:
    rows = hatecheck_rows()
    with pytest.raises(DataError, match=r"no column 'label_gold'; columns there: .*functionality"):
        read_hatecheck(
            write(tmp_path, "a.csv", [{k: v for k, v in row.items() if k != "label_gold"} for row in rows]), None
        )
    rows[2]["label_gold"] = "rude words of somebody"
    with pytest.raises(DataError, match=r"1 values other than hateful and non-hateful \(row 3") as caught:
        read_hatecheck(write(tmp_path, "b.csv", rows), None)
    assert "somebody" not in str(caught.value)
    with pytest.raises(DataError, match="holds no file hatecheck_cases_final_"):
        read_multilingual_hatecheck(tmp_path, None)
