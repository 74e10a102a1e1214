"""The three dialects under bodies that are almost right: never a fault, and every refusal in the dialect's form.

A long run by hand: `MODERATION_FUZZ_S=900 pytest -m slow tests/serving/test_fuzz.py`.
"""

import copy
import itertools
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import quote_from_bytes

import httpx
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.attack_table import Attack
from tests.serving.conftest import Server

LONG_S = int(os.environ.get("MODERATION_FUZZ_S", "900"))
MARK = "zqxmarker"  # in every text
TEXT = f"You {MARK}. Go away!"

SPAN = {"begin": 0, "end": 3, "score": {"value": 0.5, "type": "PROBABILITY"}}

ANALYZE: list[dict[str, Any]] = [
    {"comment": {"text": TEXT}, "requestedAttributes": {"TOXICITY": {}}, "languages": ["en"]},
    {
        "comment": {"text": TEXT, "type": "PLAIN_TEXT"},
        "context": {"entries": [{"text": TEXT, "type": "PLAIN_TEXT"}]},
        "requestedAttributes": {"INSULT": {"scoreType": "PROBABILITY", "scoreThreshold": 0.4}, "THREAT": {}},
        "languages": ["en"],
        "spanAnnotations": True,
        "doNotStore": True,
        "clientToken": "a",
        "sessionId": "b",
        "communityId": "c",
    },
]
SUGGEST: list[dict[str, Any]] = [
    {
        "comment": {"text": TEXT},
        "attributeScores": {"TOXICITY": {"summaryScore": {"value": 1, "type": "PROBABILITY"}}},
        "languages": ["en"],
        "communityId": "c",
        "clientToken": "a",
    },
    {
        "comment": {"text": TEXT},
        "attributeScores": {"INSULT": {"summaryScore": {"value": 0.5}, "spanScores": [SPAN]}},
        "doNotStore": True,
    },
]
MODERATIONS: list[dict[str, Any]] = [
    {"input": TEXT},
    {"input": [TEXT, "kind"], "model": "omni-moderation-latest"},
    {"input": [{"type": "text", "text": TEXT}]},
]
PREDICT: list[dict[str, Any]] = [{"texts": [TEXT, "kind"], "sentences": True}, {"texts": [TEXT]}]
SOME_PATHS = ("/v1alpha1/comments:analyze", "/comments:suggestscore", "/comments%3Aanalyze?alt=json", "/nowhere", "")
ERROR = {"code", "message", "status"}
TARGETS: dict[str, tuple[list[dict[str, Any]], set[str]]] = {
    "/v1/predict": (PREDICT, {"type", "message"}),
    "/v1alpha1/comments:analyze": (ANALYZE, ERROR),
    "/comments:suggestscore": (SUGGEST, ERROR),
    "/batch": (ANALYZE + SUGGEST, ERROR),
    "/$discovery/rest": ([], ERROR),
    "/v1/moderations": (MODERATIONS, {"message", "type", "param", "code"}),
}
ODD = ["", " ", "\0", "\ud800", "\u202e", "é" * 300, "a" * 25_000, "__proto__", "TOXICITY", "it", "1e999"]

