"""Connections to PostgreSQL that time out when the server goes silent.

A connection may be lost unnoticed: a firewall drops it, or the server's machine is gone. The system's own timeouts are
minutes or hours. libpq's parameters cover a silent network, but not a proxy that accepts everything and answers
nothing.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from psycopg import Connection
from sqlalchemy import Engine, event

# An idle connection is closed after 45 seconds without a sign of life.
_KEEPALIVES = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 5, "keepalives_count": 3}
_LATE = 1.2  # times the statement timeout, so that PostgreSQL can report a slow statement itself


def limit_silence(engine: Engine, wait_s: float) -> None:
    """Break an engine's connections once their server goes silent. Parameters in the URL take precedence.

    Args:
        engine: Of PostgreSQL, before its first use.
        wait_s: Seconds after which PostgreSQL cancels a statement, and the network gives up unacknowledged data.
    """
    limits = _KEEPALIVES | {"tcp_user_timeout": round(1000 * wait_s)}

    class Limited(Connection[Any]):
        def wait(self, *arguments: Any, **names: Any) -> Any:  # psycopg waits for every response here
            with _shut_after(self.fileno(), _LATE * wait_s):
                return super().wait(*arguments, **names)

    def connect(_dialect: object, _record: object, words: Any, names: Any) -> Connection[Any]:
        return Limited.connect(*words, **limits | names)

    event.listen(engine, "do_connect", connect)


@contextmanager
def _shut_after(descriptor: int, longest_s: float) -> Iterator[None]:
    """Shut a socket down if the block takes longer, so that whoever waits for it gets an error."""
    twin = socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM)  # any family; after closing, hits no other

    def shut() -> None:
        with suppress(OSError):  # already closed
            twin.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(longest_s, shut)
    timer.daemon = True
    with twin:
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
