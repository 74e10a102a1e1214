"""The socket that all workers listen to."""

import errno
import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from moderation.errors import ConfigError

logger = logging.getLogger(__name__)


@contextmanager
def bind(host: str, port: int) -> Iterator[socket.socket]:
    """Give a socket for the workers to listen on; port 0: any that is free.

    Until they listen to it, a second server that starts could have the same address too: this one claims it.

    Raises:
        ConfigError: the address cannot be had.
    """
    with ExitStack() as opened:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            bound = opened.enter_context(socket.socket(family, kind, protocol))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            if sys.platform == "linux":
                _claim(f"moderation serve {bound.getsockname()[:2]}", opened)
        except (OSError, ValueError) as error:
            raise cannot_listen(host, port, error) from error
        bound.set_inheritable(True)
        yield bound


def _claim(name: str, opened: ExitStack) -> None:
    """Take a name, which has no file, until this process ends.

    Raises:
        OSError: another process has it.
    """
    try:
        claim = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        claim.bind(f"\0{name}")
    except OSError as error:
        if is_taken(error):
            raise
        logger.debug("no address can be claimed here", extra={"error": error.strerror})


def cannot_listen(host: str, port: int, error: Exception) -> ConfigError:
    """Why nobody can listen to an address, with the cure."""
    if isinstance(error, ValueError):  # of the codec for names of hosts, or a character that none may have
        return ConfigError(f"--host {host[:80]!r} is no name of a host; expected an address of this machine.")
    why = getattr(error, "strerror", None) or type(error).__name__
    return ConfigError(
        f"--host {host} --port {port}: cannot listen there ({why}). Is another server running? "
        "Choose another --port, or an address of this machine."
    )


def is_taken(error: Exception) -> bool:
    """Whether another process has the address."""
    return isinstance(error, OSError) and error.errno == errno.EADDRINUSE
