"""Connections to Redis or Valkey that give up on a server that answers too slowly, or with too much.

The client's own timeout limits each wait for some bytes. A server that sends one byte now and then could block a thread
forever, and one that announces a large answer could fill the memory.
"""

import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import Connection, InvalidResponse, SSLConnection, UnixDomainSocketConnection

MOST_ANSWER_BYTES = 65_536
"""Maximum size of the answer to one command; the commands used here get a few hundred bytes."""

_local = threading.local()  # `end`: when this thread must be done with its connections


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Limit the total time that this thread may send and receive in the block, on all connections."""
    _local.end = time.monotonic() + seconds
    try:
        yield
    finally:
        _local.end = math.inf


class _BoundedSocket:
    """A connected socket with limits; it has the methods that the client uses.

    Args:
        connected: The socket.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._connected = connected
        self._timeout = connected.gettimeout()
        self._n_received = 0

    def settimeout(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._connected.settimeout(timeout)

    def sendall(self, content: bytes) -> None:
        self._n_received = 0
        self._limit_wait()
        self._connected.sendall(content)

    def recv(self, *arguments: Any) -> bytes:
        self._limit_wait()
        received = self._connected.recv(*arguments)
        self._count(len(received))
        return received

    def recv_into(self, *arguments: Any) -> int:
        self._limit_wait()
        n_received = self._connected.recv_into(*arguments)
        self._count(n_received)
        return n_received

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connected, name)

    def _limit_wait(self) -> None:
        """Have the next wait end when the time of `within` is up.

        Raises:
            TimeoutError: it is up.
        """
        left = getattr(_local, "end", math.inf) - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if self._timeout != 0:  # 0: non-blocking
            shortest = min(left, math.inf if self._timeout is None else self._timeout)
            self._connected.settimeout(None if math.isinf(shortest) else shortest)

    def _count(self, n_bytes: int) -> None:
        self._n_received += n_bytes
        if self._n_received > MOST_ANSWER_BYTES:
            raise InvalidResponse("an answer that is too long")


class _Bounded:
    """Gives a connection of the client a bounded socket."""

    def _connect(self) -> _BoundedSocket:
        return _BoundedSocket(super()._connect())  # type: ignore[misc]  # of the next base class


class BoundedConnection(_Bounded, Connection):
    """Over TCP."""


class BoundedTlsConnection(_Bounded, SSLConnection):
    """Over TCP, with TLS."""


class BoundedUnixConnection(_Bounded, UnixDomainSocketConnection):
    """Over a Unix socket."""
