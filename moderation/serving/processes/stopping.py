"""How a worker ends without losing a request that was sent to it.

There are two ways to end. `STOP`: the server stops, so the worker first reports "not ready" for a while, and then
accepts no more connections. `RETIRE`: another worker has taken over, so this one stops listening at once, and clients
notice nothing. SIGTERM does not come from the supervisor. It ends this worker like `STOP`, but others may continue to
listen.

In every case established connections are answered: the worker takes over those that the system has accepted for the
socket before it closes the socket, and closes no connection while a request may be on its way.
"""

import asyncio
import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import socket
import struct
import sys

from moderation.serving.service import PredictionService
from moderation.serving.uvicorn_hooks import RunningServer, keep_idle_connections

RETIRE = getattr(signal, "SIGUSR1", None)
"""Sent by the supervisor to a worker that was replaced; None: this system does not have the signal."""

STOP = getattr(signal, "SIGUSR2", None)
"""Sent by the supervisor to all workers when the server stops."""

_MOMENT_S = 0.05

_SO_ATTACH_FILTER = 26
# A packet filter program: drops new connections (TCP packets with SYN and without ACK).
_DROP_WHO_BEGINS = b"".join(
    struct.pack("HBBI", *step)
    for step in (
        (0x30, 0, 0, 13),  # take byte 13 of the header: the flags
        (0x54, 0, 0, 0x12),  # keep SYN and ACK of them
        (0x15, 0, 1, 0x02),  # only SYN?
        (0x06, 0, 0, 0),  # drop it
        (0x06, 0, 0, 0xFFFFFFFF),  # let it through
    )
)

logger = logging.getLogger(__name__)


class _Leaving:
    """The end of one worker.

    Args:
        server: The server that listens.
        service: Its `leaving` and `draining` are set.
        drain_s: Seconds to report "not ready" before listening ends, unless others take over.
    """

    def __init__(self, server: RunningServer, service: PredictionService, drain_s: float) -> None:
        self._server, self._service, self._drain_s = server, service, drain_s
        self._task: asyncio.Task[None] | None = None
        self._is_last = False

    def begin(self, number: int) -> None:
        """Handle a signal; a later one changes only whether others continue to listen."""
        supervisor = multiprocessing.parent_process()
        is_orphan = supervisor is not None and not supervisor.is_alive()
        if is_orphan and not self._server.is_listening:
            os._exit(1)  # it has answered nobody, and another process may own the port already
        self._is_last = self._is_last or is_orphan or number == STOP
        if self._task is None:
            self._service.leaving, self._service.draining = True, number != RETIRE
            drain_s = 0.0 if is_orphan or number == RETIRE else self._drain_s
            self._task = asyncio.get_running_loop().create_task(self._leave(drain_s, others=number == RETIRE))

    async def _leave(self, drain_s: float, *, others: bool) -> None:
        """Stop listening after `drain_s` seconds, then end the server."""
        server = self._server
        try:
            while not server.is_listening:
                await asyncio.sleep(_MOMENT_S)
            keep_idle_connections(server.state)  # see BoundedProtocol.shutdown
            await asyncio.sleep(drain_s)
            for listener in server.listeners:
                _accept_no_more(listener, for_all=self._is_last)
            # Closing now would lose a connection that asyncio has accepted but not begun, or whose handshake is not
            # complete.
            await asyncio.sleep(_MOMENT_S)
            if others:
                for listener in server.listeners:
                    listener.close()
                return
            for connection in [one for listener in server.listeners for one in _close_listener(listener)]:
                try:
                    await server.serve(connection)
                except OSError as error:  # only this one is lost
                    connection.close()
                    logger.warning("a connection was lost", extra={"error": error.strerror})
        finally:
            server.end()


def stop_gracefully(service: PredictionService, drain_s: float) -> None:
    """Replace the signal handlers of a worker's uvicorn server; does nothing for another server.

    Args:
        service: Its `leaving` and `draining` are set.
        drain_s: On SIGTERM, report "not ready" for this long before listening ends.
    """
    server = RunningServer.find()
    if server is None:
        return
    loop = asyncio.get_running_loop()
    leaving = _Leaving(server, service, drain_s)

    def take(number: int, frame: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(leaving.begin, number)

    for number in filter(None, (signal.SIGTERM, RETIRE, STOP)):
        signal.signal(number, take)
    if hasattr(signal, "SIGHUP"):  # a terminal sends it to every process; only the supervisor acts on it
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if server.take_back_stop():  # a signal came while the model was loaded
        leaving.begin(signal.SIGTERM)


def _accept_no_more(listener: asyncio.Server, *, for_all: bool) -> None:
    """Leave new connections to other processes that listen on this socket, or to the system, which queues them.

    Args:
        listener: The socket.
        for_all: Whether nobody will accept any more: new clients wait a second and are then refused.
    """
    for one in listener.sockets:
        if for_all and sys.platform == "linux":  # elsewhere clients that connect just before the close are reset
            program = ctypes.create_string_buffer(_DROP_WHO_BEGINS)
            length = len(_DROP_WHO_BEGINS) // struct.calcsize("HBBI")
            with contextlib.suppress(OSError):  # not in every sandbox
                words = struct.pack("HP", length, ctypes.addressof(program))
                one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, words)
        with contextlib.suppress(NotImplementedError):  # on Windows, whose event loop has no readers
            asyncio.get_running_loop().remove_reader(one.fileno())


def _close_listener(listener: asyncio.Server) -> list[socket.socket]:
    """Stop listening, and return the connections that the system has accepted until then: it would reset them."""
    connections = []
    sockets = [one.dup() for one in listener.sockets]
    listener.close()
    for one in sockets:
        with contextlib.closing(one), contextlib.suppress(OSError):  # the last error says that there are no more
            one.setblocking(False)
            while True:
                connections.append(one.accept()[0])
    return connections
