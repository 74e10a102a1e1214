"""What a server that is to stop does with its connections and its socket; without a process, so at any pace."""

import asyncio
import errno
import signal
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from moderation.serving.app import create_app
from moderation.serving.connection import protocol as protocol_module
from moderation.serving.connection.protocol import BoundedProtocol
from moderation.serving.processes import stopping
from moderation.serving.processes.stopping import RETIRE, STOP, _close_listener, _Leaving, stop_gracefully
from moderation.serving.state import state_of
from moderation.serving.uvicorn_hooks import Config, RunningServer, ServerState, keep_idle_connections

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\nok")


async def serve(state: ServerState) -> asyncio.Server:
    config = Config(answer, timeout_keep_alive=600, lifespan="off")
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: BoundedProtocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )


@pytest.mark.parametrize("asked_before", [False, True], ids=["silent so far", "kept"])
@pytest.mark.parametrize("lingers", [False, True], ids=["Ctrl-C", "SIGTERM"])
def test_only_ctrl_c_closes_an_idle_connection_at_once(
    asked_before: bool, lingers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol_module, "FIRST_REQUEST_WHEN_LEAVING_S", 600)
    monkeypatch.setattr(protocol_module, "HEAD_TIMEOUT_S", 600)

    async def main() -> None:
        state = ServerState()
        server = await serve(state)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        if asked_before:
            writer.write(REQUEST)
            await read_answer(reader)
        while not state.connections:
            await asyncio.sleep(0)
        if lingers:
            keep_idle_connections(state)
        for connection in list(state.connections):
            connection.shutdown()
        if lingers:
            writer.write(REQUEST)
            assert (await read_answer(reader)).startswith(b"HTTP/1.1 200")
        else:
            assert await reader.read() == b""
        writer.close()
        server.close()

    asyncio.run(main())


def test_a_connection_without_a_request_does_not_delay_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_module, "FIRST_REQUEST_WHEN_LEAVING_S", 0.01)
    monkeypatch.setattr(protocol_module, "HEAD_TIMEOUT_S", 600)

    async def main() -> None:
        state = ServerState()
        server = await serve(state)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        while not state.connections:
            await asyncio.sleep(0)
        keep_idle_connections(state)
        for connection in list(state.connections):
            connection.shutdown()
        assert await reader.read() == b""
        writer.close()
        server.close()

    asyncio.run(main())


def test_connections_accepted_by_the_system_are_taken_before_the_socket_closes() -> None:
    async def main() -> None:
        server = await serve(ServerState())
        where = server.sockets[0].getsockname()[:2]
        clients = [socket.create_connection(where) for _ in range(5)]  # nobody has accepted them: the loop is not asked
        for client in clients:
            client.sendall(REQUEST)
        taken = _close_listener(server)
        assert len(taken) == 5
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(where)
        for connection, client in zip(taken, clients, strict=True):
            assert connection.recv(1000) == REQUEST
            connection.close()
            client.close()

    asyncio.run(main())


def test_a_connection_that_breaks_while_it_is_taken_over_breaks_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    n_broken = 0

    serve_it = RunningServer.serve

    async def serve_or_break(server: RunningServer, connection: socket.socket) -> None:
        nonlocal n_broken
        if not n_broken:
            n_broken += 1
            raise OSError(errno.ECONNRESET, "reset")
        await serve_it(server, connection)

    monkeypatch.setattr(RunningServer, "serve", serve_or_break)

    async def main() -> None:
        state = ServerState()
        listener = await serve(state)
        clients = [socket.create_connection(listener.sockets[0].getsockname()[:2]) for _ in range(5)]
        for client in clients:
            client.sendall(REQUEST)
        server = SimpleNamespace(
            started=True,
            servers=[listener],
            server_state=state,
            lifespan=SimpleNamespace(state={}),
            config=Config(answer, timeout_keep_alive=600, lifespan="off", http=BoundedProtocol),
        )
        server.config.load()
        monkeypatch.setattr(stopping, "_accept_no_more", lambda listener, for_all: None)
        for bound in listener.sockets:
            asyncio.get_running_loop().remove_reader(bound.fileno())
        ended: list[int] = []
        running = RunningServer(server, lambda number, frame: ended.append(number))  # type: ignore[arg-type]
        leaving = _Leaving(running, SimpleNamespace(), 0.0)  # type: ignore[arg-type]
        await leaving._leave(0.0, others=False)
        assert ended == [signal.SIGTERM]
        broken, *others = clients
        for client in others:
            assert b"200 OK" in await asyncio.to_thread(client.recv, 1000)
        with pytest.raises(ConnectionResetError):
            await asyncio.to_thread(broken.recv, 1000)
        for client in clients:
            client.close()

    asyncio.run(main())


@pytest.mark.parametrize("handler", [signal.SIG_DFL, lambda number, frame: None, [].append])
def test_the_signals_of_another_server_than_uvicorn_are_left_alone(handler: Any) -> None:
    numbers = [signal.SIGTERM, *filter(None, (RETIRE, STOP)), signal.SIGHUP]
    before = signal.signal(signal.SIGTERM, handler)
    found = [signal.getsignal(number) for number in numbers]
    try:
        stop_gracefully(SimpleNamespace(), 0.0)  # type: ignore[arg-type]
        assert [signal.getsignal(number) for number in numbers] == found
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_stopping_server_announces_it_in_every_answer(tiny_bundle: Path) -> None:
    async def main() -> None:
        app = create_app(tiny_bundle, threads=1)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client,
        ):
            assert "connection" not in (await client.get("/livez")).headers
            service = state_of(app).service
            service.leaving = True
            for path, status in (("/livez", 200), ("/readyz", 200), ("/nowhere", 404)):
                found = await client.get(path)
                assert (found.status_code, found.headers["connection"]) == (status, "close")
            service.draining = True
            found = await client.get("/readyz")
            assert (found.status_code, found.json()["status"]) == (503, "draining")
            assert (await client.post("/v1/predict", json={"texts": ["kind"]})).status_code == 200

    asyncio.run(main())
