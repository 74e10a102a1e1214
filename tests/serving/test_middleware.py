"""Who is let in: keys in three places, a rate for each, refusal to listen to strangers, origins by name."""

import dataclasses
import hashlib
import json
import re
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from moderation import Classifier, cli
from moderation.bundles import read_bundle, write_manifest
from moderation.serving.app import create_app
from moderation.serving.keys import Keys
from tests.serving.conftest import Server, add_key, exchange, started, wait_until
from tests.serving.in_process import ask
from tests.serving.test_hostile import NATIVE, OPENAI, PERSPECTIVE, check_refused

BODY = {"texts": ["kind"]}


@pytest.mark.hostile("keys: forms, paths and methods without one")
def test_a_key_may_come_in_three_ways(keyed_server: tuple[Server, str]) -> None:
    server, key = keyed_server
    url = f"{server.url}/v1/predict"
    for headers, query in (({"Authorization": f"Bearer {key}"}, ""), ({"X-API-Key": key}, ""), ({}, f"?key={key}")):
        assert httpx.post(url + query, json=BODY, headers=headers).status_code == 200


@pytest.mark.parametrize("name", ["X-API-Key", "x-goog-api-key", "Authorization"])
@pytest.mark.hostile("keys: forms, paths and methods without one")
def test_spaces_around_a_key_do_not_belong_to_it_and_two_keys_are_refused(
    name: str, keyed_server: tuple[Server, str]
) -> None:
    server, key = keyed_server
    said = f"Bearer {key}" if name == "Authorization" else key
    for lines, status in (
        ([f"{name}: \t {said} \t "], 200),
        ([f"{name}: {said}", f"{name}: {said}"], 200),
        ([f"{name}: {said}", f"{name}: {said}x"], 401),
        ([f"{name}: {said}x", f"{name}: {said}"], 401),
    ):
        first = ["GET /v1/model HTTP/1.1", "Host: x", "Connection: close"]
        assert exchange(server, "\r\n".join([*first, *lines, "", ""]).encode()).status_code == status


