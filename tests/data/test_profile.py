import json

import numpy as np
import pandas as pd

from moderation.data.profile import describe, shared_texts


def test_every_number_of_a_small_table() -> None:
    frame = pd.DataFrame(
        {
            "text": ["Hello you", "hello  YOU", "a", "bb", "ccc", "A"],
            "rude": np.array([1, 0, 1, 0, 0, 1], dtype=np.float32),
            "spam": np.array([1, 1, 0, 0, 0, 0], dtype=np.float32),
        }
    )
    report = describe(frame, ("rude", "spam"), "text", np.array([4, 4, 3, 3, 9, 3]), max_length=4)

    assert report.n_rows == 6
    assert report.positives == {"rude": 3, "spam": 2}
    assert report.co_occurrence == {"rude": {"rude": 3, "spam": 1}, "spam": {"rude": 1, "spam": 2}}
    assert report.characters is not None and report.tokens is not None
    assert (report.characters.min, report.characters.median, report.characters.max) == (1, 2.5, 10)
    assert report.characters.p95 == 9.75
    assert (report.tokens.min, report.tokens.max, report.n_too_long) == (3, 9, 1)
    assert (report.n_duplicates, report.n_conflicts) == (2, 1)  # "Hello you" twice with other labels, "a" twice

    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert content["labels"] == {"rude": {"count": 3, "share": 0.5}, "spam": {"count": 2, "share": 2 / 6}}
    text = report.to_text()
    assert "50.00%" in text and "more than 4 tokens" in text and "1 texts (16.67%)" in text
    assert max(map(len, text.splitlines())) <= 100
    assert "Hello" not in text


def test_without_tokens_labels_or_rows() -> None:
    frame = pd.DataFrame({"text": ["a", "a"]})
    report = describe(frame, (), "text")
    assert (report.positives, report.n_duplicates, report.n_conflicts, report.tokens) == ({}, 1, None, None)
    assert "not counted" in report.to_text()
    assert "positives" not in report.to_text() and "tokens" not in report.to_text()

    nothing = describe(frame.head(0).assign(rude=[]), ("rude",), "text", np.array([], dtype=np.int32), 8)
    assert nothing.n_rows == 0 and nothing.characters is None and nothing.to_dict()["labels"]["rude"]["share"] == 0
    assert nothing.to_text()


def test_shared_texts_counts_different_texts_of_every_pair() -> None:
    frames = {
        "one": pd.DataFrame({"text": ["Hi", "h i", "go"]}),
        "two": pd.DataFrame({"text": ["HI", "stay"]}),
        "three": pd.DataFrame({"text": ["stay", "go", "hi"]}),
    }
    assert shared_texts(frames, "text") == {("one", "two"): 1, ("one", "three"): 2, ("two", "three"): 2}
    assert shared_texts({"one": frames["one"]}, "text") == {}
