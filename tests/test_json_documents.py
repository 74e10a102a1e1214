"""A document: what is written is read again, and what does not fit is named."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from moderation.documents import Document, json_field
from moderation.errors import ArtifactError


@dataclass(frozen=True)
class Score:
    value: float | None
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.value is not None and self.value > 1:
            raise ValueError("value is above 1")


@dataclass(frozen=True)
class Scores:
    kind: Literal["a", "b"]
    labels: tuple[str, ...]
    scores: dict[str, Score]
    n: int = 0
    n_left_out: int = json_field(0, name="n-left-out", optional=True)
    about: Any = json_field(None, optional=True)


DOCUMENT = Document(Scores, "scores as a test writes them", "content-moderation test", 2, "test again")
GOOD = {"kind": "a", "labels": ["toxic"], "scores": {"toxic": {"value": 0.5, "interval": [0, 1]}}}


def test_a_written_document_is_read_again_and_optional_fields_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    scores = Scores("a", ("toxic", "é"), {"toxic": Score(0.5, (0.25, 0.75)), "é": Score(None)}, about={"seed": 1})
    DOCUMENT.write(path, scores)
    assert DOCUMENT.read(path) == scores
    assert json.loads(path.read_text()) == {
        "format": "content-moderation test",
        "version": 2,
        "kind": "a",
        "labels": ["toxic", "é"],
        "scores": {"toxic": {"value": 0.5, "interval": [0.25, 0.75]}, "é": {"value": None, "interval": None}},
        "n": 0,
        "about": {"seed": 1},
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "c"}, "kind is not a | b"),
        ({"labels": "toxic"}, "labels is not a list"),
        ({"labels": ["toxic", 1]}, r"labels\[1\] is not a text"),
        ({"scores": []}, "scores is not an object"),
        ({"scores": {"toxic": {}}}, "scores.toxic.value is missing"),
        ({"scores": {"toxic": {"value": True}}}, "scores.toxic.value is not a number"),
        ({"scores": {"toxic": {"value": float("nan")}}}, "scores.toxic.value is not a number"),
        ({"scores": {"toxic": {"value": 2}}}, "scores.toxic: value is above 1"),
        ({"scores": {"toxic": {"value": 1, "interval": [0]}}}, "scores.toxic.interval is not a list of 2"),
        ({"n-left-out": "many"}, "n-left-out is not a whole number"),
        ({"n": 1.5, "more": 1}, "more is unknown; n is not a whole number"),
        ({"format": "content-moderation run"}, "not in the format 'content-moderation test'"),
        ({"version": 3}, "format version 3, expected 2. Update this program, or test again"),
        ({"version": True}, "format version True"),
        ({"kind\x1b": 1}, r"kind\\u001b is unknown"),
    ],
)
def test_values_that_do_not_fit_are_named_with_the_file(change: dict[str, Any], message: str) -> None:
    content = {"format": DOCUMENT.format, "version": 1} | GOOD | change
    with pytest.raises(ArtifactError, match=f"^here.json: .*{message.replace('|', chr(92) + '|')}"):
        DOCUMENT.parse(content, "here.json")


def test_a_document_may_have_no_version_and_leave_other_names_alone() -> None:
    open_document = Document(Scores, "scores", extra=True)
    assert open_document.parse(GOOD | {"more": 1}, "here.json") == open_document.parse(GOOD, "here.json")


@dataclass(frozen=True)
class Cut:
    value: float


@pytest.mark.parametrize("digits", [309, 400, 4000])
def test_a_number_of_very_many_digits_is_refused_by_name(tmp_path: Path, digits: int) -> None:
    (tmp_path / "a.json").write_text('{"value": 1' + "0" * digits + "}")
    with pytest.raises(ArtifactError, match="value is not a number"):
        Document(Cut, "a cut").read(tmp_path / "a.json")
