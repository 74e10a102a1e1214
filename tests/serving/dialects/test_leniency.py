"""Values in the forms that clients of the Perspective API give them, and attributes that a model lacks."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.serving.app import create_app
from moderation.serving.bodies.json_bodies import read_json
from moderation.serving.dialects.perspective.models import (
    AnalyzeCommentRequest,
    SuggestCommentScoreRequest,
    read_message,
)
from moderation.serving.dialects.perspective.routes import to_utf16
from moderation.serving.errors import ApiError
from tests.serving.conftest import Server
from tests.serving.in_process import ask

PATH = "/v1alpha1/comments:analyze"
BODY: dict[str, Any] = {"comment": {"text": "you idiot"}, "requestedAttributes": {"TOXICITY": {}}, "languages": ["en"]}


def analyze(server: Server, **more: Any) -> httpx.Response:
    return httpx.post(server.url + PATH, json=BODY | more, timeout=60)


def read(**more: Any) -> AnalyzeCommentRequest:
    return read_message(AnalyzeCommentRequest, json.dumps(BODY | more).encode())


def attribute(parameters: Any) -> dict[str, Any]:
    return {"requestedAttributes": {"TOXICITY": parameters}}


def comment_of(kind: Any) -> dict[str, Any]:
    return {"comment": {"text": "you idiot", "type": kind}}


FORMS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"languages": "en"}, {"languages": ["en"]}),
    ({"languages": None}, {"languages": None}),
    ({"doNotStore": "true", "spanAnnotations": "False"}, {"doNotStore": True, "spanAnnotations": False}),
    ({"do_not_store": "TRUE", "span_annotations": None}, {"doNotStore": True}),
    ({"clientToken": 12345, "session_id": 0}, {"clientToken": "12345", "sessionId": "0"}),
    ({"communityId": -1}, {"communityId": "-1"}),
    (comment_of(1), comment_of("PLAIN_TEXT")),
    (comment_of("0"), comment_of("TEXT_TYPE_UNSPECIFIED")),
    (comment_of("plain_text"), comment_of("PLAIN_TEXT")),
    (attribute(None), attribute({})),
    (attribute([]), attribute({})),
    (
        attribute({"scoreThreshold": "0.7", "scoreType": 1}),
        attribute({"scoreThreshold": 0.7, "scoreType": "PROBABILITY"}),
    ),
    (attribute({"score_threshold": "-1.5E-3"}), attribute({"scoreThreshold": -0.0015})),
    ({"context": []}, {"context": {}}),
    ({"context": {"entries": {"text": "before"}}}, {"context": {"entries": [{"text": "before"}]}}),
    ({"context": {"articleAndParentComment": []}}, {"context": {"articleAndParentComment": {}}}),
]


@pytest.mark.parametrize(("more", "plain"), FORMS, ids=str)
def test_a_value_in_another_notation_is_accepted(more: dict[str, Any], plain: dict[str, Any], server: Server) -> None:
    assert read(**more) == read(**plain)
    assert analyze(server, **more).status_code == 200


CURL = """{comment: {text: "a: 'b', c: \\"d: e"}, languages: ["en"],
    requestedAttributes: {TOXICITY:{}, INSULT : { score_threshold: 0 }}, doNotStore:true }"""


def test_googles_own_sample_for_curl_is_read_which_has_names_without_quotes(server: Server) -> None:
    asked = read_message(AnalyzeCommentRequest, CURL.encode())
    assert asked.comment.text == "a: 'b', c: \"d: e"
    assert asked.requested_attributes.keys() == {"TOXICITY", "INSULT"}
    answer = httpx.post(server.url + PATH, content=CURL, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "body", ["{comment}", "{comment: text}", "{'comment': {}}", '{a: "b', "{a b: 1}", "a:1", "{" * 9]
)
def test_other_javascript_is_not_accepted_as_json(body: str) -> None:
    with pytest.raises(ApiError) as refused:
        read_message(AnalyzeCommentRequest, body.encode())
    assert refused.value.kind == "invalid_json"


@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True), st.text(max_size=9) | st.integers()))
def test_names_without_quotes_change_no_value(body: dict[str, Any]) -> None:
    bare = "{" + ", ".join(f"{name}: {json.dumps(value)}" for name, value in body.items()) + "}"
    assert read_json(bare.encode(), bare_names=True) == body


@pytest.mark.parametrize("piece", ['"', '\\"', "a", "a ", "a:", "{a:", "$", "\\"])
def test_looking_for_names_takes_time_in_proportion(piece: str) -> None:
    def seconds(n_times: int) -> float:
        body = b"{" + (piece * n_times).encode()
        began = time.process_time()
        with pytest.raises(ApiError):
            read_json(body, bare_names=True)
        return time.process_time() - began

    assert seconds(200_000) < 5, "its square would take minutes"


def test_a_decision_may_be_in_quotes(server: Server) -> None:
    scores = {
        "TOXICITY": {
            "summaryScore": {"value": "0", "type": "1"},
            "spanScores": {"begin": "0", "end": 3.0, "score": {"value": 1}},
        }
    }
    body = {"comment": {"text": "kind"}, "attributeScores": scores, "clientToken": 7, "languages": "en"}
    asked = read_message(SuggestCommentScoreRequest, json.dumps(body).encode())
    (span,) = asked.attribute_scores["TOXICITY"].span_scores or []
    assert (asked.attribute_scores["TOXICITY"].summary_score.value, span.begin, span.end) == (0.0, 0, 3)
    answer = httpx.post(f"{server.url}/v1alpha1/comments:suggestscore", json=body)
    assert answer.json()["clientToken"] == "7"


@pytest.mark.parametrize(
    "more",
    [
        {"doNotStore": "yes"},
        {"spanAnnotations": 1},
        {"languages": 5},
        {"languages": {"en": True}},
        {"comment": ["you idiot"]},
        {"comment": {"text": ["you idiot"]}},
        {"comment": {"text": 5}},
        {"comment": {"text": "a", "type": 2}},
        {"comment": {"text": "a", "type": "HTML"}},
        {"clientToken": 1.5},
        {"clientToken": True},
        {"requestedAttributes": "TOXICITY"},
        {"requestedAttributes": ["TOXICITY"]},
        {"requestedAttributes": {"TOXICITY": {"scoreThreshold": "high"}}},
        {"requestedAttributes": {"TOXICITY": {"scoreThreshold": "NaN"}}},
        {"requestedAttributes": {"TOXICITY": {"scoreThreshold": "1e999"}}},
        {"requestedAttributes": {"TOXICITY": {"scoreThreshold": 10**400}}},
        {"requestedAttributes": {"TOXICITY": {"scoreType": True}}},
    ],
    ids=lambda more: str(more)[:60],
)
def test_any_other_notation_of_a_value_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as refused:
        read(**more)
    assert refused.value.status == 400


@pytest.mark.parametrize("none", [None, {}, []], ids=str)
@pytest.mark.parametrize("name", ["requestedAttributes", "requested_attributes"])
def test_a_request_for_nothing_gets_googles_error(name: str, none: Any, server: Server) -> None:
    body = {"comment": {"text": "kind"}, name: none}
    error = httpx.post(server.url + PATH, json=body).json()["error"]
    assert (error["code"], error["details"][0]["errorType"]) == (400, "NO_REQUESTED_ATTRIBUTES")
    assert error["message"] == "Missing requested_attributes"


MANY = {"TOXICITY": {}, "SEXUALLY_EXPLICIT": {}, "FLIRTATION": {}, "You fool!": {}}


def test_attributes_that_the_model_lacks_are_left_out_and_listed(server: Server) -> None:
    for more in ({}, {"dropUnsupportedAttributes": True}, {"drop_unsupported_attributes": "true"}):
        answer = analyze(server, requestedAttributes=MANY, **more)
        assert answer.status_code == 200
        assert answer.json()["attributeScores"].keys() == {"TOXICITY"}
        assert answer.json()["unsupportedAttributes"] == ["SEXUALLY_EXPLICIT", "FLIRTATION", "(a name of 9 characters)"]
    assert "unsupportedAttributes" not in analyze(server).json()


def test_an_answer_without_scores_is_an_error_since_clients_would_read_a_low_score(server: Server) -> None:
    for more in ({}, {"dropUnsupportedAttributes": True}):
        answer = analyze(server, requestedAttributes={"FLIRTATION": {}}, **more)
        error = answer.json()["error"]
        assert (answer.status_code, error["message"]) == (400, "Unknown requested attribute: FLIRTATION")
        assert error["details"][0]["errorType"] == "INVALID_REQUEST"


def test_missing_attributes_are_an_error_on_request(server: Server, tiny_bundle: Path) -> None:
    answer = analyze(server, requestedAttributes=MANY, dropUnsupportedAttributes=False)
    assert answer.json()["error"]["message"] == "Unknown requested attribute: SEXUALLY_EXPLICIT"
    asked = [
        {"url": PATH, "json": BODY | {"requestedAttributes": MANY} | more}
        for more in ({}, {"dropUnsupportedAttributes": True})
    ]
    refused, dropped = ask(create_app(tiny_bundle, threads=1, perspective_missing="refuse"), *asked)
    assert (refused.status_code, dropped.status_code) == (400, 200)


any_text = st.text(st.characters(exclude_categories=[]), max_size=6)
odd = st.sampled_from(["true", "0.5", "1", "en", "PLAIN_TEXT", 10**400, "1e999"])
some_names = st.text(max_size=6) | st.sampled_from(["text", "value"])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text | odd,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(some_names, inner, max_size=3),
    max_leaves=5,
)
PLACES = [
    ("comment",),
    ("comment", "text"),
    ("comment", "type"),
    ("context",),
    ("context", "entries"),
    ("requestedAttributes",),
    ("requestedAttributes", "TOXICITY"),
    ("requestedAttributes", "TOXICITY", "scoreThreshold"),
    ("requestedAttributes", "TOXICITY", "scoreType"),
    ("languages",),
    *((name,) for name in ("spanAnnotations", "doNotStore", "dropUnsupportedAttributes", "clientToken", "sessionId")),
]


@settings(max_examples=300, deadline=None)
@given(place=st.sampled_from(PLACES), value=anything)
def test_any_value_in_any_field_is_read_or_refused(place: tuple[str, ...], value: Any) -> None:
    body: dict[str, Any] = json.loads(json.dumps(BODY))
    holder = body
    for name in place[:-1]:
        holder = holder.setdefault(name, {})
    holder[place[-1]] = value
    try:
        read_message(AnalyzeCommentRequest, json.dumps(body).encode()).model_dump_json()
    except ApiError as problem:
        assert problem.status == 400 and problem.message


@st.composite
def texts_with_spans(draw: st.DrawFn) -> tuple[str, list[tuple[int, int]]]:
    pieces = draw(
        st.lists(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("😀👩\u200d")), max_size=8)
    )
    text, spans = "", []
    for number, piece in enumerate(pieces):
        spans += [(len(text), len(text) + len(piece))] if number % 3 else []
        text += piece
    return text, spans


@given(texts_with_spans())
def test_offsets_slice_in_utf16_what_they_slice_in_code_points(drawn: tuple[str, list[tuple[int, int]]]) -> None:
    text, spans = drawn
    units = text.encode("utf-16-le")
    for (begin, end), (first, last) in zip(spans, to_utf16(text, spans), strict=True):
        assert units[2 * first : 2 * last].decode("utf-16-le") == text[begin:end]


FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


@pytest.mark.parametrize(
    ("text", "spans", "whole"),
    [
        ("😀😀 Nice day. You fool!", [(0, 14), (15, 24)], (0, 24)),
        (f"{FAMILY} Nice day. You fool!", [(0, 18), (19, 28)], (0, 28)),
        ("Nice 😀 day. You fool 😀", [(0, 12), (13, 24)], (0, 24)),
        ("Ni\u0301ce day. You fool!", [(0, 10), (11, 20)], (0, 20)),
        ("cut \ufffd. You fool!", [(0, 6), (7, 16)], (0, 16)),
    ],
)
def test_spans_count_utf16_units(
    text: str, spans: list[tuple[int, int]], whole: tuple[int, int], server: Server
) -> None:
    def offsets(**more: Any) -> list[tuple[int, int]]:
        scores = analyze(server, comment={"text": text}, **more).json()["attributeScores"]["TOXICITY"]
        return [(span["begin"], span["end"]) for span in scores["spanScores"]]

    assert offsets(spanAnnotations=True) == spans
    assert offsets() == [whole]


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999"])
@pytest.mark.parametrize("bare_names", [False, True])
def test_a_constant_that_is_not_a_json_number_is_refused_wherever_it_is(number: bytes, bare_names: bool) -> None:
    with pytest.raises(ApiError) as refused:
        read_json(b'{"input": "kind", "user": [' + number + b"]}", bare_names=bare_names)
    assert (refused.value.status, refused.value.kind) == (400, "invalid_json")
    assert read_json(b'{"a": 1, "a": 2}') == {"a": 2}, "as before: a field that stands twice"
