"""What clients of the Perspective API send, and what each reads of the answer; the table of them."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from moderation.serving.app import create_app
from tests.serving.conftest import Server
from tests.serving.in_process import ask

ROOT = Path(__file__).parents[3]
RECORDED = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "tests/serving/clients/recorded").glob("*.json"))
}
ANALYZE = "/v1alpha1/comments:analyze"
BODY = {"comment": {"text": "you idiot"}, "requestedAttributes": {"TOXICITY": {}}}


def send(server: Server, request: dict[str, Any], **more: Any) -> httpx.Response:
    body = request["body"]
    content = body if isinstance(body, str) else json.dumps(body | more)
    return httpx.post(server.url + request["path"], content=content.encode(), headers=request["headers"], timeout=60)


def read(content: Any, path: str) -> Any:
    """The value at a path such as `attributeScores.TOXICITY.spanScores.0.begin`."""
    for step in path.split("."):
        content = content[int(step)] if isinstance(content, list) else content[step]
    return content


@pytest.mark.parametrize("client", RECORDED)
def test_a_recorded_request_is_answered_with_what_its_client_reads(client: str, server: Server) -> None:
    assert RECORDED[client]["source"]
    for request in RECORDED[client]["requests"]:
        answer = send(server, request)
        assert answer.status_code == 200, answer.text
        for path in request["reads"]:
            assert isinstance(read(answer.json(), path), str | int | float), path


def test_coral_in_its_other_languages_is_refused_or_scored_by_the_setting(
    server: Server, tiny_bundle: Path, tmp_path: Path
) -> None:
    """Coral takes a refusal for no answer, and publishes the comment."""
    analyze, suggest = RECORDED["coral"]["requests"]
    english, *others = RECORDED["coral"]["languages"]
    assert len(others) == 4
    for language in others:
        assert send(server, analyze, languages=[language]).status_code == 400
        assert send(server, suggest, languages=[language]).status_code == 200  # a decision is no score
    app = create_app(
        tiny_bundle, threads=1, perspective_languages="as-model", feedback_url=f"sqlite:///{tmp_path / 'f.db'}"
    )
    asked = [(request, language) for request in (analyze, suggest) for language in (english, *others)]
    answers = ask(
        app, *[{"url": request["path"], "json": request["body"] | {"languages": [code]}} for request, code in asked]
    )
    assert [answer.status_code for answer in answers] == [200] * len(asked)
    scores = [read(answer.json(), analyze["reads"][0]) for answer in answers[: len(others) + 1]]
    assert scores == scores[:1] * len(scores)
    assert [answer.json()["languages"] for answer in answers[1 : len(others) + 1]] == [[code] for code in others]
    assert [answer.headers.get("X-Model-Language") for answer in answers] == [None, *["en"] * 4, *[None] * 5]


QUERIES = [
    "",
    "?alt=json",
    "?prettyPrint=false&fields=attributeScores",
    "?%24.xgafv=2&quotaUser=me&callback=a",
    "?key=K",
]


def test_additional_parameters_that_googles_servers_accept_change_nothing(server: Server) -> None:
    expected = httpx.post(server.url + ANALYZE, json=BODY).json()
    for query in QUERIES:
        for path in (ANALYZE, ANALYZE.replace(":", "%3A"), ANALYZE.removeprefix("/v1alpha1")):
            answer = httpx.post(server.url + path + query, json=BODY)
            assert (answer.status_code, answer.json()) == (200, expected)
    for body in ({"requested_attributes": {"TOXICITY": {}}, "comment": BODY["comment"]}, BODY | {"languages": []}):
        assert httpx.post(server.url + ANALYZE, json=body).json() == expected
    emoji = BODY | {"comment": {"text": "\N{GRINNING FACE}" * 3}}  # Google answers that it cannot tell the language
    assert httpx.post(server.url + ANALYZE, json=emoji).json()["detectedLanguages"] == ["und"]


@pytest.mark.parametrize("path", [f"{ANALYZE}/", f"/{ANALYZE}", "/v1alpha1//comments:analyze", "/batch/"])
def test_an_address_with_a_slash_too_many_is_refused_in_googles_form(path: str, server: Server) -> None:
    answer = httpx.post(server.url + path, json=BODY)
    assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")


def test_each_test_in_the_table_of_clients_exists() -> None:
    document = (ROOT / "docs/migrating-from-perspective.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|.*\|$", document.split("| client |")[1].split("\n\n")[0], flags=re.MULTILINE)[1:]
    assert len(rows) >= len(RECORDED)
    for row in rows:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            (path,) = (ROOT / "tests").rglob(file)
            assert re.search(rf"^def {test}\(", path.read_text(encoding="utf-8"), flags=re.MULTILINE), test
