"""What all connections of a worker may hold together: bytes in memory, and descriptors of the operating system."""

import asyncio
import errno
import logging
import time
from pathlib import Path
from typing import Any

from moderation.serving.uvicorn_hooks import ServerState

MAX_HELD_BYTES = 64_000_000
"""Of requests that came and have no answer yet, and of answers that nobody has read yet."""

FREE_BYTES = 16_384
"""That a connection may hold even so: a short text is answered while large ones fill the memory."""

MAX_CONNECTIONS = 10_000
"""At once; fewer where the operating system allows fewer open files."""

_OTHER_FILES = 32  # that a worker may open beside its connections: databases, pages, metrics
_LOG_EVERY_S = 5.0

logger = logging.getLogger(__name__)


class Connections:
    """All connections of one server.

    Attributes:
        most: How many there may be.
        n_bytes: What they hold.
    """

    def __init__(self) -> None:
        self.most = _count_free_files()
        self.n_bytes = 0
        self._logged: dict[str, float] = {}

    def is_full(self) -> bool:
        """Whether nobody may hold more."""
        return self.n_bytes > MAX_HELD_BYTES

    def log(self, event: str, **facts: Any) -> None:
        """Write a line; one every few seconds, however often it happens."""
        kind, now = f"{event} {facts}", time.monotonic()
        if now - self._logged.get(kind, -_LOG_EVERY_S) >= _LOG_EVERY_S:
            self._logged[kind] = now
            logger.warning(event, extra=facts)

    def handle_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Take an error of the event loop, which would write a traceback for each connection that it cannot take."""
        if getattr(context.get("exception"), "errno", None) in (errno.EMFILE, errno.ENFILE):
            self.log("out of file descriptors", cure="a higher limit of open files (ulimit -n)")
        else:
            loop.default_exception_handler(context)


def connections_of(state: ServerState, loop: asyncio.AbstractEventLoop) -> Connections:
    """Those of a server.

    Args:
        state: What uvicorn keeps of the server.
        loop: Of its connections; tells of those that it could not take.
    """
    found: Connections | None = getattr(state, "all_connections", None)
    if found is None:
        found = Connections()
        state.all_connections = found  # type: ignore[attr-defined]  # uvicorn has no place for it
        loop.set_exception_handler(found.handle_error)
    return found


def _count_free_files() -> int:
    """Connections for which there are file descriptors."""
    try:
        import resource
    except ImportError:  # Windows
        return MAX_CONNECTIONS
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    try:
        n_open = sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        n_open = 0
    return min(MAX_CONNECTIONS, max(1, most // 4, most - n_open - _OTHER_FILES))
