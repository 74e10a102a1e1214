"""Several sets in one table: each is judged by what it asks, and the languages come together."""

from pathlib import Path

import pandas as pd
import pytest

from moderation.bundles import Bundle
from moderation.errors import DataError
from moderation.suites.open_sets import measure_open, read_open
from moderation.suites.options import SuiteOptions
from moderation.suites.registry import find_kind, parse_suite
from moderation.suites.scorer import Scorer
from tests.suites.conftest import WordModel, write


def rows() -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for number in range(40):  # the model finds the rotten ones, and takes fools for insults
        found += [
            {"comment_text": f"rotten {number}", "lang": "de", "source": "posts", "toxic": 1, "insult": None},
            {"comment_text": f"lovely {number}", "lang": "de", "source": "posts", "toxic": 0, "insult": None},
            {"comment_text": f"rotten fool {number}", "lang": "tr", "source": "tweets", "toxic": "", "insult": "0"},
            {"comment_text": f"a fool {number}", "lang": "tr", "source": "tweets", "toxic": "1", "insult": "1"},
            {
                "comment_text": f"dull and boring {number}",
                "lang": "tr",
                "source": "tweets",
                "toxic": "0",
                "insult": None,
            },
        ]
    return found


def test_each_set_is_judged_by_what_it_asks(tmp_path: Path, model: WordModel, scorer: Scorer) -> None:
    path = write(tmp_path, "open.csv", rows())
    bundle: Bundle = model.bundle  # type: ignore[assignment]
    assert find_kind(parse_suite(f"ours={path}"), bundle).name == "open"
    frame = read_open(path, bundle)
    assert frame.attrs["labels"] == ["insult", "toxic"]
    result = measure_open(frame, scorer, SuiteOptions())
    sets = result.numbers.sets  # type: ignore[attr-defined]
    assert list(sets["posts"]) == ["toxic"]
    posts, tweets = sets["posts"]["toxic"], sets["tweets"]["toxic"]
    assert (posts.n_known, posts.support, posts.roc_auc, posts.recall, posts.false_alarms) == (80, 40, 1.0, 1.0, 0.0)
    assert (tweets.n_known, tweets.support, tweets.recall) == (80, 40, 0.0)
    assert sets["tweets"]["insult"].false_alarms == 1.0
    assert result.numbers.languages["tr"]["insult"] == sets["tweets"]["insult"]  # type: ignore[attr-defined]
    measures = {figure.measure: figure.value for figure in result.figures}
    assert measures["ROC-AUC of toxic, worst set"] == tweets.roc_auc == 0.0
    assert [table.title for table in result.tables] == ["Sets", "Languages"]
    assert len(result.tables[0].rows) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"toxic": 2}, "toxic"),
        ({"source": "a\x1b[2J"}, "source"),
    ],
)
def test_cells_that_make_no_sense_are_refused(
    tmp_path: Path, model: WordModel, change: dict[str, object], words: str
) -> None:
    path = write(tmp_path, "open.csv", [*rows(), rows()[0] | change])
    with pytest.raises(DataError, match=words):
        read_open(path, model.bundle)  # type: ignore[arg-type]


def test_a_table_without_a_label_of_the_bundle_is_refused(tmp_path: Path, model: WordModel) -> None:
    table = pd.DataFrame(rows()).drop(columns=["toxic", "insult"]).assign(spam=1)
    table.to_csv(tmp_path / "open.csv", index=False)
    with pytest.raises(DataError, match="no label of the bundle is known in any row"):
        read_open(tmp_path / "open.csv", model.bundle)  # type: ignore[arg-type]
