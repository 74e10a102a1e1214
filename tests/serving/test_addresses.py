"""Under which address clients know the server: what its operator says, and what a trusted proxy says."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation import cli
from moderation.errors import ConfigError
from moderation.serving.addresses import PublicAddress, read_proxies, read_public_url
from moderation.serving.app import create_app
from tests.attack_table import Attack
from tests.serving.in_process import ask

DISCOVERY = "/$discovery/rest?version=v1alpha1"
BODY = {"comment": {"text": "kind"}, "requestedAttributes": {"TOXICITY": {}}}
SAID = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "moderation.example",
    "X-Forwarded-Prefix": "/prefix",
    "X-Forwarded-For": "198.51.100.7",
}


def batch(path: str) -> dict[str, Any]:
    part = f"POST {path} HTTP/1.1\r\n\r\n{json.dumps(BODY)}"
    content = f"--b\r\nContent-Type: application/http\r\n\r\n{part}\r\n--b--"
    return {"content": content, "headers": {"Content-Type": "multipart/mixed; boundary=b"}}


def test_the_public_url_is_the_address_whatever_a_request_says(tiny_bundle: Path) -> None:
    """Proxies may take the prefix off, or leave it; Google's client sends it inside a batch in any case."""
    app = create_app(tiny_bundle, threads=1, public_url="https://moderation.example/prefix")
    path = "/prefix/v1alpha1/comments:analyze"
    first, *others = ask(
        app,
        {"method": "GET", "url": DISCOVERY, "headers": {"Host": "evil.example", **SAID}},
        {"method": "GET", "url": f"/prefix{DISCOVERY}"},
        {"method": "GET", "url": "/openapi.json"},
        {"url": path, "json": BODY},
        {"url": path.removeprefix("/prefix"), "json": BODY},
        {"url": "/prefix/batch", **batch(path)},
        {"url": "/batch", **batch(path)},
        {"url": "/prefix/v1alpha1/nowhere", "json": {}},
    )
    document = first.json()
    for name in ("rootUrl", "baseUrl"):
        assert document[name] == "https://moderation.example/prefix/"
    assert document["rootUrl"] + document["servicePath"] + document["batchPath"] == (
        "https://moderation.example/prefix/batch"
    )
    assert others[0].json() == document
    assert others[1].json()["servers"] == [{"url": "https://moderation.example/prefix/"}]
    assert [answer.status_code for answer in others] == [200] * 6 + [404]
    assert all("HTTP/1.1 200 OK" in answer.text for answer in others[4:6])
    assert others[6].json()["error"]["status"] == "NOT_FOUND"


GOOD = ["http://x", "https://moderation.example/", "https://a.b:8443/c/d-e.f_g~/", "http://[::1]:80/x", "HTTPS://X/Y"]
BAD = """x moderation.example ftp://x https:// https://user:secret@x https://x/?a https://x? https://x/#a https://x//y
https://x/a/../b https://x/. https://x/a%20b https://x:99999 https://x:0 https://x:y https://x/ä https://[::1 //x/y
https://x/v1 https://x/v1alpha1/a https://x/batch/ https://x/page https://x\\y https://-x https://x/$discovery"""


@pytest.mark.parametrize("words", GOOD)
def test_an_address_is_read_and_ends_with_a_slash(words: str) -> None:
    found = read_public_url(words)
    assert found.rstrip("/").lower() == words.rstrip("/").lower()
    assert read_public_url(found) == found and found.endswith("/")


@pytest.mark.parametrize(
    "words", [*BAD.split(), "", " ", "https://x/a b", "https://x\n", "user:secret@x", "https://u:secret/1@x"]
)
def test_an_invalid_address_is_refused_without_showing_its_password(words: str) -> None:
    with pytest.raises(ConfigError, match="--public-url") as refused:
        read_public_url(words)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "words", ["", "*", "proxy.example", "10.0.0.1/8", "10.0.0.256", "0.0.0.0/0", "::/0", "10.0.0.1 "]
)
def test_an_invalid_proxy_or_everybody_is_refused(words: str) -> None:
    with pytest.raises(ConfigError, match="--trusted-proxy"):
        read_proxies([words])


