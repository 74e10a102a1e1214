"""Connections to PostgreSQL that give up a server from which nothing comes any more.

A connection may be lost without a word: a firewall forgets it, a server's machine is gone. The system's own limits are
minutes or hours. libpq's parameters cover a network that is silent, but not a proxy that takes everything and
answers nothing.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from psycopg import Connection
from sqlalchemy import Engine, event

# Of a connection that nobody uses: after 45 seconds without a sign of life it is over.
_KEEPALIVES = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 5, "keepalives_count": 3}
_LATE = 1.2  # times the limit of a statement: PostgreSQL itself reports one that takes too long


def limit_silence(engine: Engine, wait_s: float) -> None:
    """Have an engine's connections broken once their server is silent. What a URL sets itself is left as it is.

    Args:
        engine: Of PostgreSQL, before its first use.
        wait_s: Seconds after which PostgreSQL gives up a statement, and the network what it was sent.
    """
    limits = _KEEPALIVES | {"tcp_user_timeout": round(1000 * wait_s)}

    class Limited(Connection[Any]):
        def wait(self, *arguments: Any, **names: Any) -> Any:  # by which psycopg waits for all that is answered
            with _shut_after(self.fileno(), _LATE * wait_s):
                return super().wait(*arguments, **names)

    def connect(_dialect: object, _record: object, words: Any, names: Any) -> Connection[Any]:
        return Limited.connect(*words, **limits | names)

    event.listen(engine, "do_connect", connect)


@contextmanager
def _shut_after(descriptor: int, longest_s: float) -> Iterator[None]:
    """Shut a socket down if the block takes longer: whoever waits for it gets an error."""
    twin = socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM)  # of any family; closed, it names no other one

    def shut() -> None:
        with suppress(OSError):  # it is over
            twin.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(longest_s, shut)
    timer.daemon = True
    with twin:
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
