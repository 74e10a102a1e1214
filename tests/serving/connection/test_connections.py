"""What connections hold together has a bound: memory of unfinished bodies and unread answers, and descriptors."""

import asyncio
import errno
import gzip
import logging
import resource
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from moderation.serving.connection import connections as connections_module
from moderation.serving.connection import protocol as protocol_module
from moderation.serving.connection.connections import Connections, connections_of
from moderation.serving.connection.protocol import BoundedProtocol
from moderation.serving.uvicorn_hooks import Config, ServerState
from tests.attack_table import Attack
from tests.serving.conftest import started, wait_until_ready
from tests.serving.processes.test_lifecycle import workers_of

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1980000\r\n\r\n"
ANSWER_BYTES = 20_000_000


async def swallow(scope: Any, receive: Any, send: Any) -> None:
    """Hold the whole body, as the server does; answer in short, or at length where that is asked for."""
    pieces, more = [], True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"a" * (ANSWER_BYTES if scope["path"] == "/long" else 2)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Listening:
    """A server on this loop, and its clients."""

    def __init__(self, app: Any = swallow) -> None:
        self.state = ServerState()
        self._config = Config(app, interface="asgi3", lifespan="off", log_config=None, proxy_headers=False)
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> "Listening":
        self._server = await asyncio.get_running_loop().create_server(
            lambda: BoundedProtocol(config=self._config, server_state=self.state, app_state={}), "127.0.0.1", 0
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for writer in self._writers:
            writer.close()
        self._server.close()
        await until(lambda: not self.state.connections)

    @property
    def all(self) -> Connections:
        return connections_of(self.state, asyncio.get_running_loop())

    async def connect(self, sent: bytes, limit: int = 65_536) -> asyncio.StreamReader:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, self._server.sockets[0].getsockname()[:2])
        reader, writer = await asyncio.open_connection(sock=client, limit=limit)
        self._writers.append(writer)
        writer.write(sent)
        return reader


async def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        await asyncio.sleep(0.001)


