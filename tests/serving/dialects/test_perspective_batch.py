"""Batches, by Google's own client and as bytes."""

import gzip
import hashlib
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from moderation.bundles import SHIPPED
from moderation.errors import ArtifactError
from moderation.serving.app import create_app
from moderation.serving.dialects.perspective import batch as perspective_batch
from moderation.serving.dialects.perspective.batch import MAX_REFUSED_PARTS
from moderation.serving.errors import ApiError
from moderation.serving.feedback.decisions import Decision, OutcomeUnknownError
from moderation.serving.feedback.store import FeedbackStore
from moderation.serving.heavy_requests import HeavyRequests
from moderation.serving.keys import Keys
from tests.attack_table import Attack
from tests.serving.conftest import Server, exchange, started
from tests.serving.in_process import ask

PATHS = ("/batch", "/batch/commentanalyzer/v1alpha1")
KIND = {"Content-Type": "multipart/mixed; boundary=b"}
BODY = {"comment": {"text": "you idiot"}, "requestedAttributes": {"TOXICITY": {}}, "languages": ["en"]}


def build(server: Server, key: str) -> Any:
    discovery = pytest.importorskip("googleapiclient.discovery")
    return discovery.build(
        "commentanalyzer",
        "v1alpha1",
        developerKey=key,
        discoveryServiceUrl=f"{server.url}/$discovery/rest?version=v1alpha1",
        static_discovery=False,
    )


def part(body: Any, target: str = "/v1alpha1/comments:analyze", method: str = "POST", *lines: str) -> str:
    content = body if isinstance(body, str) else json.dumps(body)
    request = "\r\n".join([f"{method} {target} HTTP/1.1", "Content-Type: application/json", *lines, "", content])
    return f"--b\r\nContent-Type: application/http\r\nContent-ID: <a + {target[-9:]}>\r\n\r\n{request}\r\n"


