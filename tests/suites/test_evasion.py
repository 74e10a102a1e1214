"""Evasion: recall kept and false positives added, with a model that knows whole words alone."""

import pandas as pd
import pytest

from moderation.documents import to_plain
from moderation.errors import DataError
from moderation.suites.evasion import measure_evasion, read_evasion
from moderation.suites.options import SuiteOptions
from tests.suites.conftest import write

OPTIONS = SuiteOptions(bootstrap=20)


def test_editing_the_telling_word_is_a_miss(suites, scorer) -> None:
    result = measure_evasion(read_evasion(suites["evasion"], scorer.bundle), scorer, OPTIONS)
    numbers = to_plain(result.numbers)
    assert (numbers["n_toxic"], numbers["n_clean"], numbers["recall"], numbers["false_positives"]) == (10, 10, 1.0, 0.0)
    assert numbers["toxic"]["spaced letters"] == {"recall": 0.0, "kept": 0.0, "kept_interval": [0.0, 0.0]}
    assert numbers["toxic"]["zero-width characters"]["kept"] == 0.0
    assert set(numbers["clean"]) - set(numbers["toxic"]) == {"ids", "prices", "code", "non-Latin text"}
    assert all(values["added"] == 0.0 for values in numbers["clean"].values())
    assert result.figures[1].value == 0.0


def test_false_positives_are_those_that_the_edit_adds(model, scorer) -> None:
    class Wary(type(model)):
        def window_probabilities(self, windows):
            texts = ["".join(map(chr, window.ids)) for window in windows]
            found = super().window_probabilities(windows)
            found[:, 1] = [0.9 if "$" in text or "\u20ac" in text or "\u00a3" in text else 0.1 for text in texts]
            return found

    frame = pd.DataFrame({"comment_text": ["you fool", "fine $", "fine", "good"], "toxic": [1.0, 0, 0, 0]})
    numbers = to_plain(measure_evasion(frame, type(scorer)(Wary()), OPTIONS).numbers)
    assert numbers["false_positives"] == pytest.approx(1 / 3)
    assert numbers["clean"]["prices"]["false_positives"] == 1.0
    assert numbers["clean"]["prices"]["added"] == pytest.approx(2 / 3)
    assert numbers["clean"]["ids"]["added"] == 0.0


def test_if_nothing_was_caught_nothing_can_be_kept(scorer) -> None:
    frame = pd.DataFrame({"comment_text": ["unseen insult", "fine"], "insult": [1.0, 0.0]})
    result = measure_evasion(frame, scorer, OPTIONS)
    assert to_plain(result.numbers)["toxic"]["leetspeak"] == {"recall": 0.0, "kept": None, "kept_interval": None}


def test_parts_are_seeded_and_limited(suites, scorer, model) -> None:
    frame = read_evasion(suites["evasion"], scorer.bundle)
    result = measure_evasion(frame, scorer, SuiteOptions(bootstrap=0, max_texts=3))
    assert result.n_rows == 6
    n_read = len(model.read)
    measure_evasion(frame, scorer, SuiteOptions(bootstrap=0, max_texts=3))
    assert len(model.read) == n_read  # the same comments, the same edits


@pytest.mark.parametrize("toxic", [0, 1])
def test_a_table_with_only_one_kind_of_comment_is_refused(toxic, scorer, tmp_path) -> None:
    path = write(tmp_path, "one.csv", [{"comment_text": text, "toxic": toxic} for text in "ab"])
    with pytest.raises(DataError, match="toxic comments and comments without any label"):
        read_evasion(path, scorer.bundle)
