"""Limits for all connections of a worker together: bytes in memory, and file descriptors."""

import asyncio
import errno
import logging
import time
from pathlib import Path
from typing import Any

from moderation.serving.uvicorn_hooks import ServerState

MAX_HELD_BYTES = 64_000_000
"""Maximum total size of requests that are not answered yet and of answers that clients have not read yet."""

FREE_BYTES = 16_384
"""A connection may always hold this much: short texts are answered even while large ones fill the memory."""

MAX_CONNECTIONS = 10_000
"""Maximum number of connections; fewer if the operating system allows fewer open files."""

_OTHER_FILES = 32  # that a worker may open in addition to its connections: databases, pages, metrics
_LOG_EVERY_S = 5.0

logger = logging.getLogger(__name__)


class Connections:
    """All connections of one server.

    Attributes:
        most: Maximum number of connections.
        n_bytes: Bytes that they hold.
    """

    def __init__(self) -> None:
        self.most = _count_free_files()
        self.n_bytes = 0
        self._logged: dict[str, float] = {}

    def is_full(self) -> bool:
        """Whether connections may not hold more."""
        return self.n_bytes > MAX_HELD_BYTES

    def log(self, event: str, **facts: Any) -> None:
        """Log an event, at most once every few seconds."""
        kind, now = f"{event} {facts}", time.monotonic()
        if now - self._logged.get(kind, -_LOG_EVERY_S) >= _LOG_EVERY_S:
            self._logged[kind] = now
            logger.warning(event, extra=facts)

    def handle_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an event loop error: by default it would log a traceback for each connection that it cannot accept."""
        if getattr(context.get("exception"), "errno", None) in (errno.EMFILE, errno.ENFILE):
            self.log("out of file descriptors", cure="raise the limit of open files (ulimit -n)")
        else:
            loop.default_exception_handler(context)


def connections_of(state: ServerState, loop: asyncio.AbstractEventLoop) -> Connections:
    """The connections of a server.

    Args:
        state: uvicorn's state of the server.
        loop: Its event loop, which reports connections that it could not accept.
    """
    found: Connections | None = getattr(state, "all_connections", None)
    if found is None:
        found = Connections()
        state.all_connections = found  # type: ignore[attr-defined]  # uvicorn has no place for it
        loop.set_exception_handler(found.handle_error)
    return found


def _count_free_files() -> int:
    """Number of connections for which there are file descriptors."""
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
