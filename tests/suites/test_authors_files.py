"""The files as their authors publish them, where the licensed data is to be had: every row is read and understood."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from moderation.data.cleaning import PLAIN_FORM
from moderation.labels import JIGSAW_LABELS
from moderation.suites.registry import KINDS, Suite, find_kind

FILES = {
    "hatecheck": ("hatecheck/test_suite_cases.csv", 3728),
    "multilingual-hatecheck": ("multilingual-hatecheck", 18489),
    "madlibs": ("bias-madlibs/bias_madlibs_77k.csv.gz", 76564),
    "toxic-spans": ("toxic-spans/tsd_test.csv.gz", 2000),
    "surge": ("surge-toxicity/toxicity_en.csv", 1000),
    "jigsaw-multilingual": ("jigsaw/multilingual_validation.csv.gz", 8000),
}
BUNDLE = SimpleNamespace(labels=JIGSAW_LABELS, records={})


@pytest.mark.parametrize("kind", FILES)
def test_every_row_is_understood(kind: str, shared: Path) -> None:
    name, n_rows = FILES[kind]
    path = shared / "data" / name
    assert find_kind(Suite("it", path), BUNDLE).name == kind
    frame = KINDS[kind].read(path, BUNDLE, PLAIN_FORM)
    assert len(frame) == n_rows
    if kind == "hatecheck":
        assert frame["functionality"].nunique() == 29
        assert frame["hateful"].sum() == 2563
    if kind == "multilingual-hatecheck":
        assert set(frame["language"]) == {"french", "german", "italian", "portuguese", "spanish"}
    if kind == "madlibs":
        counts = frame["term"][frame["term"] != ""].value_counts()
        assert (len(counts), set(counts)) == (50, {1514})  # as often as every other one
    if kind == "toxic-spans":
        assert sum(not spans for spans in frame["spans"]) == 394
