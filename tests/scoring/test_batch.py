"""The engine: results beside the input's columns, each text once, an error where there is nothing to score."""

import numpy as np
import pyarrow as pa
import pytest

from moderation.errors import DataError
from moderation.inference.routing import Reading, Route
from moderation.scoring.batch import is_text, score_batch
from moderation.scoring.summary import ScoreSummary


class Lengths:
    """A classifier that counts: `long` is a text's length / 10, `loud` is 1 where it ends in an exclamation mark."""

    labels = ("long", "loud")
    model_version = "lengths@0"
    recogniser = None

    def __init__(self):
        self.asked = []

    def read(self, texts):
        self.asked.append(list(texts))
        rows = [[len(text) / 10, float(text.endswith("!"))] for text in texts]
        n_windows = np.array([1 + len(text) // 8 for text in texts], dtype=np.int64)
        return Reading(np.array(rows, dtype=np.float32), n_windows, [Route()] * len(texts))

    def thresholds_of(self, routes):
        return np.array([0.5, 0.5], dtype=np.float32)

    def version_of(self, route):
        return self.model_version


def count(summary, scored):
    summary.add(*(scored[name].to_pylist() for name in ("flagged", "detected_language", "error")))


def batch_of(texts, kind=None):
    return pa.RecordBatch.from_pydict({"id": list(range(len(texts))), "text": pa.array(texts, kind)})


def test_the_columns_of_the_input_come_first_then_the_results():
    scored = score_batch(Lengths(), batch_of(["hello!", "a"]), text_column="text")
    assert scored.schema.names == [
        *("id", "text", "p_long", "p_loud", "flagged", "n_windows", "detected_language", "model_version", "error"),
    ]
    kinds = ["list<item: string>", "int32", "string", "string", "string"]
    assert [str(kind) for kind in scored.schema.types[2:]] == ["float", "float", *kinds]
    assert scored.to_pylist() == [
        {
            "id": 0, "text": "hello!", "p_long": pytest.approx(0.6), "p_loud": 1.0, "flagged": ["long", "loud"],
            "n_windows": 1, "detected_language": None, "model_version": "lengths@0", "error": None,
        },
        {
            "id": 1, "text": "a", "p_long": pytest.approx(0.1), "p_loud": 0.0, "flagged": [], "n_windows": 1,
            "detected_language": None, "model_version": "lengths@0", "error": None,
        },
    ]  # fmt: skip


def test_equal_texts_are_computed_once_and_rows_without_a_text_never():
    classifier = Lengths()
    scored = score_batch(classifier, batch_of(["a", None, "bb!", " \n", "a", "bb!"]), text_column="text")
    assert classifier.asked == [["a", "bb!"]]
    assert scored["error"].to_pylist() == [None, "no text", None, "no text", None, None]
    assert scored["flagged"].to_pylist() == [[], None, ["loud"], None, [], ["loud"]]
    assert scored["p_long"].to_pylist()[1] is None
    assert scored["n_windows"].null_count == scored["model_version"].null_count == 2


class FirstLetters:
    """Takes a text's first two letters for its language."""

    def __init__(self):
        self.asked = []

    def detect(self, text):
        self.asked.append(text)
        return text[:2] if len(text) > 2 else "und"


def test_languages_are_detected_once_per_text_and_foreign_ones_counted():
    languages = FirstLetters()
    scored = score_batch(
        Lengths(), batch_of(["de x", "en y", "de x", "a", None, "fr z"]), text_column="text", languages=languages
    )
    assert scored["detected_language"].to_pylist() == ["de", "en", "de", "und", None, "fr"]
    assert languages.asked == ["de x", "en y", "a", "fr z"]
    told = ScoreSummary(("long", "loud"), ["en"])
    count(told, scored)
    assert "3 probably in languages that the model was not trained on (de 2, fr 1)" in told.to_text(1.0, "-")
    untold = ScoreSummary(("long", "loud"))
    count(untold, scored)
    assert "languages" not in untold.to_text(1.0, "-")


def test_a_batch_without_any_text_computes_nothing():
    classifier = Lengths()
    for batch in (batch_of([], pa.string()), batch_of([None], pa.null()), batch_of(["", None])):
        assert score_batch(classifier, batch, text_column="text").num_rows == batch.num_rows
    assert not classifier.asked


@pytest.mark.parametrize(
    "column", [pa.array(["a", "bb"]).dictionary_encode(), pa.array(["a", "bb"], pa.large_string())], ids=str
)
def test_texts_may_be_stored_in_other_ways(column):
    scored = score_batch(Lengths(), pa.RecordBatch.from_arrays([column], ["t"]), text_column="t")
    assert scored["p_long"].to_pylist() == pytest.approx([0.1, 0.2])


def test_values_that_are_not_strings_or_not_unicode_are_errors_of_their_rows():
    numbers = score_batch(Lengths(), batch_of([1, None]), text_column="text")
    assert numbers["error"].to_pylist() == ["the text is not a string", "no text"]
    odd = pa.array([b"fine", b"half a pair \xed\xa0\xbd", None], pa.binary()).view(pa.string())
    scored = score_batch(Lengths(), pa.RecordBatch.from_arrays([odd], ["t"]), text_column="t")
    assert scored["error"].to_pylist() == [None, "the text is not valid Unicode", "no text"]
    assert scored["p_long"].to_pylist() == [pytest.approx(0.4), None, None]


def test_errors_of_rows_are_kept():
    classifier = Lengths()
    scored = score_batch(
        classifier, batch_of(["a", "b", None]), text_column="text", errors=pa.array(["broken", None, "gone"])
    )
    assert scored["error"].to_pylist() == ["broken", None, "gone"]
    assert classifier.asked == [["b"]]


def test_an_answer_that_is_not_a_number_is_an_error():
    class Broken(Lengths):
        def read(self, texts):
            reading = super().read(texts)
            reading.probabilities[0, 1] = np.nan
            return reading

    scored = score_batch(Broken(), batch_of(["a", "b"]), text_column="text")
    assert scored["error"].to_pylist() == ["the model's answer is not a number", None]
    assert scored["p_long"].to_pylist()[0] is None


def test_columns_with_the_names_of_results_are_refused_by_name():
    batch = pa.RecordBatch.from_pydict({"text": ["a"], "flagged": ["x"], "p_loud": [0.5], "p_other": [1]})
    with pytest.raises(DataError, match=r"names of result columns: p_loud, flagged\."):
        score_batch(Lengths(), batch, text_column="text")
    with pytest.raises(DataError, match="0 columns named 'comment'"):
        score_batch(Lengths(), batch_of(["a"]), text_column="comment")


def test_booleans_for_each_label_are_added_on_request():
    scored = score_batch(Lengths(), batch_of(["hello!", "a", None]), text_column="text", flag_columns=True)
    names = ["p_long", "p_loud", "flagged", "flag_long", "flag_loud", "n_windows"]
    assert scored.schema.names[2:8] == names
    assert scored["flag_long"].to_pylist() == [True, False, None]
    assert str(scored.schema.field("flag_loud").type) == "bool"
    taken = pa.RecordBatch.from_pydict({"text": ["a"], "flag_loud": [1]})
    assert score_batch(Lengths(), taken, text_column="text").num_rows == 1
    with pytest.raises(DataError, match="names of result columns: flag_loud"):
        score_batch(Lengths(), taken, text_column="text", flag_columns=True)


@pytest.mark.parametrize("labels", [("a,b", "c"), ('say "hi"', "a,b"), ("x;y", ",")], ids=str)
def test_a_label_with_a_comma_stays_one_label(labels):
    classifier = Lengths()
    classifier.labels = labels
    scored = score_batch(classifier, batch_of(["hello!", "!", "a"]), text_column="text")
    assert scored["flagged"].to_pylist() == [list(labels), [labels[1]], []]
    summary = ScoreSummary(labels)
    count(summary, scored)
    said = summary.to_text(1.0, "-")
    assert f"1 flagged {labels[0]} (33.33%)" in said
    assert f"2 flagged {labels[1]} (66.67%)" in said
    assert said.count(" flagged ") == 3


def test_slices_of_a_batch_give_slices_of_the_result():
    texts = ["a", None, "bb!", "a", "ccc"] * 4
    whole = score_batch(Lengths(), batch_of(texts), text_column="text")
    parts = [score_batch(Lengths(), batch_of(texts).slice(start, 7), text_column="text") for start in (0, 7, 14)]
    assert pa.Table.from_batches(parts).to_pylist() == whole.to_pylist()


def test_the_types_of_texts():
    assert is_text(pa.string())
    assert is_text(pa.dictionary(pa.int32(), pa.large_string()))
    assert not is_text(pa.binary())
    assert not is_text(pa.int64())


def test_the_tally_names_errors_by_kind_with_their_first_rows():
    summary = ScoreSummary(("long", "loud"))
    for texts in (["a!", None], ["b" * 9, " ", "c"]):
        count(summary, score_batch(Lengths(), batch_of(texts), text_column="text"))
        summary.n_new += len(texts)
    text = summary.to_text(2.0, "out.csv")
    assert (summary.n_rows, summary.n_failed) == (5, 2)
    assert "2 no text: rows 2, 4" in text
    assert "2 flagged at all (66.67% of those scored)" in text
    assert "1 flagged long (33.33%)" in text
    assert "2 rows/s" in text or "3 rows/s" in text
    assert text.endswith("out.csv")
