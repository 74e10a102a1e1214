"""A model whose answers one can foresee, and suites in their authors' columns with rows written for these tests."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from moderation.inference.routing import Route
from moderation.inference.windows import Window
from moderation.suites.scorer import Scorer

LABELS = ("insult", "toxic", "threat")
THRESHOLDS = np.array([0.5, 0.5, 0.5], dtype=np.float32)


class WordModel:
    """Flags `toxic` where the word rotten stands, `insult` where fool does; else the surer the longer the text."""

    labels = LABELS
    thresholds = THRESHOLDS
    thresholds_from = "bundle"
    languages = ("en",)
    model_version = "words@0/python"
    bundle = SimpleNamespace(labels=LABELS, version="0" * 64, records={}, files={})

    def __init__(self) -> None:
        self.read: list[str] = []
        self.thresholds_by_label = dict(zip(LABELS, THRESHOLDS.tolist(), strict=True))

    @property
    def models(self) -> list["WordModel"]:
        return [self]

    def route(self, text: str) -> Route:
        return Route()

    def thresholds_of(self, routes: Sequence[Route]) -> np.ndarray:
        return THRESHOLDS

    def windows(self, text: str) -> list[Window]:
        return [Window(tuple(map(ord, text)), 0, len(text))]

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        return self.window_probabilities([window for text in texts for window in self.windows(text)])

    def window_probabilities(self, windows: Sequence[Window]) -> np.ndarray:
        texts = ["".join(map(chr, window.ids)) for window in windows]
        self.read += texts
        rows = []
        for text in texts:
            little = min(len(text), 100) / 1000
            words = text.lower().split()
            rows.append([0.8 if "fool" in words else little, 0.9 if "rotten" in words else little, little])
        return np.array(rows, dtype=np.float32)


@pytest.fixture
def model() -> WordModel:
    return WordModel()


@pytest.fixture
def scorer(model: WordModel) -> Scorer:
    return Scorer(model)


def write(folder: Path, name: str, rows: Sequence[dict[str, object]]) -> Path:
    path = folder / name
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def hatecheck_rows() -> list[dict[str, object]]:
    """Six cases: of four hateful ones three are caught by the word model, of two others one is flagged."""
    cases = [
        ("derog_h", "bakers are rotten", "hateful", "bakers", "general"),
        ("derog_h", "you fool of a baker", "hateful", "bakers", "directed"),
        ("implied_h", "bakers should leave", "hateful", "bakers", "general"),
        ("implied_h", "rotten painters", "hateful", "painters", "general"),
        ("praise_nh", "bakers are lovely", "non-hateful", "bakers", "-"),
        ("object_nh", "a rotten apple", "non-hateful", "", "-"),
    ]
    names = ("functionality", "test_case", "label_gold", "target_ident", "direction")
    return [{"": place} | dict(zip(names, case, strict=True)) for place, case in enumerate(cases)]


@pytest.fixture
def suites(tmp_path: Path) -> dict[str, Path]:
    """A file or folder of each kind, by kind."""
    folder = tmp_path / "mhc"
    folder.mkdir()
    for language in ("german", "french"):
        rows = [
            {"mhc_case_id": f"{language}-{place}"}
            | {key: value for key, value in row.items() if key not in ("", "direction")}
            for place, row in enumerate(hatecheck_rows())
        ]
        write(folder, f"hatecheck_cases_final_{language}.csv.gz", rows)
    terms = ("red", "dark blue")
    sentences = [  # with as many words around the term as the authors' templates have
        ("praise {}", "NOT_BAD", "verb_adj"),
        ("loathe {}", "BAD", "verb_adj"),
        ("we were {}", "NOT_BAD", "am_hate_adj"),
        ("Seeming {} is rotten.", "BAD", "being_adj"),
        ("He was one nice {}", "NOT_BAD", "you_are_adj"),
        ("Ann was the rotten {}", "BAD", "name_adj"),
    ]
    madlibs = [
        {"Text": text.format(term), "Label": label, "Template": template}
        for text, label, template in sentences
        for term in terms
    ]
    madlibs.append({"Text": "What rotten bread", "Label": "BAD", "Template": "you_occupation"})
    spans = [
        {"spans": "[9, 10, 11, 12, 13, 14]", "text": "You are  rotten to me. I leave."},
        {"spans": "[]", "text": "A fine day."},
        {"spans": "[0, 1, 2, 3]", "text": "Fool me not"},
    ]
    jigsaw = [
        {
            "id": f"{place:016x}",
            "comment_text": f"{words} number {place}",
            "toxic": int(bad),
            "insult": int(insult),
            "threat": 0,
        }
        for place, (words, bad, insult) in enumerate(
            [("a rotten idea", 1, 0), ("you fool", 1, 1), ("quite lovely", 0, 0), ("good work", 0, 0)] * 5
        )
    ]
    multilingual = [
        {"id": place, "comment_text": f"{text} {place}", "lang": language, "toxic": toxic}
        for place, (text, language, toxic) in enumerate(
            [("rotten", "es", 1), ("bueno", "es", 0), ("bene", "it", 0)] * 3
        )
    ]
    surge = [{"text": "rotten to the core", "is_toxic": "Toxic"}, {"text": "kind regards", "is_toxic": "Not Toxic"}]
    plain = [{"text": "you fool", "insult": 1}, {"text": "thank you", "insult": 0}]
    return {
        "hatecheck": write(tmp_path, "test_suite_cases.csv", hatecheck_rows()),
        "multilingual-hatecheck": folder,
        "madlibs": write(tmp_path, "madlibs.csv.gz", madlibs),
        "toxic-spans": write(tmp_path, "tsd.csv", spans),
        "jigsaw": write(tmp_path, "jigsaw.csv", jigsaw),
        "evasion": write(tmp_path, "evasion.csv", jigsaw),
        "open": write(tmp_path, "open.csv", [row | {"lang": "de", "source": "posts"} for row in jigsaw]),
        "jigsaw-multilingual": write(tmp_path, "validation.csv", multilingual),
        "surge": write(tmp_path, "surge.csv", surge),
        "binary": write(tmp_path, "plain.csv", plain),
    }
