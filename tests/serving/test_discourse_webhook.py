"""The example for Discourse: events as Discourse signs them, a real moderation server, and flags that arrive."""

import hashlib
import hmac
import json
import os
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from tests.serving.conftest import Server

SCRIPT = Path(__file__).parents[2] / "examples/discourse_webhook.py"
SECRET = "a secret"


class Forum(BaseHTTPRequestHandler):
    """What Discourse's API takes."""

    flags: ClassVar[list[dict[str, list[str]]]] = []
    status = 200

    def do_POST(self) -> None:
        fields = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        assert (self.path, self.headers["Api-Key"], self.headers["Api-Username"]) == ("/post_actions.json", "K", "bot")
        self.flags.append(fields)
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def bridge(server: Server) -> Iterator[str]:
    """The address of the example, between a forum and the server."""
    Forum.flags, Forum.status = [], 200
    forum = HTTPServer(("127.0.0.1", 0), Forum)
    threading.Thread(target=forum.serve_forever, daemon=True).start()
    settings = {
        "WEBHOOK_SECRET": SECRET,
        "DISCOURSE_URL": f"http://127.0.0.1:{forum.server_port}",
        "DISCOURSE_KEY": "K",
        "DISCOURSE_USER": "bot",
        "SERVER_URL": server.url,
    }
    with subprocess.Popen(
        [sys.executable, SCRIPT, "--port", "0"], env=os.environ | settings, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()
    forum.shutdown()
    forum.server_close()


def send(address: str, text: str, *, event: str = "post_created", secret: str = SECRET) -> int:
    body = json.dumps({"post": {"id": 77, "raw": text, "cooked": f"<p>{text}</p>", "username": "somebody"}}).encode()
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Discourse-Event": event, "X-Discourse-Event-Signature": signature, "Content-Type": "application/json"}
    return httpx.post(address, content=body, headers=headers, timeout=30).status_code


def test_what_the_server_flags_reaches_the_moderators(bridge: str, server: Server) -> None:
    text = "you stupid idiot"
    (answer,) = httpx.post(f"{server.url}/v1/predict", json={"texts": [text]}, timeout=30).json()["results"]
    for event in ("post_created", "post_edited"):
        assert send(bridge, text, event=event) == 204
    assert send(bridge, text, event="post_destroyed") == 204
    expected = [["77"], ["7"], [f"Flagged automatically: {', '.join(answer['flagged'])}"]]
    assert [list(one.values()) for one in Forum.flags] == [expected] * 2 * bool(answer["flagged"])


def test_only_what_discourse_signed_is_read(bridge: str) -> None:
    assert send(bridge, "you stupid idiot", secret="another") == 403
    assert httpx.post(bridge, content=b"{}").status_code == 403
    assert Forum.flags == []


def test_what_goes_wrong_is_told_to_discourse(bridge: str, server: Server) -> None:
    (answer,) = httpx.post(f"{server.url}/v1/predict", json={"texts": ["you stupid idiot"]}, timeout=30).json()[
        "results"
    ]
    Forum.status = 500
    assert send(bridge, "you stupid idiot") == (502 if answer["flagged"] else 204)
