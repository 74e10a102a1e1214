"""What the server needs of uvicorn beyond what it promises: a version that changes any of it fails here, by name."""

import asyncio
import inspect
import signal
import socket
import tomllib
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from moderation.serving import uvicorn_hooks as hooks
from moderation.serving.connection.protocol import BoundedProtocol
from moderation.serving.uvicorn_hooks import Config, Process, RunningServer, ServerState
from tests.serving.wire import Wire

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"

# Attributes that objects of uvicorn have once they are at work, with the types that our code takes them for.
OF_PROTOCOL = {
    "loop": asyncio.AbstractEventLoop,
    "connections": set,
    "tasks": set,
    "server_state": ServerState,
    "expect_100_continue": bool,
}
OF_CYCLE = {
    "keep_alive": bool,
    "disconnected": bool,
    "response_started": bool,
    "response_complete": bool,
    "body": (bytes, bytearray),
    "message_event": asyncio.Event,
}
# Methods that our classes override, call, or are called by, with the parameters that we rely on.
METHODS: dict[Any, dict[str, list[str]]] = {
    hooks.HttpToolsProtocol: {
        "connection_made": ["self", "transport"],
        "connection_lost": ["self", "exc"],
        "data_received": ["self", "data"],
        "shutdown": ["self"],
        "pause_writing": ["self"],
        "resume_writing": ["self"],
        "on_message_begin": ["self"],
        "on_header": ["self", "name", "value"],
        "on_headers_complete": ["self"],
        "on_message_complete": ["self"],
        "on_response_complete": ["self"],
        "timeout_keep_alive_handler": ["self"],
        "_unset_keepalive_if_required": ["self"],
    },
    Process: {
        "__init__": ["self", "config", "sockets"],
        "target": ["self", "sockets"],
        "start": ["self"],
        "is_ready": ["self", "timeout"],
        "ping": ["self", "timeout"],
        "terminate": ["self"],
        "kill": ["self"],
        "join": ["self"],
    },
    uvicorn.Server: {"handle_exit": ["self", "sig", "frame"]},
}


async def say_nothing(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def test_the_version_is_the_one_that_this_file_was_written_for() -> None:
    """Only minor versions that passed are allowed: uvicorn changes its inside in any of them."""
    dependencies = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]["serve"]
    (bound,) = [word for word in dependencies if word.startswith("uvicorn")]
    minor = int(uvicorn.__version__.split(".")[1])
    assert bound == f"uvicorn>=0.{minor},<0.{minor + 1}"


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, methods in METHODS.items() for name in methods], ids=str
)
def test_a_method_is_there_with_its_parameters(kind: Any, name: str) -> None:
    method = getattr(kind, name, None)
    assert method is not None, f"uvicorn {uvicorn.__version__}: {kind.__name__}.{name} is gone"
    found = list(inspect.signature(method).parameters)
    assert found[: len(METHODS[kind][name])] == METHODS[kind][name], f"{kind.__name__}.{name} takes {found}"


def test_a_connection_holds_what_our_protocol_reads() -> None:
    async def main() -> None:
        config = Config(say_nothing, lifespan="off", log_config=None, proxy_headers=False)
        protocol = hooks.HttpToolsProtocol(config=config, server_state=ServerState(), app_state={})
        assert protocol.cycle is None, "before the first request"
        protocol.connection_made(Wire())  # type: ignore[arg-type]
        protocol.data_received(REQUEST)
        for owner, expected in ((protocol, OF_PROTOCOL), (protocol.cycle, OF_CYCLE)):
            for name, kind in expected.items():
                assert isinstance(getattr(owner, name, None), kind), f"{type(owner).__name__}.{name}"
        assert hasattr(protocol.cycle, "transport"), "ours stands in for it"
        assert (protocol.flow.read_paused, protocol.flow.write_paused) == (False, False)
        protocol.flow.pause_reading()
        protocol.flow.resume_reading()
        assert protocol in protocol.connections and hasattr(protocol.parser, "feed_data")
        protocol.connection_lost(None)
        assert protocol.cycle.disconnected and protocol not in protocol.connections
        for task in list(protocol.tasks):
            task.cancel()

    asyncio.run(main())


def test_status_lines_and_the_mark_for_reading() -> None:
    assert hooks.STATUS_LINE[503] == b"HTTP/1.1 503 Service Unavailable\r\n"
    assert hooks.HIGH_WATER_LIMIT == 65_536
    assert hooks.STARTUP_FAILURE > 0, "the supervisor takes it for the end of a worker that cannot start"


def test_the_server_takes_signals_itself_and_hands_its_protocol_connections() -> None:
    """What the end of a worker is made of: see `RunningServer`."""
    before = signal.getsignal(signal.SIGTERM)

    async def main() -> None:
        server = uvicorn.Server(Config(answer, port=0, http=BoundedProtocol, lifespan="off", log_config=None))
        assert RunningServer.find() is None
        work = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        running = RunningServer.find()
        assert running is not None and running.is_listening and len(running.listeners) == 1
        assert isinstance(running.state, ServerState) and not hooks.keeps_idle_connections(running.state)
        assert running.take_back_stop() is False
        ours, theirs = socket.socketpair()
        await running.serve(theirs)
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(ours, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await loop.sock_recv(ours, 1000)).startswith(b"HTTP/1.1 200 OK")
        hooks.keep_idle_connections(running.state)
        assert hooks.keeps_idle_connections(running.state)
        ours.close()
        running.end()
        assert running.take_back_stop() is True
        server.should_exit = True
        server._captured_signals.clear()  # or the signal would be raised again, here
        await asyncio.wait_for(work, 30)

    asyncio.run(main())
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_process_is_known_before_it_starts() -> None:
    process = Process(Config(answer, log_config=None), [])
    assert (process.pid, process.exitcode, process.process.is_alive()) == (None, None, False)
    assert process.is_ready(timeout=0) is False, "nobody answers"
    process.parent_conn.close()
    process.child_conn.close()
