"""OpenAI's language, spoken by OpenAI's own client."""

from pathlib import Path

import httpx
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation import Classifier
from moderation.categories import CATEGORIES
from moderation.serving.app import create_app
from moderation.serving.dialects.openai_requests import read_request
from moderation.serving.errors import ApiError
from tests.serving.conftest import Server
from tests.serving.in_process import ask


@pytest.fixture
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0)


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return Classifier.load(tiny_bundle, threads=1)


def test_the_real_client_gets_one_result_per_text(client: openai.OpenAI, classifier: Classifier) -> None:
    texts = ["you idiot kill them", "kind river bread"]
    answer = client.moderations.create(input=texts, model="omni-moderation-latest")
    assert (answer.model, answer.id[:5], len(answer.results)) == ("omni-moderation-latest", "modr-", 2)
    assert answer.to_dict()["model_version"] == classifier.model_version
    assert [result.flagged for result in answer.results] == [bool(it.flagged) for it in classifier.classify(texts)]
    for result, expected in zip(answer.results, classifier.classify(texts), strict=True):
        scores, p = result.category_scores, expected.probabilities
        assert scores.harassment == max(p["toxic"], p["severe_toxic"], p["insult"])
        assert scores.harassment_threatening == scores.violence == p["threat"]
        assert scores.hate == p["identity_hate"]
        assert scores.hate_threatening == min(p["identity_hate"], p["threat"])
        assert scores.sexual == scores.self_harm == scores.illicit == 0.0
        assert result.categories.hate == ("identity_hate" in expected.flagged)
        assert result.categories.violence == ("threat" in expected.flagged)
        assert result.categories.harassment == bool({"toxic", "severe_toxic", "insult"} & set(expected.flagged))
        assert not result.categories.sexual
        assert set(result.categories.to_dict()) == set(CATEGORIES)


def test_one_text_and_parts_of_one_text_get_one_result(client: openai.OpenAI) -> None:
    assert len(client.moderations.create(input="you idiot").results) == 1
    parts = client.moderations.create(input=[{"type": "text", "text": "kind"}, {"type": "text", "text": "you idiot"}])
    whole = client.moderations.create(input="kind\n\nyou idiot")
    assert parts.results == whole.results


def test_every_result_names_its_language_and_whether_the_model_knows_it(client: openai.OpenAI) -> None:
    texts = ["The weather in the valley was lovely this morning.", "Das Wetter im Tal war heute Morgen herrlich.", "ok"]

    def languages(given: list[str]) -> list[dict[str, object]]:
        return [result["language"] for result in client.moderations.create(input=given).to_dict()["results"]]  # type: ignore[attr-defined]

    found = languages(texts)
    assert languages(texts * 4) == found * 4, "many are put together elsewhere"
    assert [language["code"] for language in found[:3]] == ["en", "de", "und"]
    assert [language["supported"] for language in found[:3]] == [True, False, True]


def test_an_image_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.moderations.create(input=[{"type": "image_url", "image_url": {"url": "https://forum.example/a.png"}}])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, 'input: a number; expected a text, a list of texts, or {"type": "text", ...} parts.'),
        (None, 'input: null; expected a text, a list of texts, or {"type": "text", ...} parts.'),
        ([], "input: an empty list; expected one text or more."),
        (["a", 1], 'input[1]: a number; expected a text or a {"type": "text", "text": ...} part.'),
        ([["a"]], 'input[0]: a list; expected a text or a {"type": "text", "text": ...} part.'),
        ([{"type": "text"}], "input[0].text: null; expected a text."),
        (
            {"role": "user", "content": "a"},
            "input[0].type: unknown; expected text, input_text, output_text, image_url, input_image, image.",
        ),
    ],
    ids=str,
)
def test_a_wrong_input_is_one_complaint_that_names_the_place(given: object, message: str, server: Server) -> None:
    answer = httpx.post(f"{server.url}/v1/moderations", json={"input": given})
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": message,
        "type": "invalid_request_error",
        "param": "input",
        "code": "invalid_request",
    }


def test_too_many_texts_are_refused_in_its_own_words(server: Server) -> None:
    answer = httpx.post(f"{server.url}/v1/moderations", json={"input": ["a"] * 257})
    assert answer.status_code == 413
    assert answer.json()["error"] == {
        "message": "257 inputs; expected 256 at most.",
        "type": "invalid_request_error",
        "param": "input",
        "code": "too_many_texts",
    }