def read(answer: httpx.Response) -> list[tuple[int, Any]]:
    """Status and JSON of each part of an answer."""
    assert answer.status_code == 200, answer.text
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    found = []
    for one in BytesParser(policy=HTTP).parsebytes(head + answer.content).iter_parts():
        text = one.get_content().decode()
        status, _, content = text.partition("\r\n\r\n")
        found.append((int(status.split()[1]), json.loads(content)))
    return found


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the model that the package brings."""
    with started(SHIPPED, tmp_path_factory.mktemp("shipped")) as it:
        yield it


def test_googles_client_gets_each_parts_answer_in_its_callback(shipped: Server) -> None:
    found: dict[str, Any] = {}
    with build(shipped, "any") as client:
        batch = client.new_batch_http_request()
        for name, text in (("rude", "You are a fool."), ("kind", "What a lovely morning it is.")):
            asked = BODY | {"comment": {"text": text}}
            batch.add(
                client.comments().analyze(body=asked),
                callback=lambda name, answer, error: found.update({name: (answer, error)}),
                request_id=name,
            )
        batch.execute()
    assert found.keys() == {"rude", "kind"}
    assert [error for _, error in found.values()] == [None, None]
    scores = {
        name: answer["attributeScores"]["TOXICITY"]["summaryScore"]["value"] for name, (answer, _) in found.items()
    }
    threshold = httpx.get(f"{shipped.url}/v1/model").json()["thresholds"]["toxic"]
    assert scores["rude"] >= threshold > scores["kind"]


def test_a_batch_of_25_with_refusals_in_it(keyed_server: tuple[Server, str]) -> None:
    from googleapiclient.errors import HttpError

    server, key = keyed_server
    answers: list[Any] = []
    with build(server, key) as client:
        batch = client.new_batch_http_request(callback=lambda _, answer, error: answers.append(error or answer))
        for number in range(24):
            languages = ["it"] if number == 7 else ["en"]
            asked = BODY | {"comment": {"text": f"you idiot {number} \N{PILE OF POO}"}, "languages": languages}
            batch.add(client.comments().analyze(body=asked | {"clientToken": str(number), "spanAnnotations": True}))
        decision = {"TOXICITY": {"summaryScore": {"value": 1}}}
        asked = {"comment": {"text": "kind"}, "attributeScores": decision, "clientToken": "24"}
        batch.add(client.comments().suggestscore(body=asked))
        batch.execute()
    assert len(answers) == 25
    refused = answers.pop(7)
    assert isinstance(refused, HttpError) and refused.status_code == 400
    assert refused.reason == "Attribute TOXICITY does not support request languages: it"
    assert [answer["clientToken"] for answer in answers] == [str(n) for n in range(25) if n != 7]
    single = httpx.post(f"{server.url}/comments:analyze?key={key}", json=asked_alone(answers[3]["clientToken"]))
    assert answers[3] == single.json()


def test_modelgauges_annotator_gets_each_score_by_its_index(keyed_server: tuple[Server, str]) -> None:
    """It sends 25 in a batch, whose names are their indices, and takes another error than 429 and 5xx for the end."""
    recorded = json.loads((Path(__file__).parents[1] / "clients/recorded/modelgauge.json").read_text(encoding="utf-8"))
    server, key = keyed_server
    bodies = [recorded["requests"][number % 2]["body"] for number in range(25)]
    answers: list[Any] = [None] * 25

    def keep(name: str, answer: Any, error: Any) -> None:
        answers[int(name)] = error or answer

    with build(server, key) as client:
        batch = client.new_batch_http_request()
        for number, body in enumerate(bodies):
            text = {"text": f"{body['comment']['text']} {number}"}
            batch.add(client.comments().analyze(body=body | {"comment": text}), request_id=str(number), callback=keep)
        batch.execute()
    for body, answer in zip(bodies, answers, strict=True):
        assert answer["attributeScores"].keys() == body["requestedAttributes"].keys()
        assert all(0 <= score["summaryScore"]["value"] <= 1 for score in answer["attributeScores"].values())


def asked_alone(token: str) -> dict[str, Any]:
    text = f"you idiot {token} \N{PILE OF POO}"
    return BODY | {"comment": {"text": text}, "clientToken": token, "spanAnnotations": True}


@pytest.mark.parametrize("path", PATHS)
def test_each_part_has_a_status_of_its_own(path: str, server: Server) -> None:
    parts = [
        part(BODY),
        part("You fool"),
        part(BODY, "/nowhere"),
        part(BODY, method="GET"),
        part(BODY | {"comment": {"text": ""}}),
        part(BODY, "/comments%3Aanalyze"),
        part(BODY, "https://commentanalyzer.googleapis.com/v1alpha1/comments:analyze?key=K"),
        "--b\r\nContent-Type: application/http\r\n\r\nYou fool\r\n",
        part(BODY | {"comment": {"text": "cut \ud83d"}}),
    ]
    answer = httpx.post(server.url + path, content="".join(parts) + "--b--", headers=KIND)
    found = read(answer)
    assert [status for status, _ in found] == [200, 400, 404, 405, 400, 200, 200, 400, 200]
    assert all(content["error"]["code"] == status for status, content in found if status != 200)
    assert "fool" not in answer.text
    assert answer.headers["X-Model-Version"] == found[0][1]["modelVersion"]


def test_parts_bring_their_own_key_or_share_the_batchs(keyed_server: tuple[Server, str]) -> None:
    server, key = keyed_server
    named = [part(BODY, f"/comments:analyze?key={key}"), part(BODY, "/comments:analyze", "POST", f"X-API-Key: {key}")]
    two = part(BODY, f"/comments:analyze?key={key}&key=other")
    content = "".join([*named, part(BODY), part(BODY, "/comments:analyze?key=wrong"), two]) + "--b--"
    without = httpx.post(f"{server.url}/batch", content=content, headers=KIND)
    assert [status for status, _ in read(without)] == [200, 200, 403, 400, 400]
    shared = httpx.post(f"{server.url}/batch?key={key}", content=content, headers=KIND)
    assert [status for status, _ in read(shared)] == [200, 200, 200, 400, 400]
    refused = httpx.post(f"{server.url}/batch?key=wrong", content=content, headers=KIND)
    assert (refused.status_code, refused.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert key not in "".join(server.log)


def test_a_batch_needs_a_key_of_its_own_or_in_its_first_part(keyed_server: tuple[Server, str]) -> None:
    """Whoever has none costs what a request without one costs, however much follows."""
    server, key = keyed_server
    url, keyed = f"{server.url}/batch", part(BODY, f"/comments:analyze?key={key}")
    late, wrong, broken = part(BODY) + keyed, part(BODY, "/comments:analyze?key=wrong") + keyed, "--b\r\n\r\nPOST /\n\n"
    preamble = "a" * 9000 + "\r\n" + keyed
    for content, status in ((late, 403), (wrong, 400), (broken * 540 + keyed, 403), (preamble, 403), ("fool", 403)):
        answer = httpx.post(url, content=content + "--b--", headers=KIND)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)
        assert answer.headers["content-type"] == "application/json"
        assert len(answer.content) < 500 and key not in answer.text
    plain = KIND | {"Content-Encoding": "Identity"}
    assert [status for status, _ in read(httpx.post(url, content=keyed + "--b--", headers=plain))] == [200]
    packed = KIND | {"Content-Encoding": "gzip"}
    zipped = gzip.compress((keyed + "--b--").encode())
    assert httpx.post(url, content=zipped, headers=packed).status_code == 403
    assert [status for status, _ in read(httpx.post(f"{url}?key={key}", content=zipped, headers=packed))] == [200]
    pieces = [(keyed * 40 + "--b--").encode()[i : i + 3000] for i in range(0, len(keyed) * 40 + 5, 3000)]
    for sent in (pieces, [b"", *pieces]):  # in chunks
        assert [status for status, _ in read(httpx.post(url, content=iter(sent), headers=KIND))] == [200] * 40


def test_a_client_without_a_key_is_refused_before_the_body_of_its_batch_arrives(
    keyed_server: tuple[Server, str],
) -> None:
    server, _ = keyed_server
    head = "POST /batch HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Length: 1000000"
    answer = exchange(server, f"{head}\r\nConnection: close\r\n\r\n{part(BODY) * 50}".encode())
    assert answer.status_code == 403


def test_a_content_type_of_any_length_takes_little_work(keyed_server: tuple[Server, str], server: Server) -> None:
    keyed, key = keyed_server
    for kind in (
        'multipart/mixed;"' + ";" * 60_000,
        "multipart/mixed" + ';a="' * 15_000,
        "multipart/mixed; " + "a=b;" * 15_000,
    ):
        for url in (f"{keyed.url}/batch", f"{keyed.url}/batch?key={key}", f"{server.url}/batch"):
            assert httpx.post(url, content="{}", headers={"Content-Type": kind}).status_code == 415
    for url in (f"{keyed.url}/v1/predict?key={key}", f"{server.url}/v1/moderations", f"{server.url}/comments:analyze"):
        kind = 'application/json;"' + ";" * 60_000
        assert httpx.post(url, content="{}", headers={"Content-Type": kind}).status_code == 415


@pytest.mark.parametrize(
    ("bad", "status"),
    [(part(BODY, "/nowhere"), 404), ("--b\r\n\r\nPOST /\n\n", 404), ("--b\r\n\r\nfool\r\n", 400)],
    ids=["nowhere", "tiny", "broken"],
)
def test_many_parts_that_request_nothing_are_refused_at_once(bad: str, status: int, server: Server) -> None:
    few = httpx.post(f"{server.url}/batch", content=bad * MAX_REFUSED_PARTS + part(BODY) + "--b--", headers=KIND)
    assert [status for status, _ in read(few)] == [status] * MAX_REFUSED_PARTS + [200]
    many = (part(BODY) + bad) * 500 + "--b--"
    answer = httpx.post(f"{server.url}/batch", content=many, headers=KIND)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)
    assert len(answer.content) < 500 and "fool" not in answer.text


def test_refused_parts_count_as_requests(tiny_bundle: Path) -> None:
    key = "a-key"
    keys = Keys({name: hashlib.sha256(it.encode()).hexdigest() for name, it in (("forum", key), ("blog", "another"))})
    app = create_app(tiny_bundle, threads=1, keys=keys, rate_limit="4/hour")
    refused = [part(BODY, "/comments:analyze?key=wrong"), part(BODY, "/nowhere"), "--b\r\n\r\nfool\r\n"]
    content = "".join([*refused, *[part(BODY)] * 3]) + "--b--"
    mixed = "".join([part(BODY), part(BODY, f"/comments:analyze?key={key}")] * 5) + "--b--"
    asked = [(key, content), (key, content), ("another", mixed)]
    first, second, third = ask(
        app, *({"url": f"/batch?key={it}", "content": content, "headers": KIND} for it, content in asked)
    )
    assert [status for status, _ in read(first)] == [400, 404, 400, 200, 429, 429]
    assert (second.status_code, second.json()["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert [status for status, _ in read(third)] == [200, 429] * 4 + [429, 429]  # each by its own key


def test_an_unreadable_batch_counts_as_a_request(tiny_bundle: Path) -> None:
    packed = {"content": gzip.compress(bytes(3_000_000)), "headers": KIND | {"Content-Encoding": "gzip"}}
    no_batches = [
        ({"method": "GET"}, 405),
        ({"content": part(BODY) + "--b--", "headers": {"Content-Type": "text/plain"}}, 415),
        ({"content": part(BODY), "headers": KIND}, 400),
        ({"content": part({}) * 1001 + "--b--", "headers": KIND}, 413),
        (packed, 413),
    ]
    app = create_app(tiny_bundle, threads=1, rate_limit=f"{len(no_batches) + 2}/hour")
    batch = {"content": part(BODY) + "--b--", "headers": KIND}
    asked = [*(request for request, _ in no_batches), batch, {"method": "GET"}]
    answers = ask(app, *({"url": "/batch"} | it for it in [*asked, *asked]), {"method": "GET", "url": "/v1/model"})
    statuses = [answer.status_code for answer in answers]
    assert statuses == [*(status for _, status in no_batches), 200, 405, *[429] * len(asked), 429]
    assert int(answers[-2].headers["Retry-After"]) >= 1


@pytest.mark.hostile("rate limit: batches")
@pytest.mark.parametrize("in_url, in_part", [("", ""), ("?key=forum", ""), ("", "?key=forum")])
def test_batches_at_once_do_not_share_the_requests_that_are_left(in_url: str, in_part: str, tiny_bundle: Path) -> None:
    keys = Keys({"forum": hashlib.sha256(b"forum").hexdigest()}) if in_url or in_part else None
    app = create_app(tiny_bundle, threads=1, keys=keys, rate_limit="3/hour")
    endless = {"url": f"/batch{in_url}", "content": part(BODY, f"/comments:analyze{in_part}"), "headers": KIND}
    answers = ask(app, *[endless] * 8, at_once=True)
    assert sorted(answer.status_code for answer in answers) == [400] * 3 + [429] * 5


def test_a_batch_without_a_key_counts_for_the_key_of_its_first_part_or_for_nobody(tiny_bundle: Path) -> None:
    keys = Keys({name: hashlib.sha256(name.encode()).hexdigest() for name in ("forum", "blog")})
    app = create_app(tiny_bundle, threads=1, keys=keys, rate_limit="2/hour")
    stranger = {"content": part(BODY) + "--b--", "headers": KIND}
    forum, blog = (
        {"content": part(BODY, f"/comments:analyze?key={key}"), "headers": KIND} for key in ("forum", "blog")
    )
    whole = blog | {"content": f"{blog['content']}--b--"}
    asked = [stranger] * 3 + [{"method": "GET"}] * 3 + [forum] * 3 + [whole] * 3
    answers = ask(app, *({"url": "/batch"} | it for it in asked))
    assert [answer.status_code for answer in answers] == [403] * 3 + [405] * 3 + [400, 400, 429] + [200, 200, 429]


@pytest.mark.hostile("large bodies: others wait")
def test_a_batch_without_a_key_delays_no_large_request(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, attack: Attack
) -> None:
    """It is refused before it would get to the thread where large requests wait for each other."""
    app = create_app(tiny_bundle, threads=1, keys=Keys({"forum": hashlib.sha256(b"forum").hexdigest()}))
    monkeypatch.setattr(HeavyRequests, "run", None)
    contents = ("", "You fool", part(BODY) * 50, part(BODY, "/comments:analyze?key=wrong"), part(BODY, "/v1/predict"))
    answers = ask(app, *({"url": "/batch", "content": content, "headers": KIND} for content in contents))
    assert [answer.status_code for answer in answers] == [403, 403, 403, 400, 403]
    attack.tried(len(contents))


def test_an_unreadable_batch_is_refused_in_googles_form(server: Server) -> None:
    url = f"{server.url}/batch"
    for kind in ("application/json", "text/plain", "multipart/form-data; boundary=b", ""):
        answer = httpx.post(url, content=part(BODY) + "--b--", headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, 415)
    answer = httpx.post(url, content=b"--b--")
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, 415)
    for content in ("", "You fool", part(BODY), "--b--"):
        answer = httpx.post(url, content=content, headers=KIND)
        assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
        assert "fool" not in answer.text
    answer = httpx.post(url, content=part({}) * 1001 + "--b--", headers=KIND)
    assert (answer.status_code, "1,000" in answer.json()["error"]["message"]) == (413, True)
    assert httpx.get(url).status_code == 405


def test_a_thousand_parts_are_answered_and_each_counts_as_a_request(tiny_bundle: Path) -> None:
    content = "".join(part(BODY | {"comment": {"text": f"kind {n % 50}"}}) for n in range(1000)) + "--b--"
    request = {"url": "/batch", "content": content, "headers": KIND}
    (answer,) = ask(create_app(tiny_bundle, threads=1), request)
    assert [status for status, _ in read(answer)] == [200] * 1000
    few = {"url": "/batch", "content": part(BODY) * 5 + "--b--", "headers": KIND}
    (answer,) = ask(create_app(tiny_bundle, threads=1, rate_limit="3/hour"), few)
    found = read(answer)
    assert [status for status, _ in found] == [200] * 3 + [429] * 2
    assert found[-1][1]["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert "Retry-After: " in answer.text


def test_a_batch_that_cannot_be_computed_in_time_reports_it_in_each_part(tiny_bundle: Path) -> None:
    long = BODY | {"comment": {"text": "idiot " * 3000}}
    content = part(long) * 20 + part(BODY, "/nowhere") + "--b--"
    app = create_app(tiny_bundle, threads=1, timeout_s=0.01)
    (answer,) = ask(app, {"url": "/batch", "content": content, "headers": KIND})
    *statuses, other = [status for status, _ in read(answer)]
    assert set(statuses) <= {413, 429, 504} and other == 404


@pytest.mark.parametrize("how", ["broken", "silent", "slow"])
def test_a_batch_does_not_wait_for_each_decision_that_cannot_be_kept(
    how: str, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def add(store: FeedbackStore, decision: Decision, is_wanted: object) -> None:
        tried.append(decision)
        if how != "slow":
            raise ArtifactError("locked") if how == "broken" else OutcomeUnknownError("no answer")

    monkeypatch.setattr(FeedbackStore, "add", add)
    if how == "slow":
        monkeypatch.setattr(perspective_batch, "_DECIDE_WITHIN_S", 0.0)
    decision = {"comment": {"text": "you idiot"}, "attributeScores": {"TOXICITY": {"summaryScore": {"value": 1}}}}
    parts = [part(decision, "/v1alpha1/comments:suggestscore"), part(BODY)] * 3
    content = "".join([*parts, "--b--\r\n"])
    app = create_app(tiny_bundle, threads=1, feedback_url=f"sqlite:///{tmp_path / 'x.db'}")
    (answer,) = ask(app, {"url": "/batch", "content": content, "headers": KIND})
    assert [status for status, _ in read(answer)] == [504 if how == "silent" else 503, 200, *[503, 200] * 2]
    assert len(tried) == (0 if how == "slow" else 1)


@pytest.mark.hostile("feedback: folder that cannot be looked at")
@pytest.mark.parametrize(("error", "status"), [(PermissionError(13, "zqxmarker"), 503), (ValueError("zqxmarker"), 500)])
def test_a_batch_says_of_each_decision_whether_it_was_stored_whatever_happens_to_the_others(
    error: Exception, status: int, tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.db"
    app = create_app(tiny_bundle, threads=1, feedback_url=f"sqlite:///{path}")
    decision = {"comment": {"text": "you idiot"}, "attributeScores": {"TOXICITY": {"summaryScore": {"value": 1}}}}
    content = part(decision, "/v1alpha1/comments:suggestscore") * 4 + part(BODY) + "--b--\r\n"
    put, n_stored = FeedbackStore._put, 0

    def put_two(store: FeedbackStore, decision: Decision, is_wanted: Any) -> bool:
        nonlocal n_stored
        n_stored += 1
        if n_stored > 2:
            raise error
        return put(store, decision, is_wanted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeedbackStore, "_put", put_two)
        answer, counts = ask(
            app, {"url": "/batch", "content": content, "headers": KIND}, {"method": "GET", "url": "/metrics"}
        )
    assert [found for found, _ in read(answer)] == [200, 200, status, 503, 200]
    assert 'decisions_total{outcome="kept"} 2.0' in counts.text and 'outcome="failed"} 2.0' in counts.text
    assert "zqxmarker" not in caplog.text + answer.text
    with closing(FeedbackStore(f"sqlite:///{path}")) as store:
        assert len(list(store.decisions())) == 2


def test_texts_that_are_too_much_together_are_refused_before_anything_is_made_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of one key; those of another one go on."""

    class Full:
        def check_size(self, texts: list[str]) -> None:
            if len(texts) > 2:
                raise ApiError(413, "too_large", "Too much.")

    monkeypatch.setattr(perspective_batch, "prepare", lambda state, wanted, most: wanted.text)
    body = json.dumps({"comment": {"text": "kind"}, "requestedAttributes": {"TOXICITY": {}}}).encode()
    read = [perspective_batch._Read(str(n), None, caller, False, body) for n, caller in enumerate("aabaa")]
    ready = perspective_batch._prepare_all(state_of_stubs(service=Full()), read, [None] * len(read))
    assert [getattr(part.asked, "status_code", part.asked) for part in ready] == [413, 413, "kind", 413, 413]


