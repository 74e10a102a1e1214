"""Headers, trailers and chunk frames: bounded in length and time, while honest requests of any shape go through."""

import asyncio
import http.client
import logging
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn

from moderation.serving.connection import protocol
from moderation.serving.connection.framing import MAX_HEAD_BYTES, MAX_HEADER_LINES, BadFraming, Framing
from moderation.serving.connection.protocol import MAX_UNWANTED_BYTES, BoundedProtocol
from tests.attack_table import Attack
from tests.serving.wire import Wire, tell

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
    """What comes until the server closes."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
        try:
            for piece in pieces:
                line.sendall(piece)
                time.sleep(pause_s)
            while some := line.recv(65536):
                received += some
        except ConnectionError:
            pass
    return received


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize("n_bytes", [0, 1, 70_000, 3_000_000])
def test_a_body_of_any_length_is_passed_on(n_bytes: int, port: int) -> None:
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


def test_headers_have_a_limit(port: int) -> None:
    for line, status, reason in (
        (b"X: " + b"a" * 2_000_000, b"400", b"too long"),
        (b"X: a\r\n" * 300_000, b"431", b"too many"),
    ):
        answer = send(port, HEAD, line[:MAX_HEAD_BYTES])  # no more, or the reset would come before the answer
        assert answer.startswith(b"HTTP/1.1 " + status) and reason in answer
        assert b"200" not in send(port, HEAD, line, b"\r\n\r\n")


def test_trailers_and_frames_have_a_limit(port: int) -> None:
    begun = LAST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"hello") + b"0\r\n"
    assert send(port, begun + b"X: a\r\n\r\n").endswith(b"\r\n\r\n5")
    for piece, reason in ((b"X: a\r\n", b"too many"), (b"X: " + b"a" * 1000, b"too long")):
        answer = send(port, begun, *[piece * (1 + MAX_HEAD_BYTES // len(piece))] * 3)
        assert not answer or reason in answer  # nothing, where the reset came first


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("stream", "status", "reason"),
    [
        (HEAD + b"X: " + b"a" * MAX_HEAD_BYTES, 400, b"The headers are too long."),
        (HEAD + b"a:\r\n" * MAX_HEADER_LINES, 431, b"There are too many headers; expected 100 at most."),
        (b"\r\n" * MAX_HEAD_BYTES, 400, b"There are too many blank lines before a request."),
        (CHUNKED + b"1;e=abcdefghijk\r\na\r\n" * MAX_HEAD_BYTES, 400, b"The chunks of the body are too small."),
        (CHUNKED + b"0\r\n" + (b"X: " + b"a" * 1000 + b"\r\n") * 65, 400, b"The trailers are too long."),
        (CHUNKED + b"0\r\n" + b"a:\r\n" * 101, 431, b"There are too many trailers; expected 100 at most."),
    ],
    ids=["headers", "many headers", "blank lines", "chunks", "trailers", "many trailers"],
)
def test_each_limit_has_its_own_reason(stream: bytes, status: int, reason: bytes) -> None:
    wire = asyncio.run(tell([stream]))
    assert wire.written.startswith(b"HTTP/1.1 %d" % status) and wire.written.endswith(b"\r\n\r\n" + reason)


@pytest.mark.hostile("lines")
def test_many_short_lines_make_no_objects(attack: Attack) -> None:
    """What a head costs is its lines: they are counted before anything is made of them."""
    request = b"GET / HTTP/1.1\r\nHost: h\r\n"
    heads = [request + line * (60_000 // len(line)) for line in (b"a:\r\n", b"Cookie: a\r\n", b"content-type: a\r\n")]
    heads += [head + b"\r\n" for head in heads]
    for head in heads:
        held = bytearray(head)
        tracemalloc.start()
        with pytest.raises(BadFraming) as refused:
            Framing().cut(held)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert refused.value.status == 431
        assert peak < 20_000
    attack.tried(len(heads))


def test_a_hundred_headers_and_trailers_are_accepted() -> None:
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\n" + b"a: b\r\n" * (MAX_HEADER_LINES - 2) + b"\r\n")
    stream = (head + chunk(b"hello") + b"0\r\n" + b"a: b\r\n" * MAX_HEADER_LINES + b"\r\n") * 2
    for pieces in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        wire = asyncio.run(tell(pieces))
        assert wire.statuses() == [200, 200]
        assert [len(asked.headers) for asked in wire.asked] == [MAX_HEADER_LINES] * 2


REFUSED = b"POST /refused HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize("chunked", [False, True], ids=["by length", "chunked"])
@pytest.mark.parametrize("n_bytes", [100, 60_000, MAX_UNWANTED_BYTES - 100])
def test_an_unwanted_body_costs_the_next_request_nothing(n_bytes: int, chunked: bool) -> None:
    pieces = [REFUSED + b"Content-Length: %d\r\n\r\n" % n_bytes, b"a" * n_bytes]
    if chunked:
        pieces = [REFUSED + b"Transfer-Encoding: chunked\r\n\r\n", chunk(b"a" * n_bytes) + b"0\r\n\r\n"]
    after = b"GET / HTTP/1.1\r\nHost: x\r\nCookie: a=" + b"b" * 4_500 + b"\r\n\r\n"
    wire = asyncio.run(tell([*pieces, after] * 3))
    assert wire.statuses() == [200] * 6


@pytest.mark.parametrize("n_bytes", [MAX_UNWANTED_BYTES, MAX_UNWANTED_BYTES + 1, 2_000_000])
@pytest.mark.parametrize("n_sent", [0, 10_000])
def test_an_answer_says_whether_the_connection_will_be_closed_because_of_an_unread_body(
    n_bytes: int, n_sent: int
) -> None:
    """A client that is not told sends its next request into a connection that is about to close, and loses it."""
    for head in (b"Content-Length: %d\r\n\r\n" % n_bytes, b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % n_bytes):
        wire = asyncio.run(tell([REFUSED + head + b"a" * n_sent]))
        rest = n_bytes - n_sent + (2 if b"chunked" in head else 0)
        assert (b"\r\nconnection: close\r\n" in wire.written) == wire.is_ended == (rest > MAX_UNWANTED_BYTES)


def test_a_long_body_that_has_arrived_keeps_the_connection_open() -> None:
    body = b"a" * (2 * MAX_UNWANTED_BYTES)
    pieces = [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body), body[:100], body[100:]]
    wire = asyncio.run(tell(pieces * 2))
    assert wire.statuses() == [200, 200] and b"close" not in wire.written


@dataclass
class Watched(Wire):
    """Also notes how many bytes were read, and whether the server closes by itself."""

    n_read: int = 0
    closes: bool = False


async def tell_of_unwanted(piece: bytes, n_pieces: int) -> Watched:
    """Send pieces of a body behind its answer."""
    found = Watched()

    class Watching(BoundedProtocol):
        def _parse(self, piece: bytes) -> None:
            found.n_read += len(piece)
            super()._parse(piece)

        def connection_lost(self, exc: Exception | None) -> None:
            found.closes = self.transport.is_closing()
            super().connection_lost(exc)

    coding = b"Transfer-Encoding: chunked" if piece.endswith(b"\r\n") else b"Content-Length: 100000000"
    await tell([REFUSED + coding + b"\r\n\r\n", *[piece] * n_pieces], found, Watching)
    return found


@pytest.mark.hostile("unwanted bodies")
@pytest.mark.parametrize("piece", [b"a" * 8_000, chunk(b"a" * 8_000), chunk(b"a") * 1_000], ids=["", "chunks", "tiny"])
def test_an_unwanted_body_has_a_limit(piece: bytes, caplog: pytest.LogCaptureFixture, attack: Attack) -> None:
    """Behind it the answer still has its time to be read; what comes meanwhile is thrown away."""
    with caplog.at_level(logging.WARNING):
        wire = asyncio.run(tell_of_unwanted(piece, 40))
    assert wire.n_read < MAX_UNWANTED_BYTES + 2 * len(piece)
    assert (wire.statuses(), wire.is_ended, wire.closes) == ([200], True, False)
    lines = [record.__dict__ for record in caplog.records]
    assert len(lines) == piece.endswith(b"\r\n"), "the end of a body in chunks comes unannounced"
    assert all("already answered" in line["reason"] and "status" not in line for line in lines)
    attack.tried(40)


def test_discarded_bytes_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LINGER_BYTES", 200_000)
    wire = asyncio.run(tell_of_unwanted(b"a" * 8_000, 40))
    assert wire.is_ended and wire.closes


@pytest.mark.hostile("unwanted bodies")
@pytest.mark.parametrize("headers", [{}, {"Connection": "close"}, {"Expect": "100-continue"}], ids=str)
@pytest.mark.parametrize("chunked", [False, True], ids=["by length", "chunked"])
def test_a_client_that_sends_a_large_body_first_can_read_the_answer(
    chunked: bool, headers: dict[str, str], refusing_port: int, monkeypatch: pytest.MonkeyPatch, attack: Attack
) -> None:
    monkeypatch.setattr(protocol, "LINGER_S", 600)  # the machine may be busy
    body = b"a" * 5_000_000
    n_tries = attack.cases(2, 10)
    for _ in range(n_tries):
        client = http.client.HTTPConnection("127.0.0.1", refusing_port, timeout=60)
        sent = iter([body[:1_000_000]] * 5) if chunked else body
        client.request("POST", "/", sent, headers, encode_chunked=chunked)
        assert client.getresponse().status == 415
        client.close()
    attack.tried(n_tries)


@pytest.mark.parametrize("begun", [b"", b"P", HEAD, HEAD + b"X: a"])
def test_headers_that_do_not_come_are_not_waited_for(begun: bytes, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
        line.sendall(begun)
        assert line.recv(100) == b""


def test_headers_that_drip_are_not_waited_for(port: int) -> None:
    """Each letter comes in time, all of them do not."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line, pytest.raises(ConnectionError):
        line.sendall(HEAD)
        for _ in range(1200):
            line.sendall(b"X")
            time.sleep(0.05)


def test_between_requests_it_waits_as_long_as_before(port: int) -> None:
    request = HEAD + b"Content-Length: 2\r\n\r\nhi"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
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
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
        line.sendall(begun)
        assert line.recv(1000).startswith(answer)
        with pytest.raises(ConnectionError):
            for _ in range(600):
                line.sendall(scrap)
                time.sleep(0.1)


def test_blank_lines_after_an_answer_keep_no_connection_open(port: int) -> None:
    scraps_until_closed(port, HEAD + b"Content-Length: 2\r\n\r\nhi", b"HTTP/1.1 200", b"\r\n")


def test_the_rest_of_a_body_that_was_answered_is_not_waited_for(refusing_port: int) -> None:
    scraps_until_closed(refusing_port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 415", chunk(b"a"))


def test_a_slow_body_is_passed_on_too(port: int) -> None:
    answer = send(port, LAST + b"Content-Length: 10\r\n\r\n", *[b"a"] * 10, pause_s=0.1)
    assert answer.endswith(b"\r\n\r\n10")
