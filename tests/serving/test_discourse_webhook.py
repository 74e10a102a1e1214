"""The example for Discourse: events as Discourse signs them, a real moderation server, and flags that arrive."""

import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from tests.attack_table import Attack
from tests.serving.conftest import Server

SCRIPT = Path(__file__).parents[2] / "examples/discourse_webhook.py"
SECRET = "a secret"


class Forum(BaseHTTPRequestHandler):
    """What Discourse's API takes."""

    flags: ClassVar[list[dict[str, list[str]]]] = []
    status = 200
    location = ""

    def do_POST(self) -> None:
        fields = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        assert (self.path, self.headers["Api-Key"], self.headers["Api-Username"]) == ("/post_actions.json", "K", "bot")
        self.flags.append(fields)
        self.send_response(self.status)
        if self.location:
            self.send_header("Location", self.location)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *words: object) -> None:
        pass


class Anything(BaseHTTPRequestHandler):
    """A host that answers what it is told to, and keeps what it was asked."""

    content = b""
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append(str(self.headers))
        self.wfile.write(self.content)
        self.close_connection = True

    def do_GET(self) -> None:
        self.asked.append(str(self.headers))

    def log_message(self, *words: object) -> None:
        pass


@contextmanager
def host(kind: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def bridged(server_url: str) -> Iterator[str]:
    """The address of the example, between a forum and a server."""
    Forum.flags, Forum.status, Forum.location = [], 200, ""
    with host(Forum) as forum:
        settings = {
            "WEBHOOK_SECRET": SECRET,
            "DISCOURSE_URL": forum,
            "DISCOURSE_KEY": "K",
            "DISCOURSE_USER": "bot",
            "SERVER_URL": server_url,
        }
        with subprocess.Popen(
            [sys.executable, SCRIPT, "--port", "0"], env=os.environ | settings, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1]
            process.terminate()


@pytest.fixture
def bridge(server: Server) -> Iterator[str]:
    with bridged(server.url) as address:
        yield address


def send(address: str, text: str, *, event: str = "post_created", secret: str = SECRET) -> int:
    body = json.dumps({"post": {"id": 77, "raw": text, "cooked": f"<p>{text}</p>", "username": "somebody"}}).encode()
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Discourse-Event": event, "X-Discourse-Event-Signature": signature, "Content-Type": "application/json"}
    return httpx.post(address, content=body, headers=headers, timeout=30).status_code


def test_flagged_posts_reach_the_moderators() -> None:
    with host(Anything) as server, bridged(server) as bridge:
        Anything.content = answered(FLAGGED)
        for event in ("post_created", "post_edited", "post_destroyed"):
            assert send(bridge, "you stupid idiot", event=event) == 204
        expected = [["77"], ["7"], ["Flagged automatically: toxic"]]
        assert [list(one.values()) for one in Forum.flags] == [expected] * 2


def test_a_real_server_accepts_the_requests(bridge: str, server: Server) -> None:
    """Whatever the tiny model says of the text."""
    (answer,) = httpx.post(f"{server.url}/v1/predict", json={"texts": ["you fool"]}, timeout=30).json()["results"]
    assert send(bridge, "you fool") == 204
    assert bool(Forum.flags) == bool(answer["flagged"])


def test_only_events_that_discourse_signed_are_read(bridge: str) -> None:
    assert send(bridge, "you stupid idiot", secret="another") == 403
    assert httpx.post(bridge, content=b"{}").status_code == 403
    assert Forum.flags == []


def test_errors_are_reported_to_discourse() -> None:
    with host(Anything) as server, bridged(server) as bridge:
        Anything.content = answered(FLAGGED)
        Forum.status = 500
        assert send(bridge, "you stupid idiot") == 502


def answered(content: bytes, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n{more}\r\n".encode() + content


FLAGGED = json.dumps({"results": [{"flagged": ["toxic"]}]}).encode()

ODD = {
    "no results": answered(b'{"results": []}'),
    "no object": answered(b"[]"),
    "null": answered(b"null"),
    "no labels": answered(b'{"results": [{"flagged": null}]}'),
    "letters for labels": answered(b'{"results": [{"flagged": "toxic"}]}'),
    "numbers for labels": answered(b'{"results": [{"flagged": [1]}]}'),
    "objects for labels": answered(b'{"results": [{"flagged": {"toxic": 1}}]}'),
    "deep": answered(b'{"results": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "half": answered(FLAGGED)[:-5],
    "half of the head": answered(FLAGGED)[:20],
    "nothing": b"",
    "garbage": b"\xff\x00garbage\r\n\r\n",
    "not HTTP": b"SSH-2.0-OpenSSH\r\n",
    "an endless number of headers": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000,
    "chunks that are none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "too large": answered(FLAGGED + b" " * 2_000_000),
    "not UTF-8": answered(b"\xff\xfe\xff"),
    "an error": answered(FLAGGED, "500 Error"),
    "a redirect without a place": answered(FLAGGED, "302 Found"),
    "a redirect to a file": answered(FLAGGED, "302 Found", "Location: file:///etc/hostname\r\n"),
}


@pytest.mark.hostile("webhook: odd answers")
def test_an_odd_answer_of_the_server_is_reported_to_discourse(attack: Attack) -> None:
    with host(Anything) as server, bridged(server) as bridge:
        for name, content in ODD.items():
            Anything.content = content
            assert send(bridge, "you stupid idiot") == 502, name
            attack.tried()
        assert Forum.flags == []
        Anything.content = answered(FLAGGED)
        assert send(bridge, "you stupid idiot") == 204
        assert len(Forum.flags) == 1


@pytest.mark.hostile("webhook: redirects")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_key_goes_to_where_a_redirect_leads(status: int, attack: Attack) -> None:
    with host(Anything) as elsewhere, host(Anything) as server, bridged(server) as bridge:
        Anything.content = answered(FLAGGED)
        Forum.status, Forum.location = status, f"{elsewhere}/post_actions.json"
        Anything.asked = []
        assert send(bridge, "you stupid idiot") == 502  # the flag was not taken
        assert len(Anything.asked) == 1  # of the server, and of nobody else
        Anything.content = answered(b"", f"{status} Moved", f"Location: {elsewhere}/v1/predict\r\n")
        assert send(bridge, "you stupid idiot") == 502
        assert len(Anything.asked) == 2
    attack.tried(2)


@pytest.mark.hostile("webhook: odd requests")
def test_an_odd_length_is_refused_before_anything_is_read(bridge: str, attack: Attack) -> None:
    port = int(bridge.rsplit(":", 1)[1])
    for length in (b"\xb2", b"\xd9\xa3", b"-1", b"+1", b"1e3", b"0x10", b" ", b"1_0", b"9" * 5000, b"1000001", b"1, 1"):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"POST / HTTP/1.0\r\nContent-Length: " + length + b"\r\n\r\n")
            assert client.makefile("rb").readline().split()[1] == b"413", length
        attack.tried()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"POST / HTTP/1.0\r\nContent-Length: 100\r\n\r\n{}")
        client.shutdown(socket.SHUT_WR)
        assert client.makefile("rb").readline().split()[1] == b"400"
