"""The socket on which all workers listen."""

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
    """Yield a socket for the workers to listen on; port 0: any free port.

    Until they listen, a second server could bind the same address, so this one claims it.

    Raises:
        ConfigError: the address is not available.
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
    """Take an abstract socket name (no file) until this process ends.

    Raises:
        OSError: another process has it.
    """
    try:
        claim = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        claim.bind(f"\0{name}")
    except OSError as error:
        if is_taken(error):
            raise
        logger.debug("addresses cannot be claimed on this system", extra={"error": error.strerror})


def cannot_listen(host: str, port: int, error: Exception) -> ConfigError:
    """The error for an address that nobody can listen on, with its cure."""
    if isinstance(error, ValueError):  # from the codec for host names, or a character that they cannot have
        return ConfigError(f"--host {host[:80]!r} is not a host name; expected an address of this machine.")
    why = getattr(error, "strerror", None) or type(error).__name__
    return ConfigError(
        f"--host {host} --port {port}: cannot listen there ({why}). Is another server running? "
        "Choose another --port, or an address of this machine."
    )


def is_taken(error: Exception) -> bool:
    """Whether another process has the address."""
    return isinstance(error, OSError) and error.errno == errno.EADDRINUSE
