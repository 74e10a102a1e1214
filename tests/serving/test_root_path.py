"""A server that stands below a path: errors keep the form of their dialect, answers their right addresses."""

from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from moderation.serving.app import create_app
from moderation.serving.paths import find_dialect, route_path
from tests.serving.in_process import ask

FORMS = {
    "/v1/predict": {"type", "message"},
    "/v1/moderations": {"message", "type", "param", "code"},
    "/v1alpha1/comments:analyze": {"code", "message", "status"},
    "/comments:suggestscore": {"code", "message", "status"},
    "/batch": {"code", "message", "status"},
    "/v1alpha1/nowhere": {"code", "message", "status"},
}
WRONG: list[dict[str, Any]] = [
    {"content": b"{"},
    {"content": b"a", "headers": {"Content-Type": "application/xml"}},
    {"content": b" " * 2000},
    {"method": "DELETE"},
    {"json": {"surprise": 1}},
]


@pytest.mark.parametrize("root", ["/moderation", "/v1", "/a/b"])
def test_errors_below_a_path_are_in_the_format_of_their_dialect(root: str, tiny_bundle: Path) -> None:
    app = create_app(tiny_bundle, threads=1, max_body_bytes=1000)
    outer = Starlette(routes=[Mount(root, app)])
    asked = [{"url": root + path} | wrong for path in FORMS for wrong in WRONG]
    for request, answer in zip(asked, ask(outer, *asked, started=app), strict=True):
        assert 400 <= answer.status_code < 500
        form = FORMS[str(request["url"]).removeprefix(root)]
        assert form <= set(answer.json()["error"]) <= form | {"details"}


def test_an_early_refusal_is_in_that_format_too(tiny_bundle: Path) -> None:
    app = create_app(tiny_bundle, threads=1, rate_limit="1/hour")
    asked = [{"url": f"/moderation{path}", "json": {}} for path in list(FORMS)[:4]]
    _, *refused = ask(Starlette(routes=[Mount("/moderation", app)]), *asked, started=app)
    assert [answer.status_code for answer in refused] == [429] * 3
    for path, answer in zip(list(FORMS)[1:4], refused, strict=True):
        assert FORMS[path] <= set(answer.json()["error"]) <= FORMS[path] | {"details"}


def test_the_discovery_document_and_batches_know_the_path(tiny_bundle: Path) -> None:
    app = create_app(tiny_bundle, threads=1)
    part = "POST /moderation/comments:analyze HTTP/1.1\r\n\r\n" + (
        '{"comment": {"text": "kind"}, "requestedAttributes": {"TOXICITY": {}}}'
    )
    batch = f"--b\r\nContent-Type: application/http\r\n\r\n{part}\r\n--b--"
    document, answer = ask(
        Starlette(routes=[Mount("/moderation", app)]),
        {"method": "GET", "url": "/moderation/$discovery/rest?version=v1alpha1"},
        {"url": "/moderation/batch", "content": batch, "headers": {"Content-Type": "multipart/mixed; boundary=b"}},
        started=app,
    )
    assert document.json()["rootUrl"] == "http://x/moderation/"
    assert (answer.status_code, "HTTP/1.1 200 OK" in answer.text) == (200, True)


@pytest.mark.parametrize(
    ("path", "root", "seen"),
    [
        ("/v1/model", "", "/v1/model"),
        ("/a/v1/model", "/a", "/v1/model"),
        ("/a/v1/model", "/a/", "/v1/model"),
        ("/v1/model", "/a", "/v1/model"),
        ("/ab/v1/model", "/a", "/ab/v1/model"),
    ],
)
def test_the_root_path_is_removed_if_present(path: str, root: str, seen: str) -> None:
    assert route_path({"path": path, "root_path": root}) == seen


@pytest.mark.parametrize(
    "path",
    ["/v1alpha1/comments:analyze/", "//v1alpha1//comments:analyze", "/comments:x", "/batch/", "/$discovery/rest"],
)
def test_an_almost_correct_path_gets_an_error_in_the_same_format(path: str) -> None:
    assert find_dialect(path) == "perspective"