@pytest.mark.hostile("unfinished bodies (memory)")
@pytest.mark.parametrize("chunked", [False, True])
def test_unfinished_bodies_share_a_limit(chunked: bool, monkeypatch: pytest.MonkeyPatch, attack: Attack) -> None:
    """Large ones are refused once they fill it; short ones are answered, and what leaves makes room."""
    monkeypatch.setattr(connections_module, "MAX_HELD_BYTES", 1_000_000)
    sent = POST + b"a" * 200_000
    if chunked:
        head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        sent = head + b"".join(b"%x\r\n%s\r\n" % (10_000, b"a" * 10_000) for _ in range(20))

    async def main() -> None:
        async with Listening() as server:
            readers = [await server.connect(sent) for _ in range(20)]
            answers = [asyncio.ensure_future(reader.readuntil(b"\r\n")) for reader in readers]
            await until(lambda: sum(answer.done() for answer in answers) >= 10)
            assert all(answer.result().startswith(b"HTTP/1.1 503") for answer in answers if answer.done())
            assert 500_000 < server.all.n_bytes < 1_000_000 + 20 * 65_536
            small = await server.connect(GET.replace(b"GET", b"POST")[:-2] + b"Content-Length: 2\r\n\r\nok")
            assert (await small.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
            for answer in answers:
                answer.cancel()
        assert server.all.n_bytes == 0

    asyncio.run(main())
    attack.tried(20)


def test_a_refused_request_no_longer_holds_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while it may still read its refusal."""
    monkeypatch.setattr(connections_module, "MAX_HELD_BYTES", 100_000)
    monkeypatch.setattr(protocol_module, "LINGER_S", 600)

    async def main() -> None:
        async with Listening() as server:
            refused = await server.connect(POST + b"a" * 200_000)
            assert (await refused.readuntil(b"\r\n")).startswith(b"HTTP/1.1 503")
            assert len(server.state.connections) == 1 and server.all.n_bytes == 0
            other = await server.connect(POST.replace(b"1980000", b"90000") + b"a" * 90_000)
            assert (await other.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")

    asyncio.run(main())


def test_requests_behind_an_unanswered_one_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def wait(scope: Any, receive: Any, send: Any) -> None:
            await go.wait()
            await swallow(scope, receive, send)

        n_requests = 100_000
        async with Listening(wait) as server:
            reader = await server.connect(GET * n_requests)
            await until(lambda: server.state.connections and server.all.n_bytes > 65_536)
            for _ in range(100):
                await asyncio.sleep(0)
            assert server.all.n_bytes < 4 * 65_536
            assert len(server.state.tasks) == 1
            go.set()
            for _ in range(100):
                assert (await reader.readuntil(b"\r\n\r\naa")).startswith(b"HTTP/1.1 200")

    asyncio.run(main())


@pytest.mark.hostile("slow readers")
@pytest.mark.parametrize("leaving", [False, True])
def test_a_client_that_never_reads_its_answer_is_disconnected(
    leaving: bool, monkeypatch: pytest.MonkeyPatch, attack: Attack
) -> None:
    """Also one that has sent more requests, and sooner where the server is to stop."""
    monkeypatch.setattr(protocol_module, "READ_TIMEOUT_S", 600 if leaving else 0.05)
    monkeypatch.setattr(protocol_module, "READ_TIMEOUT_WHEN_LEAVING_S", 0.05)
    n_clients = attack.cases(3, 20)

    async def main() -> None:
        async with Listening() as server:
            asked = GET.replace(b"/ ", b"/long ") + GET * 100
            for _ in range(n_clients):
                await server.connect(asked, limit=1)
            await until(lambda: server.state.total_requests >= n_clients)
            if leaving:
                await until(lambda: server.all.n_bytes > n_clients * 1_000_000)
                server.state.lingers = True  # type: ignore[attr-defined]
                for protocol in list(server.state.connections):
                    protocol.shutdown()
            await until(lambda: not server.state.connections)
            assert server.all.n_bytes == 0
            await until(lambda: not server.state.tasks)

    asyncio.run(main())
    attack.tried(n_clients)


def test_an_unread_answer_counts() -> None:
    async def main() -> None:
        async with Listening() as server:
            reader = await server.connect(GET.replace(b"/ ", b"/long "))
            await until(lambda: server.all.n_bytes > 1_000_000)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"200" in head and len(await reader.readexactly(ANSWER_BYTES)) == ANSWER_BYTES
            await until(lambda: server.all.n_bytes == 0)

    asyncio.run(main())


@pytest.mark.hostile("out of descriptors")
def test_connections_have_a_limit() -> None:
    async def main() -> None:
        async with Listening() as server:
            server.all.most = 2
            readers = [await server.connect(b"") for _ in range(2)]
            await until(lambda: len(server.state.connections) == 2)
            third = await server.connect(GET)
            answer = await third.read()
            assert answer == b"" or answer.startswith(b"HTTP/1.1 503")  # none where the reset came first
            next(iter(server.state.connections)).transport.close()
            await until(lambda: len(server.state.connections) == 1)
            fourth = await server.connect(GET)
            assert (await fourth.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
            assert len(readers) == 2

    asyncio.run(main())


def test_the_limit_leaves_room_below_that_of_the_system() -> None:
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 0 < Connections().most < most


@pytest.mark.parametrize("most", [1, 64, 2**16, 2**20])
def test_our_limit_stays_however_high_the_systems_is(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (most, most))
    assert 1 <= Connections().most <= min(most, connections_module.MAX_CONNECTIONS)
    assert most < 2**16 or Connections().most == connections_module.MAX_CONNECTIONS


@pytest.mark.hostile("out of descriptors")
def test_running_out_of_descriptors_floods_no_log(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        connections_of(ServerState(), loop)
        for _ in range(1000):
            loop.call_exception_handler({"message": "accept", "exception": OSError(errno.EMFILE, "too many")})
        loop.call_exception_handler({"message": "another thing", "exception": OSError(errno.EIO, "broken")})

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert [record.getMessage().split("\n")[0] for record in caplog.records] == [
        "out of file descriptors",
        "another thing",
    ]


LIMITED = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"


@pytest.mark.hostile("out of descriptors")
def test_a_real_server_out_of_descriptors_recovers(tiny_bundle: Path, tmp_path: Path, attack: Attack) -> None:
    n_clients = attack.cases(0, 90)
    if not n_clients:
        pytest.skip("takes a server of its own; run with --long")
    (tmp_path / "sitecustomize.py").write_text(LIMITED)
    with started(tiny_bundle, tmp_path, PYTHONPATH=str(tmp_path)) as server:
        host, port = server.url.removeprefix("http://").split(":")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            clients = [socket.create_connection((host, int(port)), timeout=60) for _ in range(n_clients)]
            time.sleep(3)
            for client in clients:
                client.close()
            attack.tried(n_clients)
        wait_until_ready(server)
        assert httpx.post(f"{server.url}/v1/predict", json={"texts": ["kind"]}, timeout=60).status_code == 200
        assert httpx.get(f"{server.url}/metrics", timeout=60).status_code == 200
        assert server.stop() == 0
    assert "Traceback" not in "".join(server.log)
    assert len(server.log) < 100


@pytest.mark.hostile("unfinished bodies (memory)")
@pytest.mark.parametrize("packed", [False, True])
def test_a_real_server_holds_400_unfinished_bodies(
    packed: bool, tiny_bundle: Path, tmp_path: Path, attack: Attack
) -> None:
    n_clients = attack.cases(0, 400)
    if not n_clients:
        pytest.skip("takes a server of its own; run with --long")
    body = b'{"texts": ["' + b"a" * 1_979_000
    sent = gzip.compress(body)[:-9] if packed else body
    head = b"POST /v1/predict HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 1980000\r\n"
    head += b"Content-Encoding: gzip\r\n\r\n" if packed else b"\r\n"
    with started(tiny_bundle, tmp_path) as server:
        (worker,) = workers_of(server)
        httpx.post(f"{server.url}/v1/predict", json={"texts": ["kind"]}, timeout=60)
        before = worker.memory_info().rss
        host, port = server.url.removeprefix("http://").split(":")
        clients = []
        most = 0
        for _ in range(n_clients):
            clients.append(socket.create_connection((host, int(port)), timeout=60))
            with suppress(OSError):
                clients[-1].sendall(head + sent)
            most = max(most, worker.memory_info().rss - before)
        assert httpx.post(f"{server.url}/v1/predict", json={"texts": ["fine"]}, timeout=60).status_code == 200
        most = max(most, worker.memory_info().rss - before)
        for client in clients:
            client.close()
    assert most < 110e6, f"{most / 1e6:.0f} MB more"
    attack.tried(n_clients)
