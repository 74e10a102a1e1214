"""Bodies as clients send them: without a type, of another type, in another charset, packed, cut inside an emoji."""

import gzip
import json
import zlib
from typing import Any

import httpx
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from moderation.serving.bodies.json_bodies import read_json
from tests.serving.conftest import Server

ANALYZE = {
    "comment": {"text": "what a nice day it is today"},
    "languages": ["en"],
    "requestedAttributes": {"TOXICITY": {}},
}
SUGGEST = {"comment": {"text": "kind"}, "attributeScores": {"TOXICITY": {"summaryScore": {"value": 0}}}}
FOREIGN = {
    "/v1alpha1/comments:analyze": ANALYZE,
    "/comments:analyze": ANALYZE,
    "/v1alpha1/comments:suggestscore": SUGGEST,
    "/v1/moderations": {"input": "kind"},
}
ALL = FOREIGN | {"/v1/predict": {"texts": ["kind"]}}


def send(url: str, body: Any, **headers: str) -> httpx.Response:
    """Send a body with these headers and no Content-Type but one that is named here."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(url, content=content, headers=headers, timeout=60)


def message(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["message"])


@pytest.mark.parametrize("path", ALL)
def test_a_body_without_a_type_is_json(path: str, server: Server) -> None:
    assert send(server.url + path, ALL[path]).status_code == 200
    assert send(server.url + path, ALL[path], **{"Content-Type": ""}).status_code == 200


def test_googles_own_sample_for_python_is_answered(server: Server) -> None:
    """It hands requests a string, which then names no type."""
    url = f"{server.url}/v1alpha1/comments:analyze"
    answer = requests.post(url=url, params={"key": "K"}, data=json.dumps(ANALYZE), timeout=60)
    assert "Content-Type" not in answer.request.headers
    assert answer.json()["attributeScores"]["TOXICITY"]["spanScores"][0]["end"] == len("what a nice day it is today")


@pytest.mark.parametrize("kind", ["text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("path", FOREIGN)
def test_plain_text_and_forms_need_a_key(
    path: str, kind: str, server: Server, keyed_server: tuple[Server, str]
) -> None:
    keyed, key = keyed_server
    for sent in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}, {"X-Goog-Api-Key": key}):
        assert send(keyed.url + path, FOREIGN[path], **{"Content-Type": kind}, **sent).status_code == 200
    assert send(f"{keyed.url}{path}?key={key}", FOREIGN[path], **{"Content-Type": kind}).status_code == 200
    for url in (server.url + path, f"{server.url}{path}?key=any"):
        answer = send(url, FOREIGN[path], **{"Content-Type": kind})
        assert answer.status_code == 415
        assert "any web page could send it" in message(answer)
    assert send(keyed.url + path, FOREIGN[path], **{"Content-Type": kind}).status_code in (401, 403)


def test_the_content_of_a_form_must_be_json_too(keyed_server: tuple[Server, str]) -> None:
    server, key = keyed_server
    answer = httpx.post(f"{server.url}/v1/moderations?key={key}", data={"input": "kind"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def test_a_page_of_another_origin_cannot_omit_the_type(server: Server, keyed_server: tuple[Server, str]) -> None:
    keyed, key = keyed_server
    host = server.url.removeprefix("http://")
    evil = {"Origin": "https://evil.example"}
    for path, body in ALL.items():
        answer = send(server.url + path, body, **evil)
        assert (answer.status_code, "any web page" in message(answer)) == (415, True)
        assert send(server.url + path, body, **evil, **{"Content-Type": "application/json"}).status_code == 200
        assert send(server.url + path, body, Origin=f"http://{host}").status_code == 200
        assert send(server.url + path, body, Origin="null").status_code == 415
        assert send(f"{keyed.url}{path}?key={key}", body, **evil).status_code == 200


@pytest.mark.parametrize(
    "kind", ["text/json", "application/ld+json", "APPLICATION/JSON", "application/json;charset=utf8"]
)
@pytest.mark.parametrize("path", ALL)
def test_other_names_of_json_are_json(path: str, kind: str, server: Server) -> None:
    assert send(server.url + path, ALL[path], **{"Content-Type": kind}).status_code == 200


@pytest.mark.parametrize("charset", ["utf-16", "latin1", "ISO-8859-1", '"windows-1252"', "x-you-fool"])
@pytest.mark.parametrize("path", ALL)
def test_another_charset_is_refused_by_name(path: str, charset: str, server: Server) -> None:
    answer = send(server.url + path, ALL[path], **{"Content-Type": f"application/json; charset={charset}"})
    assert (answer.status_code, "UTF-8" in message(answer), "fool" in answer.text) == (415, True, False)


@pytest.mark.parametrize("path", ALL)
def test_a_packed_body_is_unpacked(path: str, server: Server) -> None:
    body = json.dumps(ALL[path]).encode()
    two_members = gzip.compress(body[:10]) + gzip.compress(body[10:])
    for packed in (gzip.compress(body), two_members, gzip.compress(body) + gzip.compress(b"  ")):
        for name in ("gzip", "GZIP", "x-gzip"):
            assert send(server.url + path, packed, **{"Content-Encoding": name}).status_code == 200
    pieces = [gzip.compress(body)[i : i + 7] for i in range(0, len(gzip.compress(body)), 7)]
    assert httpx.post(server.url + path, content=iter(pieces), headers={"Content-Encoding": "gzip"}).status_code == 200


def test_a_bomb_is_refused_before_it_goes_off(server: Server) -> None:
    url = f"{server.url}/v1/moderations"
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b" " * 10_000_000) for _ in range(30)) + packer.flush()
    just = gzip.compress(b'{"input": "' + b"a" * (2_000_000 - 13) + b'"}')
    assert len(bomb) < 300_000
    for packed, status in ((bomb, 413), (gzip.compress(b" " * 2_000_001), 413), (just, 200)):
        assert send(url, packed, **{"Content-Encoding": "gzip"}).status_code == status
    empty = repeated(gzip.compress(b""), 2_000_000 // 20)
    assert httpx.post(url, content=empty, headers={"Content-Encoding": "gzip"}).status_code in (400, 413)


def repeated(piece: bytes, times: int) -> Any:
    """In pieces of some size, so that not each is a chunk of its own."""
    yield from [piece * 1000] * (times // 1000)


@pytest.mark.parametrize(
    "packed",
    [b'{"input": "fool"}', gzip.compress(b'{"input": "fool"}')[:-4], b"\x1f\x8b fool", gzip.compress(b"a") + b"fool"],
    ids=["plain", "cut short", "two bytes of it", "something behind it"],  # the packed bytes hold the time
)
def test_a_body_that_is_not_gzip_is_reported(packed: bytes, server: Server) -> None:
    answer = send(f"{server.url}/v1/moderations", packed, **{"Content-Encoding": "gzip"})
    assert (answer.status_code, "gzip" in message(answer), "fool" in answer.text) == (400, True, False)


HALVES = [r"cut here \ud83d", r"\ude00 cut", r"a \uD83D b \udE00 c", r"\ud83d\ud83d\ude00", r"\\ud83d", r"\\\ud83d"]
WHOLE = ["cut here \ufffd", "\ufffd cut", "a \ufffd b \ufffd c", "\ufffd\N{GRINNING FACE}", r"\ud83d", "\\\ufffd"]


@pytest.mark.parametrize(("half", "whole"), list(zip(HALVES, WHOLE, strict=True)))
def test_half_an_emoji_is_read_as_a_replacement_character(half: str, whole: str, server: Server) -> None:
    assert read_json(f'"{half}"'.encode()) == whole

    def same(path: str, body: dict[str, Any]) -> bool:
        content = json.dumps(body).replace("TEXT", half).encode()
        readable = json.dumps(body).replace("TEXT", json.dumps(whole)[1:-1]).encode()
        found = [send(server.url + path, sent) for sent in (content, readable)]
        assert [answer.status_code for answer in found] == [200, 200]
        results = [answer.json().get("results") or answer.json()["attributeScores"] for answer in found]
        return bool(results[0] == results[1])

    assert same("/v1/predict", {"texts": ["TEXT", "kind"]})
    assert same("/v1/moderations", {"input": ["TEXT", "kind"], "user": "TEXT"})
    assert same("/v1alpha1/comments:analyze", ANALYZE | {"comment": {"text": "TEXT"}, "clientToken": "TEXT"})


@given(st.text(st.characters(exclude_categories=[]), max_size=20))
def test_every_text_that_json_can_hold_is_read_as_unicode(text: str) -> None:
    found = read_json(json.dumps(text).encode())
    found.encode()
    assert found == text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@given(st.text(max_size=20), st.booleans())
def test_a_text_without_halves_is_read_as_json_reads_it(text: str, as_ascii: bool) -> None:
    assert read_json(json.dumps({text: text}, ensure_ascii=as_ascii).encode()) == {text: text}
