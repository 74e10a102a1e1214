"""OpenAI's language, spoken by OpenAI's own client."""

from pathlib import Path

import httpx
import openai
import pytest

from moderation import Classifier
from moderation.categories import CATEGORIES
from tests.serving.conftest import Server


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
        assert result.categories.violence == ("threat" in expected.flagged)
        assert result.categories.harassment == bool({"toxic", "severe_toxic", "insult"} & set(expected.flagged))
        assert not result.categories.sexual
        assert set(result.categories.to_dict()) == set(CATEGORIES)


def test_one_text_and_parts_of_one_text_get_one_result(client: openai.OpenAI) -> None:
    assert len(client.moderations.create(input="you idiot").results) == 1
    parts = client.moderations.create(input=[{"type": "text", "text": "kind"}, {"type": "text", "text": "you idiot"}])
    whole = client.moderations.create(input="kind\n\nyou idiot")
    assert parts.results == whole.results


def test_every_result_says_its_language_and_whether_the_model_knows_it(client: openai.OpenAI) -> None:
    texts = ["The weather in the valley was lovely this morning.", "Das Wetter im Tal war heute Morgen herrlich.", "ok"]

    def languages(given: list[str]) -> list[dict[str, object]]:
        return [result["language"] for result in client.moderations.create(input=given).to_dict()["results"]]  # type: ignore[index]

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
            "input[0].type: not known; expected text, input_text, output_text, image_url, input_image, image.",
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