def test_the_command_refuses_both_before_it_starts(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--public-url", "moderation.example"], ["--trusted-proxy", "127.0.0.1", "--trusted-proxy", "*"]):
        assert cli.main(["serve", *words]) == 2
        assert words[-2] in capsys.readouterr().err


@pytest.mark.parametrize("proxies", [(), ("10.0.0.0/8", "127.0.0.1")], ids=["none", "this"])
def test_a_proxy_is_believed_if_it_is_trusted(proxies: tuple[str, ...], tiny_bundle: Path) -> None:
    """The discovery document shows scheme, host and prefix; the rate limit counts the client's address."""
    app = create_app(tiny_bundle, threads=1, trusted_proxy=proxies, rate_limit="1/hour")
    clients = ["198.51.100.7", "198.51.100.8", "1.2.3.4, 198.51.100.7", "198.51.100.9, 10.1.2.3", "not an address", "x"]
    asked = [{"url": "/v1alpha1/comments:analyze", "json": BODY, "headers": {"X-Forwarded-For": it}} for it in clients]
    document, together, *answers = ask(
        app,
        {"method": "GET", "url": DISCOVERY, "headers": SAID},
        {"url": "/batch", **batch("/prefix/comments:analyze")} | {"headers": {**batch("")["headers"], **SAID}},
        *asked,
    )
    believed = "127.0.0.1" in proxies
    assert document.json()["rootUrl"] == ("https://moderation.example/prefix/" if believed else "http://x/")
    assert ("HTTP/1.1 200 OK" in together.text) == believed  # it has counted for its address, too
    assert [answer.status_code for answer in answers] == (
        [429, 200, 429, 200, 200, 429] if believed else [429] * len(clients)
    )


def test_a_proxy_of_ipv4_may_be_named_as_a_socket_of_ipv6_sees_it() -> None:
    assert read_proxies(["::ffff:10.0.0.0/104"]) == read_proxies(["10.0.0.0/8"])
    for named in ("::ffff:10.0.0.1", "10.0.0.1"):
        for client in ("::ffff:10.0.0.1", "10.0.0.1"):
            assert pass_on([named], client, [("X-Forwarded-For", "1.2.3.4")])["client"][0] == "1.2.3.4"


def pass_on(proxies: list[str], client: str, headers: list[tuple[str, str]]) -> dict[str, Any]:
    """The scope of a request behind the middleware."""
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)

    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    scope: dict[str, Any] = {"type": "http", "scheme": "http", "path": "/x", "raw_path": b"/x", "headers": raw}
    call = PublicAddress(app, read_proxies(proxies))(scope | {"client": (client, 1)}, None, None)  # type: ignore[arg-type]
    with pytest.raises(StopIteration):
        call.send(None)
    return seen