@pytest.mark.hostile("keys: forms, paths and methods without one")
def test_two_keys_in_a_url_are_refused(keyed_server: tuple[Server, str]) -> None:
    server, key = keyed_server
    for query, status in (
        (f"key={key}&key={key}", 200),
        (f"key={key}&key={key}x", 401),
        (f"key=x&a=b&%6bey={key}", 401),
        (f"key=&key={key}", 401),
        (f"key={key}&key", 401),
    ):
        assert httpx.get(f"{server.url}/v1/model?{query}").status_code == status, query
    both = {"X-API-Key": key}
    assert httpx.get(f"{server.url}/v1/model?key={key}&key=x", headers=both).status_code == 401


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/model", "/v1/moderations", "/metrics", "/nowhere", "/v1alpha1/x"])
@pytest.mark.hostile("keys: forms, paths and methods without one")
def test_without_a_key_everything_is_closed_but_harmless_paths(path: str, keyed_server: tuple[Server, str]) -> None:
    server, key = keyed_server
    for given in ({}, {"X-API-Key": "wrong"}, {"X-API-Key": key[:-1]}):
        assert httpx.get(server.url + path, headers=given).status_code in (401, 403, 400)
    for path in ("/", "/livez", "/readyz", "/openapi.json", "/$discovery/rest?version=v1alpha1"):
        assert httpx.get(server.url + path).status_code == 200


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_a_fault_of_the_bundle_is_logged_with_its_cure(
    large: bool, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client learns the id of the line alone; nobody learns the text."""
    monkeypatch.setattr(Classifier, "window_probabilities", lambda self, windows: np.full((len(windows), 6), np.nan))
    app = create_app(tiny_bundle, threads=1, cache_texts=0)
    bodies = [
        (dialect, dialect.around("zqxmarker " * (1200 if large else 1))) for dialect in (NATIVE, OPENAI, PERSPECTIVE)
    ]
    answers = ask(app, *({"url": dialect.path, "json": body} for dialect, body in bodies))
    for (dialect, _), answer in zip(bodies, answers, strict=True):
        check_refused(dialect, answer, 500)
    faults = [record.__dict__ for record in caplog.records if record.msg == "fault"]
    assert len(faults) == 3
    for fault in faults:
        assert fault["error"].endswith("is not a number. See: moderation verify") and "trace" not in fault
        assert any(fault["request_id"] in answer.text for answer in answers)
    assert "zqxmarker" not in str([record.__dict__ for record in caplog.records])


def test_parts_of_a_batch_find_in_the_cache_only_what_their_own_keys_sent(tiny_bundle: Path) -> None:
    keys = {"forum": "f" * 43, "blog": "b" * 43}
    hashes = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in keys.items()}
    content = json.dumps({"comment": {"text": "asked by one"}, "requestedAttributes": {"TOXICITY": {}}})

    def batch(*names: str) -> dict[str, Any]:
        kind = "--b\r\nContent-Type: application/http\r\n\r\n"
        heads = (f"POST /comments:analyze?key={keys[name]} HTTP/1.1\r\n\r\n" for name in names)
        named = (content[:-1] + f', "clientToken": "{name}"}}' for name in names)
        body = "".join(f"{kind}{head}{one}\r\n" for head, one in zip(heads, named, strict=True)) + "--b--"
        return {"url": "/batch", "content": body, "headers": {"Content-Type": "multipart/mixed; boundary=b"}}

    metrics = {"method": "GET", "url": f"/metrics?key={keys['blog']}"}
    analyze = {"url": f"/comments:analyze?key={keys['blog']}", "json": json.loads(content)}
    app = create_app(tiny_bundle, threads=1, keys=Keys(hashes))
    *_, last = answers = ask(app, batch("forum"), batch("forum", "blog", "forum"), analyze, metrics)
    assert [answer.status_code for answer in answers] == [200] * 4
    assert all("HTTP/1.1 200" in answer.text for answer in answers[:2])
    assert re.findall(r'"clientToken": ?"(\w+)"', answers[1].text) == ["forum", "blog", "forum"]
    assert "moderation_cache_hits_total 3.0" in last.text
    assert "moderation_cache_misses_total 2.0" in last.text


def test_the_query_of_a_url_has_a_limit(keyed_server: tuple[Server, str]) -> None:
    server, key = keyed_server
    for path in ("/livez", "/v1/model", "/v1alpha1/x"):
        answer = httpx.get(f"{server.url}{path}?{'a=b&' * 1100}key={key}")
        assert answer.status_code == 414
        assert "4,096 bytes" in answer.json()["error"]["message"]
    assert httpx.get(f"{server.url}/v1/model?{'a=b&' * 900}key={key}").status_code == 200


@pytest.mark.hostile("keys: forms, paths and methods without one")
def test_the_log_names_the_key_and_never_holds_it(keyed_server: tuple[Server, str]) -> None:
    server, key = keyed_server
    mark = {"X-Request-Id": "with-a-key"}
    httpx.post(f"{server.url}/v1/predict?key={key}", json=BODY, headers=mark)
    (line,) = [line for line in server.lines() if line.get("request_id") == "with-a-key"]
    assert (line["key"], line["route"]) == ("forum", "/v1/predict")
    assert key not in "".join(server.log)


def test_each_has_a_rate(tiny_bundle: Path) -> None:
    asked = {"url": "/v1/predict", "json": BODY}
    app = create_app(tiny_bundle, threads=1, rate_limit="5/minute")
    *answers, alive = ask(app, *[asked] * 7, {"method": "GET", "url": "/livez"})
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert answers[-1].json()["error"]["type"] == "rate_limited"
    wait_s = int(answers[-1].headers["Retry-After"])
    assert 1 <= wait_s <= 72, "the rest of this minute, and until a fifth of it has left the window of the next"
    assert alive.status_code == 200


def test_a_rate_is_each_keys_own(tiny_bundle: Path) -> None:
    keys = {"busy": "b" * 43, "calm": "c" * 43}
    hashes = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in keys.items()}
    app = create_app(tiny_bundle, threads=1, keys=Keys(hashes), rate_limit="3/hour")
    given = [keys["busy"]] * 5 + [keys["calm"]] * 3 + ["wrong"]
    answers = ask(app, *({"method": "GET", "url": "/v1/model", "headers": {"X-API-Key": key}} for key in given))
    assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 2 + [200] * 3 + [401]


@pytest.mark.parametrize(
    "first",
    [
        "POST //v1/predict",
        "POST /v1%2Fpredict",
        "POST /page/../v1/predict",
        "POST /page/%2e%2e/v1/predict",
        "POST /livez/../v1/predict",
        "POST /v1/predict/",
        "HEAD /v1/model",
        "OPTIONS /v1/predict",
        "OPTIONS *",
        "TRACE /v1/predict",
    ],
)
@pytest.mark.hostile("keys: forms, paths and methods without one")
def test_no_other_way_leads_past_the_gate(first: str, keyed_server: tuple[Server, str]) -> None:
    server, key = keyed_server
    for query in ("", "?key=wrong", f"?other={key}"):
        answer = exchange(server, request_to(first + query))
        assert 400 <= answer.status_code < 500
        assert "probabilities" not in answer.text and "labels" not in answer.text
        assert answer.is_redirect is False and "location" not in answer.headers
    assert key not in str(server.lines())


@pytest.mark.hostile("keys: forms, paths and methods without one")
def test_an_upgrade_is_not_made_and_its_key_not_logged(keyed_server: tuple[Server, str]) -> None:
    server, key = keyed_server
    upgrade = (
        "Upgrade: websocket",
        "Connection: Upgrade, close",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {'a' * 22}==",
    )
    for path in ("/v1/predict", "/", "/nowhere"):
        request = request_to(f"GET {path}?key={key}", "", *upgrade)
        answer = exchange(server, request.replace(b"Connection: close\r\n", b""))  # named once, with the upgrade
        assert answer.status_code != 101
        assert answer.status_code == {"/v1/predict": 405, "/": 200, "/nowhere": 404}[path]
    assert key not in str(server.lines())


def request_to(first: str, body: str = json.dumps(BODY), *lines: str) -> bytes:
    head = (f"{first} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}")
    return "\r\n".join((*head, "Connection: close", *lines, "", body)).encode()


def test_no_origin_is_allowed_if_none_is_named(server: Server) -> None:
    answer = httpx.post(f"{server.url}/v1/predict", json=BODY, headers={"Origin": "https://forum.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_only_json_is_read(server: Server) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/xml"):
        answer = httpx.post(f"{server.url}/v1/predict", content=json.dumps(BODY), headers={"Content-Type": kind})
        assert answer.status_code == 415


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--host 0.0.0.0", "requires no key"),
        ("--keys keys.json --no-auth", "contradict"),
        ("--keys nowhere.json", "no such file"),
        ("--cors *", "expected an origin"),
        ("--rate-limit often", "600/minute"),
        ("--rate-limit-url redis://host", "no effect without --rate-limit"),
        ("--feedback-url decisions.db", "not the URL of a database"),
        ("--feedback-url mysql://me:secret@host/db", "kind 'mysql'"),
        ("--workers 0", "--workers is 0"),
        ("--host 203.0.113.7 --no-auth", "cannot listen there"),
    ],
)
def test_impossible_settings_are_refused_before_anything_starts(
    words: str, message: str, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", "--model", str(tiny_bundle), "--port", "0", *words.split()]) in (1, 2)
    assert message in capsys.readouterr().err


def test_a_port_in_use_is_reported(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["serve", "--model", str(tiny_bundle), "--port", str(port)]) == 2
    assert "Is another server running?" in capsys.readouterr().err


def test_settings_of_every_source_reach_the_worker(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({"toxic": 0.9}), encoding="utf-8")
    words = ("--thresholds", "t.json", "--threshold", "insult=0.8")
    variables = {"RATE_LIMIT": "1/hour", "CORS": "https://a.example", "MAP": "obscene=sexual,toxic=hate"}
    environment = {f"MODERATION_{name}": value for name, value in variables.items()}
    with started(tiny_bundle, tmp_path, *words, **environment) as server:
        assert server.process.stdout is not None and server.process.stdout.readline() == "ready\n"
        answer, refused = (httpx.get(f"{server.url}/v1/model") for _ in range(2))
    assert (answer.status_code, refused.status_code) == (200, 429)
    model = answer.json()
    assert model["categories"]["hate"]["labels"] == ["toxic", "identity_hate"]
    assert model["thresholds_from"] == "set"
    assert (model["thresholds"]["toxic"], model["thresholds"]["insult"]) == (0.9, 0.8)


def test_sighup_reads_keys_and_bundle_again_and_reports_thresholds_for_the_old_one(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    add_key(tmp_path, "first")
    bundle = read_bundle(tiny_bundle)
    about = {"model_version": f"{bundle.short_version}/onnx"}
    made = {"about": about, "thresholds": dict.fromkeys(bundle.labels, 0.5)}
    (tmp_path / "t.json").write_text(json.dumps(made), encoding="utf-8")
    new = shutil.copytree(tiny_bundle, tmp_path / "new")
    write_manifest(new, dataclasses.replace(read_bundle(new), name="new"))
    model = tmp_path / "bundle"
    model.symlink_to(tiny_bundle)
    with started(model, tmp_path, "--keys", "keys.json", "--thresholds", "t.json") as server:
        assert "made for" not in "".join(server.log)
        model.unlink()
        model.symlink_to(new)
        late = add_key(tmp_path, "late")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: httpx.get(f"{server.url}/v1/model", headers={"X-API-Key": late}).status_code == 200)
        (said,) = (line["event"] for line in server.lines() if "made for" in line["event"])
        assert bundle.short_version in said and read_bundle(new).short_version in said
