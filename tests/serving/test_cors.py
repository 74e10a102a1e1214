"""Browsers that ask before they ask: the origin decides, and a page can read why it was refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from moderation.config import ServeConfig
from moderation.errors import ConfigError
from moderation.options import build
from moderation.serving.options import AccessOptions
from tests.serving.conftest import Server, add_key, started

ORIGIN = "https://forum.example"
STAINLESS = ("arch", "lang", "os", "package-version", "retry-count", "runtime", "runtime-version", "timeout")
OPENAI = ",".join(["authorization", "content-type", *(f"x-stainless-{name}" for name in STAINLESS)])
GOOGLE = "content-type,x-goog-api-client,x-requested-with,x-goog-api-key"


@pytest.fixture(scope="module")
def named(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A server with keys that pages of one origin may ask, and a key."""
    folder = tmp_path_factory.mktemp("cors")
    key = add_key(folder, "forum")
    words = ("--cors", ORIGIN, "--keys", "keys.json", "--rate-limit", "20/hour", "--max-body-bytes", "1000")
    with started(tiny_bundle, folder, *words) as it:
        yield it, key


def ask(server: Server, path: str, headers: str | None, origin: str = ORIGIN, method: str = "POST") -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    asked |= {} if headers is None else {"Access-Control-Request-Headers": headers}
    return httpx.options(server.url + path, headers=asked)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/moderations", OPENAI),
        ("/v1alpha1/comments:analyze", GOOGLE),
        ("/batch", "content-type, x-goog-api-client"),
        ("/v1/predict", "x-a-header-of-next-year"),
        ("/v1/predict", "X-API-Key , content-type"),
        ("/v1/predict", None),
    ],
)
def test_a_named_origin_may_send_any_header(path: str, headers: str | None, named: tuple[Server, str]) -> None:
    answer = ask(named[0], path, headers)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, ORIGIN)
    assert answer.headers.get("Access-Control-Allow-Headers") == headers
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert {"Origin", "Access-Control-Request-Headers"} <= set(answer.headers["Vary"].split(", "))


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{ORIGIN}.evil.example", "http://forum.example"])
@pytest.mark.hostile("CORS origins and headers")
def test_another_origin_learns_nothing(origin: str, named: tuple[Server, str]) -> None:
    answer = ask(named[0], "/v1/moderations", OPENAI, origin)
    assert answer.status_code == 400
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("headers", ["a b", "x-ä", "a,,b", "a;b", ",".join(["x-header"] * 500)])
@pytest.mark.hostile("CORS origins and headers")
def test_an_invalid_list_of_headers_is_not_repeated(headers: str, named: tuple[Server, str]) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    raw: list[tuple[str, str | bytes]] = [*asked.items(), ("Access-Control-Request-Headers", headers.encode("latin-1"))]
    answer = httpx.options(
        f"{named[0].url}/v1/predict", headers=[(k.encode(), v if isinstance(v, bytes) else v.encode()) for k, v in raw]
    )
    assert answer.status_code == 400
    assert "access-control-allow-headers" not in answer.headers


def test_a_page_can_read_why_it_was_refused(named: tuple[Server, str]) -> None:
    server, key = named
    good = {"Origin": ORIGIN, "X-API-Key": key, "Content-Type": "application/json"}
    body = json.dumps({"texts": ["kind"]})

    def send(path: str, content: str = body, **headers: str) -> httpx.Response:
        return httpx.post(server.url + path, content=content, headers=good | headers)

    answers = [
        send("/v1/predict"),
        send("/v1/predict", "{"),
        send("/v1/predict", **{"X-API-Key": "wrong"}),
        send("/v1/nowhere"),
        httpx.put(f"{server.url}/v1/predict", headers=good),
        send("/v1/predict", " " * 2000),
        send("/v1/predict", **{"Content-Type": "application/xml"}),
        *[send("/v1/predict") for _ in range(20)],
    ]
    assert [answer.status_code for answer in answers[:7]] == [200, 400, 401, 404, 405, 413, 415]
    assert answers[-1].status_code == 429
    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]
        assert "Origin" in answer.headers["Vary"]
    other = send("/v1/predict", Origin="https://evil.example")
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    "origin",
    ["*", "forum.example", "https://forum.example/", "https://forum.example/page", "https://Forum.example", "null"],
)
@pytest.mark.hostile("CORS origins and headers")
def test_an_origin_that_no_browser_sends_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(ConfigError, match="as browsers send it"):
        build(ServeConfig, {"cors": ("https://fine.example", origin)})


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "http://[::1]:8080", "https://xn--bcher-kva.example", "chrome-extension://abcd"]
)
def test_an_origin_as_browsers_send_it_is_accepted(origin: str) -> None:
    assert AccessOptions(cors=(origin,)).cors == (origin,)
