"""What may be handed to the classifier: texts in an order; thresholds of one's own; a bundle or a finished run."""

import collections
import pickle
import types

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from moderation import Classifier, TextResult
from moderation.bundles import SHIPPED, read_bundle
from moderation.errors import ArtifactError, ConfigError, DataError

pytest.importorskip("onnxruntime")
INSULT, KIND = "you are an idiot", "have a nice day"


@pytest.fixture(scope="module")
def classifier():
    with Classifier.load(threads=1) as found:
        yield found


@pytest.mark.parametrize("text", [INSULT, np.str_(INSULT), ""], ids=["plain", "numpy", "empty"])
def test_one_text_gives_one_result(classifier, text):
    result = classifier.classify(text)
    assert isinstance(result, TextResult)
    assert result == classifier.classify([text])[0]


@pytest.mark.parametrize(
    "texts",
    [
        [INSULT, KIND],
        (INSULT, KIND),
        (text for text in (INSULT, KIND)),
        pd.Series([INSULT, KIND], index=[7, 3]),
        np.array([INSULT, KIND]),
        {"a": INSULT, "b": KIND}.values(),
        {INSULT: 1, KIND: 2}.keys(),
        collections.deque([INSULT, KIND]),
    ],
    ids=lambda texts: type(texts).__name__,
)
def test_ordered_texts_give_a_list(classifier, texts):
    assert [bool(result.flagged) for result in classifier.classify(texts)] == [True, False]


@pytest.mark.parametrize(
    ("given", "cure"),
    [
        ({"id": INSULT}, r"texts\.values\(\)"),
        (collections.OrderedDict(a=INSULT), r"texts\.values\(\)"),
        (collections.UserDict(a=INSULT), r"texts\.values\(\)"),
        (types.MappingProxyType({"a": INSULT}), r"texts\.values\(\)"),
        (INSULT.encode(), "decode"),
        (bytearray(b"x"), "decode"),
        (memoryview(b"x"), "decode"),
        ({INSULT, KIND}, "sorted"),
        (frozenset([INSULT]), "sorted"),
        (pd.DataFrame({"id": [1], "comment_text": [INSULT]}), "the column of the texts"),
        (pa.table({"comment_text": [INSULT]}), "the column of the texts"),
        (None, "found NoneType"),
        (7, "found int"),
        (np.array(INSULT), "found ndarray"),
        ([{"text": INSULT}], r"texts\[0\]: found dict"),
        ([INSULT, None], r"texts\[1\]: found NoneType"),
        ([INSULT.encode()], r"texts\[0\]: found bytes"),
    ],
    ids=lambda given: type(given).__name__,
)
@pytest.mark.parametrize("method", ["classify", "probabilities", "read"])
def test_anything_but_texts_in_an_order_is_refused_with_the_cure(classifier, given, cure, method):
    with pytest.raises(DataError, match=cure) as caught:
        getattr(classifier, method)(given)
    assert INSULT not in str(caught.value)


def test_thresholds_may_be_set_and_the_rest_stays(classifier, tmp_path):
    (tmp_path / "t.json").write_text('{"toxic": 0.9999}', encoding="utf-8")
    for given in ({"toxic": 0.9999}, tmp_path / "t.json", str(tmp_path / "t.json")):
        with Classifier.load(threads=1, thresholds=given) as changed:
            assert (classifier.thresholds_from, changed.thresholds_from) == ("bundle", "set")
            assert changed.thresholds_by_label == classifier.thresholds_by_label | {"toxic": 0.9999}
            assert changed.thresholds.tolist() == np.float32([*changed.thresholds_by_label.values()]).tolist()
            before, after = classifier.classify(INSULT), changed.classify(INSULT)
            assert after.probabilities == before.probabilities
            assert set(before.flagged) - set(after.flagged) == {"toxic"}


def test_set_thresholds_travel_to_other_processes():
    with Classifier.load(threads=1, thresholds={"insult": 0.25}) as changed:
        again = pickle.loads(pickle.dumps(changed))
        assert again.thresholds_by_label == changed.thresholds_by_label
        assert again.thresholds_from == "set"
        again.close()


@pytest.mark.parametrize("given", [{"spam": 0.5}, {"toxic": 0}, {"toxic": 2}, {"toxic": True}, {}, [0.5]])
def test_invalid_thresholds_are_refused(given):
    with pytest.raises(ConfigError, match="threshold"):
        Classifier.load(thresholds=given)


def test_a_folder_that_is_neither_a_run_nor_a_bundle_is_named(tmp_path):
    (tmp_path / "run1").mkdir()
    (tmp_path / "run1" / "run.json").write_text("{}", encoding="utf-8")
    (tmp_path / "run1" / "checkpoint_best.pt").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"run\.json: not in the format"):
        Classifier.load(tmp_path / "run1")
    with pytest.raises(ArtifactError, match=r"this is a run folder.*moderation export .*run1 --to run1-bundle"):
        Classifier.load(tmp_path / "run1", backend="onnx")
    with pytest.raises(ArtifactError, match="this is a file; expected the folder of a bundle"):
        Classifier.load(tmp_path / "run1" / "checkpoint_best.pt")
    with pytest.raises(ArtifactError, match="no such folder"):
        Classifier.load(tmp_path / "none")
    with pytest.raises(ArtifactError, match="not a bundle"):
        Classifier.load(tmp_path)


def test_the_shipped_bundle_is_calibrated():
    assert read_bundle(SHIPPED).is_calibrated
