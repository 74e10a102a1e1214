"""Everything that the server uses of uvicorn; no other module imports it.

uvicorn does not promise to keep much of it. `tests/serving/test_uvicorn_hooks.py` names each part and checks that it
exists and does what the server needs, so a uvicorn version that changes one fails there. Once it passes with a new
version, widen the bound in `pyproject.toml`.
"""

import asyncio
import signal
import socket
from collections.abc import Callable
from typing import Any, Self

from uvicorn import Config, Server
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState
from uvicorn.supervisors.multiprocess import Process

__all__ = [
    "HIGH_WATER_LIMIT",
    "STARTUP_FAILURE",
    "STATUS_LINE",
    "Config",
    "HttpToolsProtocol",
    "Process",
    "RunningServer",
    "ServerState",
    "keep_idle_connections",
    "keeps_idle_connections",
]


class RunningServer:
    """The uvicorn server of this process, with what is needed to stop it.

    Args:
        server: The server.
        end: Stops it, as uvicorn does at a signal.
    """

    def __init__(self, server: Server, end: Callable[[int, None], object]) -> None:
        self._server, self._end = server, end

    @classmethod
    def find(cls) -> Self | None:
        """The server that handles this process's SIGTERM; None: another server does, or nobody."""
        handler: Any = signal.getsignal(signal.SIGTERM)
        server = getattr(handler, "__self__", None)
        return cls(server, handler) if isinstance(server, Server) else None

    @property
    def is_listening(self) -> bool:
        """Whether it has started: the application is ready, and connections are accepted."""
        return self._server.started

    @property
    def state(self) -> ServerState:
        """The state that all its connections share."""
        return self._server.server_state

    @property
    def listeners(self) -> list[asyncio.Server]:
        """The sockets on which it listens, once it has started."""
        return self._server.servers

    def take_back_stop(self) -> bool:
        """Clear a stop signal that came while the application started; return whether one did."""
        was_asked = self._server.should_exit
        self._server.should_exit = False
        return was_asked

    def end(self) -> None:
        """Stop listening, answer requests in flight, and end the application."""
        self._end(signal.SIGTERM, None)

    async def serve(self, connection: socket.socket) -> None:
        """Answer a connection, as if it had been accepted by the server itself.

        Raises:
            OSError: the connection is broken.
        """
        connection.setblocking(False)
        config, state, lifespan = self._server.config, self._server.server_state, self._server.lifespan
        protocol: Any = config.http_protocol_class
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: protocol(config=config, server_state=state, app_state=lifespan.state), connection
        )


def keep_idle_connections(state: ServerState) -> None:
    """From now on a connection is not closed at the server's end while a request may be on its way."""
    state.lingers = True  # type: ignore[attr-defined]  # uvicorn has no place for it


def keeps_idle_connections(state: ServerState) -> bool:
    """Whether `keep_idle_connections` was called."""
    return getattr(state, "lingers", False)
