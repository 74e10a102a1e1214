"""Headers, trailers and chunk frames: bounded in length and time, while honest requests of any shape go through."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from moderation.serving import protocol
from moderation.serving.framing import MAX_HEAD_BYTES
from moderation.serving.protocol import BoundedProtocol

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
LAST = HEAD + b"Connection: close\r\n"


async def count(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the number of bytes of the body."""
    n_bytes, more = 0, True
    while more:
        message = await receive()
        n_bytes, more = n_bytes + len(message.get("body", b"")), message.get("more_body", False)
    body = str(n_bytes).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """Answers without a look at the body."""
    await send({"type": "http.response.start", "status": 415, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server that waits half a second for headers."""
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.5)
    with running(count) as port:
        yield port


@pytest.fixture
def refusing_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The same, of a server that refuses at once."""
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.5)
    with running(refuse) as port:
        yield port


@contextmanager
def running(app: Any) -> Iterator[int]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, http=BoundedProtocol, lifespan="off", log_config=None))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([bound],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield bound.getsockname()[1]
        server.should_exit = True
        thread.join(10)


def send(port: int, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """What comes until the server closes, or until nothing has come for a second."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=1) as line:
        try:
            for piece in pieces:
                line.sendall(piece)
                time.sleep(pause_s)
            while some := line.recv(65536):
                received += some
        except (ConnectionError, TimeoutError):
            pass
    return received


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize("n_bytes", [0, 1, 70_000, 3_000_000])
def test_a_body_of_any_length_is_none_of_its_business(n_bytes: int, port: int) -> None:
    body = b"a" * n_bytes
    assert send(port, LAST + b"Content-Length: %d\r\n\r\n" % n_bytes, body).endswith(b"\r\n\r\n%d" % n_bytes)
    for size in (1, 1000, 100_000):
        some = body[: size * 50_000]
        chunks = [chunk(some[i : i + size]) for i in range(0, len(some), size)]
        answer = send(port, LAST + b"Transfer-Encoding: chunked\r\n\r\n", b"".join(chunks), b"0\r\n\r\n")
        assert answer.endswith(b"\r\n\r\n%d" % len(some))


def test_requests_may_follow_each_other_at_once(port: int) -> None:
    rest = b"X: " + b"a" * 30_000 + b"\r\nContent-Length: 2\r\n\r\nhi"
    assert send(port, (HEAD + rest) * 9 + LAST + rest).count(b"HTTP/1.1 200") == 10


@pytest.mark.parametrize("line", [b"X: " + b"a" * 2_000_000, b"X: a\r\n" * 300_000], ids=["long", "many"])
def test_headers_have_a_limit(line: bytes, port: int) -> None:
    answer = send(port, HEAD, line[:MAX_HEAD_BYTES])  # no more, or the reset would come before the answer
    assert answer.startswith(b"HTTP/1.1 400") and b"too long" in answer
    assert b"200" not in send(port, HEAD, line, b"\r\n\r\n")


def test_trailers_and_frames_have_a_limit(port: int) -> None:
    begun = LAST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"hello") + b"0\r\n"
    assert send(port, begun + b"X: a\r\n\r\n").endswith(b"\r\n\r\n5")
    for piece in (b"X: a\r\n", b"X: " + b"a" * 1000):
        answer = send(port, begun, *[piece * (1 + MAX_HEAD_BYTES // len(piece))] * 3)
        assert not answer or b"too long" in answer  # nothing, where the reset came first


@pytest.mark.parametrize("begun", [b"", b"P", HEAD, HEAD + b"X: a"])
def test_headers_that_do_not_come_are_not_waited_for(begun: bytes, port: int) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(begun)
        assert line.recv(100) == b""
    assert 0.3 < time.monotonic() - began < 8


def test_headers_that_drip_are_not_waited_for(port: int) -> None:
    began = time.monotonic()
    assert send(port, *(bytes([letter]) for letter in HEAD * 10), pause_s=0.05) == b""
    assert time.monotonic() - began < 8


def test_between_requests_it_waits_as_long_as_ever(port: int) -> None:
    request = HEAD + b"Content-Length: 2\r\n\r\nhi"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        for _ in range(2):
            line.sendall(request)
            answer = b""
            while not answer.endswith(b"\r\n\r\n2"):
                some = line.recv(1000)
                assert some
                answer += some
            time.sleep(1)


def scraps_until_closed(port: int, begun: bytes, answer: bytes, scrap: bytes) -> None:
    """Send scraps behind an answer until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(begun)
        assert line.recv(1000).startswith(answer)
        began = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() - began < 8:
                line.sendall(scrap)
                time.sleep(0.1)


def test_blank_lines_behind_an_answer_keep_no_connection_open(port: int) -> None:
    scraps_until_closed(port, HEAD + b"Content-Length: 2\r\n\r\nhi", b"HTTP/1.1 200", b"\r\n")


def test_the_rest_of_a_body_that_was_answered_is_not_waited_for(refusing_port: int) -> None:
    scraps_until_closed(refusing_port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 415", chunk(b"a"))


def test_a_slow_body_is_not_its_business_either(port: int) -> None:
    answer = send(port, LAST + b"Content-Length: 10\r\n\r\n", *[b"a"] * 10, pause_s=0.1)
    assert answer.endswith(b"\r\n\r\n10")