def state_of_stubs(**more: Any) -> Any:
    """What a batch needs to be prepared, without a model."""
    nothing = {"check_size": lambda texts: None, "unsupported_attributes": list, "judge": lambda *_: None}
    everything = SimpleNamespace(**nothing, attributes={"TOXICITY": "toxic"}, perspective_missing="refuse")
    names = ("service", "metrics", "counterparts", "dialects", "language_rule", "feedback")
    return SimpleNamespace(**dict.fromkeys(names, everything) | more)


@pytest.mark.hostile("batch: memory")
@pytest.mark.parametrize(
    ("is_decision", "change", "status"),
    [
        (False, {}, None),
        (False, {"dropUnsupportedAttributes": True}, None),
        (False, {"requestedAttributes": {"NOTHING": {}}}, 400),
        (False, {"comment": {"text": ""}}, 400),
        (False, {"fool": 1}, 400),
        (True, {}, None),
        (True, {"attributeScores": {"NOTHING": {"summaryScore": {"value": 1}}}}, 400),
        (True, {"attributeScores": {"TOXICITY": {"summaryScore": {"value": 2}}}}, 400),
    ],
)
def test_what_waits_for_the_answer_of_a_batch_is_small(is_decision: bool, change: Any, status: int | None) -> None:
    """However much was in its parts, and also where they are refused: a traceback would hold all that was read."""
    spans = [{"score": {"value": 1}}] * 200
    more = {"attributeScores": {"TOXICITY": {"summaryScore": {"value": 1}, "spanScores": spans}}}
    asked = {"comment": {"text": "kind"}, "context": {"entries": [{}] * 1000}}
    asked |= (more if is_decision else {"requestedAttributes": {"TOXICITY": {}}}) | change
    read = [perspective_batch._Read(str(n), None, None, is_decision, json.dumps(asked).encode()) for n in range(5)]
    state = state_of_stubs()
    perspective_batch._prepare_all(state, read[:1], [None])  # what is made once is made now
    tracemalloc.start()
    try:
        ready = perspective_batch._prepare_all(state, read[1:], [None] * 4)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [getattr(part.asked, "status_code", None) for part in ready] == [status] * 4
    assert kept < 4 * 30_000


@pytest.mark.hostile("batch: memory")
def test_a_batch_of_too_many_items_is_refused_before_it_is_parsed(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of its parts together; none of them is too much by itself."""
    monkeypatch.setattr(perspective_batch, "_MAX_ITEMS", 300)
    full = part(BODY | {"context": {"entries": [{}] * 30}})
    app = create_app(tiny_bundle, threads=1)
    fine, over = ({"url": "/batch", "content": full * n + "--b--", "headers": KIND} for n in (3, 5))
    answer, refused = ask(app, fine, over)
    assert [status for status, _ in read(answer)] == [200] * 3
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, 413)
    assert "300 at most" in refused.text
