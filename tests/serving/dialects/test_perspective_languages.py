"""Languages that a request names or a text is in: what is scored, what is refused, what is said and counted of it."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.config import ServeConfig
from moderation.data.languages import Languages
from moderation.errors import ConfigError
from moderation.language_codes import same_language
from moderation.options import build
from moderation.serving.app import create_app
from moderation.serving.dialects.perspective.languages import ISO_639_1, LanguageRule
from moderation.serving.dialects.perspective.models import PerspectiveProblem
from moderation.serving.metrics import Metrics
from tests.serving.in_process import ask

PATH = "/v1alpha1/comments:analyze"
ITALIAN = "Questa frase non dice niente di cattivo, ma la lingua non fa parte di quelle che il modello conosce."
GEORGIAN = "ეს წინადადება ცუდს არაფერს ამბობს, მაგრამ მოდელმა ეს ენა სრულიად არ იცის და ვერ წაიკითხავს."


def asking(languages: list[str] | None, text: str = "you idiot") -> dict[str, Any]:
    return {"comment": {"text": text}, "requestedAttributes": {"TOXICITY": {}}, "languages": languages}


def counted(metrics: str) -> dict[tuple[str, str], int]:
    """How often each language had each outcome."""
    lines = re.findall(
        r'^moderation_languages_total\{language="(.*)",outcome="(.*)"\} (\d+)\.0$', metrics, re.MULTILINE
    )
    return {(language, outcome): int(times) for language, outcome, times in lines}


SCORED = [["en"], ["EN-gb"], ["en_US"], ["en", "it"], ["es", "en-AU"], ["You fool!", "en"], None]
FOREIGN = [["You fool!", "es"], ["fr"], ["pt-BR"], ["fr", "de"], ["xq"], ["klingon"], ["hi-Latn"]]
NONE = [["You fool!"], [""], ["e"], ["es,fr"]]


def batch(*asked: list[str]) -> dict[str, Any]:
    """A request of several parts."""
    head = f"--b\r\nContent-Type: application/http\r\n\r\nPOST {PATH} HTTP/1.1\r\n\r\n"
    parts = [f"{head}{json.dumps(asking(languages))}\r\n" for languages in asked]
    headers = {"Content-Type": "multipart/mixed; boundary=b"}
    return {"url": "/batch", "content": "".join([*parts, "--b--"]), "headers": headers}


@pytest.mark.parametrize("otherwise", ["refuse", "as-model"])
def test_one_language_of_the_model_is_enough_and_the_setting_decides_about_others(
    otherwise: str, tiny_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(tiny_bundle, threads=1, perspective_languages=otherwise)
    bodies = [asking(languages) for languages in [*SCORED, *FOREIGN, *NONE]]
    bodies += [asking(None, ITALIAN), asking(None, GEORGIAN), asking(["es"])]
    with caplog.at_level(logging.WARNING):
        *answers, together, document, metrics = ask(
            app,
            *[{"url": PATH, "json": body} for body in bodies],
            batch(["en"], ["es"], ["You fool!"], ["fr"]),
            {"method": "GET", "url": "/openapi.json"},
            {"method": "GET", "url": "/metrics"},
        )
    scored, others, none = answers[:7], [*answers[7:14], *answers[18:]], answers[14:18]
    assert [answer.status_code for answer in scored] == [200] * 7
    assert [answer.json()["languages"] for answer in scored] == [languages or ["en"] for languages in SCORED]
    assert not [answer for answer in scored + none if "X-Model-Language" in answer.headers]
    assert [answer.status_code for answer in none] == [400] * 4
    assert "fool" not in "".join(answer.text for answer in none)
    lines = re.findall(r"HTTP/1\.1 (\d+)|X-Model-Language: (\w+)", together.text)
    if otherwise == "as-model":
        named = [answer.json()["languages"] for answer in others]
        assert named == [*FOREIGN, ["it"], ["ka"], ["es"]]
        assert {answer.headers["X-Model-Language"] for answer in others} == {"en"}
        assert others[0].json()["attributeScores"] == scored[0].json()["attributeScores"]
        assert lines == [("200", ""), ("200", ""), ("", "en"), ("400", ""), ("200", ""), ("", "en")]
    else:
        assert [answer.status_code for answer in others] == [400] * len(others)
        assert lines == [("200", ""), ("400", ""), ("400", ""), ("400", "")]
    assert ("^([eE][nN])" in document.text) == (otherwise == "refuse")
    outcome = "as_model" if otherwise == "as-model" else "refused"
    expected = {("en", "scored"): 8, ("es", outcome): 3, ("fr", outcome): 3}
    expected |= {(language, outcome): 1 for language in ("pt", "hi", "it", "ka")}
    found = counted(metrics.text)
    n_other = found.pop(("other", outcome)) + (found.pop(("other", "refused")) if outcome == "as_model" else 0)
    assert (found, n_other) == (expected, 2 + len(NONE) + 1)  # xq and klingon; one is in the batch
    warned = [vars(record)["language"] for record in caplog.records if "that the model does not read" in record.message]
    named = [language for language, what in found if what == outcome]
    assert sorted(warned) == sorted([*named, "other", *(["other"] if outcome == "as_model" else [])])
    assert "fool" not in caplog.text + metrics.text


DETECTOR, METRICS = Languages("test", "serve"), Metrics()


def rule(*known: str, otherwise: str = "as-model") -> LanguageRule:
    return LanguageRule(DETECTOR, known, otherwise, METRICS)


@pytest.mark.parametrize(
    ("known", "asked", "read"),
    [
        (("pt-BR",), "pt", True),
        (("pt-BR",), "pt-br", True),
        (("pt-BR",), "pt-PT", False),
        (("en", "de"), "de-AT", True),
        (("en", "de"), "den", False),
        (("EN",), "en", True),
        (("en",), " en\n", True),
        (("en",), "\uff45\uff4e", False),
        (("zh-Hans",), "zh-TW", False),
        ((), "xx", True),
    ],
)
def test_names_are_compared_by_their_shared_parts(known: tuple[str, ...], asked: str, read: bool) -> None:
    if read:
        found = rule(*known, otherwise="refuse").judge("kind", [asked], "TOXICITY")
        assert (found.foreign_to, found.label) == (None, asked.strip()[:2] if asked != "xx" else "other")
    else:
        with pytest.raises(PerspectiveProblem):
            rule(*known, otherwise="refuse").judge("kind", [asked], "TOXICITY")


def test_a_model_of_a_regional_language_reads_texts_in_it() -> None:
    assert rule("it-CH", otherwise="refuse").judge(ITALIAN, None, "TOXICITY").named == ["it"]
    assert DETECTOR.describe(ITALIAN, ("it-CH",)) == {"code": "it", "supported": True}


@given(
    st.lists(st.text(max_size=6) | st.from_regex(r"[a-zA-Z]{1,9}([-_][a-zA-Z0-9]{1,8})?", fullmatch=True), min_size=1)
)
def test_only_languages_and_other_are_counted_whatever_is_requested(codes: list[str]) -> None:
    one = rule("en", "fil")
    try:
        assert one.judge("kind", codes, "TOXICITY").label in ISO_639_1 | {"fil", "other"}
    except PerspectiveProblem as problem:
        assert problem.details[0]["errorType"] == "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE"


@given(st.sampled_from(["en", "pt-BR", "zh_Hant_TW"]), st.text(max_size=8))
def test_languages_are_the_same_in_both_directions(one: str, other: str) -> None:
    assert same_language(one, other) == same_language(other, one)
    assert same_language(one, one.swapcase().replace("_", "-"))


def test_another_value_of_the_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--perspective-languages is accept, expected refuse \| as-model"):
        build(ServeConfig, {"perspective_languages": "accept"})