SHORTER = {"/batch": 200, "/$discovery/rest": 50}  # what is sent in a short run, where it is not 1,000
names = st.sampled_from(["text", "comment", "input", "model", "type", "client_token", "languages", *ODD]) | st.text()
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([*ODD, 10**400, -1, 2]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


def places(part: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a body with each of its keys."""
    for key in list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ():
        yield part, key
        yield from places(part[key])


@st.composite
def bodies(draw: st.DrawFn, valid: list[dict[str, Any]]) -> bytes:
    """A valid body with a few changes, in its tree and in its bytes."""
    body = copy.deepcopy(draw(st.sampled_from(valid)))
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
        found = list(places(body))
        if not found:
            break
        holder, key = draw(st.sampled_from(found))
        change = draw(st.sampled_from(["replace", "remove", "rename", "wrap"]))
        value = holder.pop(key) if change != "replace" else None
        if change == "replace":
            holder[key] = draw(values)
        elif change != "remove" and isinstance(holder, dict):
            holder[draw(names) if change == "rename" else key] = value if change == "rename" else [value]
    return draw(damaged(json.dumps(body, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")))


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes of which some are others, mostly none."""
    data = bytearray(content)
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


@st.composite
def batches(draw: st.DrawFn) -> bytes:
    """Some parts, each a request that is almost right, with changes around them too."""
    pieces = []
    for body in draw(st.lists(bodies(ANALYZE) | bodies(SUGGEST), min_size=1, max_size=4)):
        method = draw(st.sampled_from(["POST", "POST", "POST", "POST", "GET", "", "post"]))
        line = f"{method} {draw(st.sampled_from([*SOME_PATHS[:3] * 3, *SOME_PATHS]))} HTTP/1.1\r\n"
        lines = draw(
            st.lists(st.sampled_from(["Content-Type: application/json\r\n", "X-A: b\r\n", "\r\n"]), max_size=2)
        )
        head = "--b\r\nContent-Type: application/http\r\nContent-ID: <a + 1>\r\n\r\n"
        pieces.append("".join([head, line, *lines, "\r\n"]).encode() + body + b"\r\n")
    return draw(damaged(b"".join([*pieces, b"--b--\r\n"])))


def ask(client: httpx.Client, path: str, drawn: bytes) -> httpx.Response:
    if path == "/$discovery/rest":
        return client.get(f"{path}?version=v1alpha1&{quote_from_bytes(drawn, safe='=&;+$%')}")
    kind = "multipart/mixed; boundary=b" if path == "/batch" else "application/json"
    return client.post(path, content=drawn, headers={"Content-Type": kind})


def draw_for(path: str) -> st.SearchStrategy[bytes]:
    """What is sent to a path: a body, or a query."""
    if path == "/$discovery/rest":
        return st.binary(max_size=30) | st.sampled_from(
            [b"version=v2", b"version", b"key=a&key=b", b"a=" + b"b" * 5000]
        )
    return batches() if path == "/batch" else bodies(TARGETS[path][0])


def check_parts(answer: httpx.Response) -> Counter[int]:
    """Each part of a batch's answer has a status of its own, and what belongs to it; gives how often each came."""
    statuses: Counter[int] = Counter()
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    parts = list(BytesParser(policy=HTTP).parsebytes(head + answer.content).iter_parts())
    assert parts
    for part in parts:
        status, _, content = part.get_content().decode().partition("\r\n\r\n")
        found = json.loads(content)
        statuses[int(status.split()[1])] += 1
        if int(status.split()[1]) == 200:
            assert found["detectedLanguages"]
        else:
            assert ERROR <= set(found["error"]) <= ERROR | {"details"}
            assert found["error"]["code"] == int(status.split()[1]) < 500
    return statuses


def check(path: str, form: set[str], answer: httpx.Response) -> Counter[int]:
    """Gives the status, or those of a batch's parts."""
    assert answer.status_code == 200 or 400 <= answer.status_code < 500, answer.text
    if path == "/batch" and answer.status_code == 200:
        assert MARK not in answer.text
        return check_parts(answer)
    content = answer.json()
    assert answer.headers["x-model-version"]
    assert MARK not in answer.text and "Traceback" not in answer.text
    if answer.status_code != 200:
        assert form <= set(content["error"]) <= form | {"details"}
        assert content["error"]["message"]
        assert path.startswith("/v1/") or content["error"]["code"] == answer.status_code
    elif path == "/v1/predict":
        assert all(0 <= p <= 1 for result in content["results"] for p in result["probabilities"].values())
    elif path == "/v1/moderations":
        assert all(0 <= score <= 1 for result in content["results"] for score in result["category_scores"].values())
    elif path == "/$discovery/rest":
        assert content["rootUrl"].startswith("http://127.0.0.1:")
    else:
        assert content["detectedLanguages"]
    return Counter([answer.status_code])


def fuzz(server: Server, path: str, n_bodies: int, number: int) -> Counter[int]:
    """Send bodies; how often each status came."""
    form = TARGETS[path][1]
    statuses: Counter[int] = Counter()

    @seed(number)
    @settings(max_examples=n_bodies, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(draw_for(path))
    def send(drawn: bytes) -> None:
        statuses.update(check(path, form, ask(client, path, drawn)))

    with httpx.Client(base_url=server.url, timeout=60) as client:
        send()
    assert not [line for line in list(server.log) if '"fault"' in line or MARK in line]
    return statuses


@pytest.mark.parametrize("path", TARGETS)
@pytest.mark.hostile("requests: fuzz")
def test_bodies_that_are_almost_right(path: str, server: Server, attack: Attack) -> None:
    n_bodies = SHORTER.get(path, 1000)
    if path not in SHORTER:
        for body in TARGETS[path][0]:
            assert httpx.post(server.url + path, json=body).status_code == 200
    statuses: Counter[int] = Counter()
    for number in range(attack.cases(1, 10_000 // n_bodies)):
        statuses += fuzz(server, path, n_bodies, number)
        attack.tried(n_bodies)
    refused = statuses[400] + statuses[404] + statuses[414] + statuses[422]
    assert statuses[200] > n_bodies // 50 and refused > n_bodies // 50, statuses


@pytest.mark.slow
@pytest.mark.timeout(LONG_S + 300)
def test_for_a_long_time(server: Server) -> None:
    end = time.monotonic() + LONG_S
    statuses: Counter[int] = Counter()
    for number in itertools.count(1):
        if time.monotonic() > end:
            break
        for path in TARGETS:
            statuses += fuzz(server, path, 1000, number)
    logging.getLogger(__name__).warning("%d bodies: %s", statuses.total(), dict(statuses))