@pytest.mark.parametrize(
    ("client", "headers", "expected"),
    [
        ("10.0.0.1", [("X-Forwarded-Host", "evil, good:80")], {"host": b"good:80"}),
        ("10.0.0.1", [("X-Forwarded-Host", "evil"), ("X-Forwarded-Host", "good")], {"host": b"good"}),
        ("10.0.0.1", [("X-Forwarded-Host", "a/b")], {"host": b"own"}),
        ("10.0.0.1", [("X-Forwarded-Prefix", "/a/b/")], {"path": "/a/b/x", "root_path": "/a/b"}),
        ("10.0.0.1", [("X-Forwarded-Prefix", "//evil")], {"path": "/x"}),
        ("10.0.0.1", [("X-Forwarded-Prefix", "/a/../b")], {"path": "/x"}),
        ("10.0.0.1", [("X-Forwarded-Proto", "gopher")], {"scheme": "http"}),
        ("::ffff:10.0.0.1", [("X-Forwarded-For", "2001:db8::1")], {"address": "2001:db8::1"}),
        ("10.0.0.1", [("X-Forwarded-For", "[2001:DB8::1]:443")], {"address": "2001:db8::1"}),
        ("10.0.0.1", [("X-Forwarded-For", "1.2.3.4:5")], {"address": "1.2.3.4"}),
        ("10.0.0.1", [("X-Forwarded-For", "9.9.9.9"), ("X-Forwarded-For", "1.2.3.4")], {"address": "1.2.3.4"}),
        ("10.0.0.1", [("X-Forwarded-For", "1.2.3.4, unknown")], {"address": "10.0.0.1"}),
        ("10.0.0.1", [("X-Forwarded-For", "1.2.3.4, unknown, 10.0.0.2")], {"address": "10.0.0.2"}),
        (
            "10.0.0.1",
            [("X-Forwarded-For", "1.2.3.4" + "0" * 2000 + ", 198.51.100.7" + ",10.0.0.9" * 100)],
            {"address": "198.51.100.7"},
        ),
        ("10.0.0.1", [("X-Forwarded-For", "")], {"address": "10.0.0.1"}),
        ("10.0.0.1", [("X-Forwarded-For", "1.2.3.4" + ",10.0.0.9" * 5000)], {"address": "10.0.0.9"}),
        ("192.0.2.1", list(SAID.items()), {"address": "192.0.2.1", "host": b"own", "path": "/x", "scheme": "http"}),
        ("", list(SAID.items()), {"address": "", "host": b"own", "path": "/x", "scheme": "http"}),
    ],
)
def test_only_what_the_proxy_itself_added_counts(
    client: str, headers: list[tuple[str, str]], expected: dict[str, Any]
) -> None:
    seen = pass_on(["10.0.0.0/8"], client, [("Host", "own"), *headers])
    hosts = [value for name, value in seen["headers"] if name == b"host"]
    assert len(hosts) == 1
    found = seen | {"host": hosts[0], "address": seen["client"][0]}
    assert expected.items() <= found.items()


@pytest.mark.hostile("proxies: forwarded headers of strangers")
def test_whoever_is_not_trusted_changes_nothing(attack: Attack) -> None:
    random = Random(7)
    values = [
        "evil.example",
        "https",
        "/evil",
        "10.0.0.1",
        "127.0.0.1",
        "::1",
        "for=10.0.0.1",
        "1.2.3.4, 10.0.0.1",
        "\xff",
    ]
    names = [*SAID, "x-forwarded-port", "Forwarded", "X-Real-IP", "X-Forwarded-For "]
    for _ in range(n := attack.cases(300, 20_000)):
        headers = [(random.choice(names), random.choice(values)) for _ in range(random.randint(1, 6))]
        client = random.choice(["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "11.0.0.1", "", "unix:"])
        seen = pass_on(["10.0.0.0/8", "::1"], client, [("Host", "own"), *headers])
        assert (seen["scheme"], seen["path"], seen.get("root_path", "")) == ("http", "/x", ""), headers
        assert seen["client"][0] == client.removeprefix("::ffff:"), headers
        assert [value for name, value in seen["headers"] if name == b"host"] == [b"own"]
    attack.tried(n)


@given(st.lists(st.sampled_from(list(SAID)).flatmap(lambda name: st.tuples(st.just(name), st.text(max_size=20)))))
def test_whatever_a_trusted_proxy_sends_is_an_address_or_ignored(said: list[tuple[str, str]]) -> None:
    headers = [(name, value.encode("utf-8", "replace").decode("latin-1")) for name, value in said]
    seen = pass_on(["10.0.0.1"], "10.0.0.1", [("Host", "own"), *headers])
    assert seen["scheme"] in ("http", "https", "ws", "wss")
    assert seen["path"].startswith("/") and seen["path"].endswith("/x")
    assert read_proxies([seen["client"][0]])
    assert len([name for name, _ in seen["headers"] if name == b"host"]) == 1