def test_the_key_travels_as_the_client_sends_it(keyed_server: tuple[Server, str]) -> None:
    server, key = keyed_server
    good = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
    assert good.moderations.create(input="kind").results
    with pytest.raises(openai.AuthenticationError) as refused:
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0).moderations.create(input="kind")
    assert refused.value.code == "invalid_api_key"


NAMES = ["", "  ", "\u6a21\u578b", "my model", "@cf/meta/llama-guard", "a\0b", "x" * 10_000, None]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: str(name)[:20])
def test_any_model_name_is_accepted_and_echoed_up_to_a_limit(name: str | None, server: Server) -> None:
    answer = httpx.post(f"{server.url}/v1/moderations", json={"input": "kind", "model": name})
    assert answer.status_code == 200
    assert answer.json()["model"] == (name or "text-moderation-latest")[:256]


@pytest.mark.parametrize("name", [5, ["a"], {}, True])
def test_a_model_that_is_not_a_name_is_refused(name: object, server: Server) -> None:
    error = httpx.post(f"{server.url}/v1/moderations", json={"input": "kind", "model": name}).json()["error"]
    assert (error["param"], error["type"]) == ("model", "invalid_request_error")


@pytest.mark.parametrize(
    "given",
    [
        ["kind", {"type": "text", "text": "you idiot"}],
        [{"type": "input_text", "text": "kind"}, {"type": "output_text", "text": "you idiot"}],
        [{"type": "text", "text": "kind", "annotations": []}, "you idiot"],
        {"type": "text", "text": "kind\n\nyou idiot"},
    ],
)
def test_parts_in_other_forms_make_one_text(given: object, server: Server) -> None:
    answer = httpx.post(f"{server.url}/v1/moderations", json={"input": given}).json()
    whole = httpx.post(f"{server.url}/v1/moderations", json={"input": "kind\n\nyou idiot"}).json()
    assert answer["results"] == whole["results"]


HARMLESS = {"user": "u", "metadata": {"a": "b"}, "stream": False, "safety_identifier": "s", "store": None}


def test_fields_without_effect_are_accepted(client: openai.OpenAI) -> None:
    assert client.moderations.create(input="kind", extra_body=HARMLESS).results
    assert client.moderations.create(input="kind", extra_body={"service_tier": "auto", "prompt_cache_key": 5}).results


@pytest.mark.parametrize(
    ("name", "shown"),
    [("temperature", "temperature"), ("You fool, you", "(a name of 13 characters)"), ("é", "(a name")],
)
def test_an_unknown_field_is_named(name: str, shown: str, server: Server) -> None:
    answer = httpx.post(f"{server.url}/v1/moderations", json={"input": "kind", name: 1})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(shown)
    assert "fool" not in answer.text


IMAGE = {"type": "image_url", "image_url": {"url": "https://forum.example/a.png"}}


def test_an_image_next_to_a_text_is_refused_or_counted_but_never_ignored_unnoticed(
    server: Server, tiny_bundle: Path
) -> None:
    mixed = {"url": "/v1/moderations", "json": {"input": ["you idiot", IMAGE, {"type": "input_image"}]}}
    alone = {"url": "/v1/moderations", "json": {"input": [IMAGE]}}
    refused = httpx.post(server.url + mixed["url"], json=mixed["json"])
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input")
    assert refused.json()["error"]["message"].startswith("input[1]: an image")
    answer, without = ask(create_app(tiny_bundle, threads=1, openai_images="ignore"), mixed, alone)
    assert answer.json()["ignored_images"] == 2
    (result,) = answer.json()["results"]
    assert set(map(tuple, result["category_applied_input_types"].values())) == {("text",)}
    assert without.status_code == 400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
parts = st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url", "x"])}, optional={"text": json_values})
inputs = json_values | st.lists(parts | st.text(max_size=8) | json_values, max_size=4)


@settings(max_examples=300, deadline=None)
@given(given=inputs, name=json_values, ignore=st.booleans())
def test_whatever_is_sent_is_read_or_refused(given: object, name: object, ignore: bool) -> None:
    try:
        asked = read_request({"input": given, "model": name}, ignore_images=ignore)
    except ApiError as problem:
        assert (problem.status, problem.param in ("input", "model")) == (400, True)
    else:
        assert asked.texts and all(isinstance(text, str) for text in asked.texts)
