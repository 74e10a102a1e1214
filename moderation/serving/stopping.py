"""How a worker ends without losing what was sent to it.

There are two ways to go. SIGTERM: the server stops, so it says "not ready" for a while first. `RETIRE`: another worker
has taken over, so this one stops listening at once, and nobody else notices.

In both, a connection that was made is answered: what the system has accepted for the socket is taken over before it is
closed, and no connection is closed while a request may be on its way.
"""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable
from typing import Any

from moderation.serving.moderator import Moderator

RETIRE = getattr(signal, "SIGUSR1", None)
"""Sent by the supervisor to a worker that was replaced; None: this system has no such signal."""

_MOMENT_S = 0.05

logger = logging.getLogger(__name__)


def stop_gracefully(moderator: Moderator, drain_s: float) -> None:
    """Take the signals of a worker's server, uvicorn, which has set up its own already.

    Args:
        moderator: Is told.
        drain_s: On SIGTERM, be "not ready" for so long before listening ends.
    """
    stop: Any = signal.getsignal(signal.SIGTERM)
    if not callable(stop):
        return
    loop = asyncio.get_running_loop()
    leaving: list[asyncio.Task[None]] = []

    def leave(number: int) -> None:
        if leaving:
            return
        moderator.leaving, moderator.draining = True, number == signal.SIGTERM
        server = getattr(stop, "__self__", None)
        leaving.append(loop.create_task(_leave(server, drain_s if moderator.draining else None, stop)))

    for number in filter(None, (signal.SIGTERM, RETIRE)):
        signal.signal(number, lambda number, frame: loop.call_soon_threadsafe(leave, number))
    if hasattr(signal, "SIGHUP"):  # a terminal sends it to all; the supervisor decides what it means
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


async def _leave(server: Any, drain_s: float | None, stop: Callable[[int, None], None]) -> None:
    """Stop listening after so many seconds (None: others go on listening to the same socket), then end the server."""
    try:
        server.server_state.lingers = True  # see BoundedProtocol.shutdown
        await asyncio.sleep(drain_s or 0.0)
        for listener in server.servers:
            _accept_no_more(listener)
        await asyncio.sleep(
            _MOMENT_S
        )  # a connection that asyncio has accepted, and not begun, would be lost at a close
        if drain_s is None:
            for listener in server.servers:
                listener.close()
            return
        for connection in [one for listener in server.servers for one in _close_listener(listener)]:
            await _serve(connection, server)
    except OSError as error:
        logger.warning("a connection was lost", extra={"error": error.strerror})
    finally:
        stop(signal.SIGTERM, None)


def _accept_no_more(listener: asyncio.Server) -> None:
    """Leave new connections to others who listen to the same socket, or to the system, which keeps them for later."""
    for one in listener.sockets:
        with contextlib.suppress(NotImplementedError):  # on Windows, whose loop goes about it in another way
            asyncio.get_running_loop().remove_reader(one.fileno())


def _close_listener(listener: asyncio.Server) -> list[socket.socket]:
    """Stop listening, and give the connections that the system has made by then: it would reset them."""
    connections = []
    sockets = [one.dup() for one in listener.sockets]
    listener.close()
    for one in sockets:
        with contextlib.closing(one), contextlib.suppress(OSError):  # the last error says that there are no more
            one.setblocking(False)
            while True:
                connections.append(one.accept()[0])
    return connections


async def _serve(connection: socket.socket, server: Any) -> None:
    """Let uvicorn answer a connection, as if it had accepted it."""
    connection.setblocking(False)
    config, state = server.config, server.server_state
    await asyncio.get_running_loop().connect_accepted_socket(
        lambda: config.http_protocol_class(config=config, server_state=state, app_state=server.lifespan.state),
        connection,
    )
