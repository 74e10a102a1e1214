"""Redis and Valkey servers that settings name by a URL: which URLs are valid, and why a server cannot be reached.

Messages show only the host, port and database of a URL, or the path of its socket: anything else may be part of a
password.
"""

import re
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis import ConnectionPool
from redis import exceptions as told
from redis.backoff import NoBackoff
from redis.retry import Retry

from moderation.errors import ConfigError
from moderation.serving.limits.redis_connections import (
    BoundedConnection,
    BoundedTlsConnection,
    BoundedUnixConnection,
)

_EXPECTED = (
    "expected redis://:PASSWORD@HOST:6379/0, rediss://... for TLS, or unix:///run/redis/redis.sock?db=0; in a user "
    "name or a password write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25"
)
_PLAIN, _TLS = ("redis", "valkey"), ("rediss", "valkeys")
_UNIX = ("unix", "redis+unix", "valkey+unix")
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_PORT = 6379
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_DATABASE = re.compile(r"[0-9]{1,5}")

_CLOSED = "the connection was closed: is it Redis or Valkey, and does it speak TLS where the URL says so?"
_FOREIGN = "another program wrote the counts there"
_CAUSES: tuple[tuple[type[Exception], str], ...] = (
    (TimeoutError, "no answer in time"),
    (told.TimeoutError, "no answer in time"),
    (told.AuthenticationError, "the server requires another user or password"),
    (told.NoPermissionError, "the server does not let this user run the commands, or use the keys"),
    (told.ReadOnlyError, "the server does not accept writes: is it a replica?"),
    (told.OutOfMemoryError, "the server has no memory left"),
    (told.BusyLoadingError, "the server is starting up"),
    (told.InvalidResponse, "what listens there is neither Redis nor Valkey"),
    (told.ResponseError, "the server answers with an error: try redis-cli there"),
    (ssl.SSLCertVerificationError, "the server's certificate is not trusted, or is another host's"),
    (ssl.SSLError, "no agreement on TLS"),
    (ConnectionResetError, _CLOSED),
    (ConnectionRefusedError, "connection refused: no server listens there"),
    (FileNotFoundError, "no server has its socket there"),
    (PermissionError, "this user may not use the socket"),
    (socket.gaierror, "no such host"),
    (UnicodeDecodeError, _FOREIGN),
    (UnicodeError, "no such host"),  # its name cannot be encoded
    (OSError, "the host cannot be reached"),
    (ValueError, _FOREIGN),
    (ArithmeticError, _FOREIGN),
)
"""Exception of the client -> our message: its own may repeat anything."""


@dataclass(frozen=True)
class RedisServer:
    """A server, as a URL names it.

    Args:
        name: For messages, without user and password.
        kind: Class of its connections.
        options: Arguments of that class; they hold the password.
    """

    name: str
    kind: type[Any]
    options: dict[str, Any] = field(repr=False)


def read_redis_url(url: str, setting: str) -> RedisServer:
    """Read the URL of a server.

    Args:
        url: As users write it; `valkey` means the same as `redis`.
        setting: Name of the setting, for messages.

    Raises:
        ConfigError: it names no server, or is ambiguous.
    """
    parts = _split(url, setting)
    query = _read_query(parts, setting)
    login = {"username": unquote(parts.username or "") or None, "password": unquote(parts.password or "") or None}
    if parts.scheme in _UNIX:
        path = unquote(parts.path)
        if not path.startswith("/") or "@" in path or parts.hostname or not path.isprintable():
            raise ConfigError(f"{setting}: not the path of a socket; {_EXPECTED}.")
        options = {"path": path, "db": _read_database(query.get("db", "0"), setting)}
        return RedisServer(f"unix://{path} (database {options['db']})", BoundedUnixConnection, options | login)
    host, port = parts.hostname or "", parts.port or _PORT
    if not _HOST.fullmatch(host) or parts.port == 0:
        raise ConfigError(f"{setting}: no host, or no port; {_EXPECTED}.")
    options = {"host": host, "port": port}
    named = [words for words in (parts.path.removeprefix("/"), query.pop("db", "")) if words]
    options["db"] = _read_database("/".join(named) or "0", setting)  # two of them are not a number
    shown = f"[{host}]" if ":" in host else host
    kind = BoundedTlsConnection if parts.scheme in _TLS else BoundedConnection
    return RedisServer(f"{parts.scheme}://{shown}:{port}/{options['db']}", kind, options | query | login)


def open_pool(server: RedisServer, wait_s: float) -> ConnectionPool:
    """Connections, opened on use; each wait for the server lasts at most `wait_s`.

    `redis_connections.within` limits everything that a thread does with them.

    A DNS lookup takes as long as the system allows, so callers that must not wait for it use another thread. A
    connection that the server has closed meanwhile is opened again, once.
    """
    return ConnectionPool(
        connection_class=server.kind,
        socket_timeout=wait_s,
        socket_connect_timeout=wait_s,
        retry=Retry(NoBackoff(), 1, (told.ConnectionError,)),
        client_name="moderation",
        **server.options,
    )


def tell_cause(error: BaseException) -> str:
    """Why a server could not be reached or did not count, in our own words."""
    chain = (error, error.__cause__, error.__context__)
    found = (cause for one in chain for kind, cause in _CAUSES if isinstance(one, kind))
    unknown = _CLOSED if isinstance(error, told.RedisError) else f"an unexpected {type(error).__name__}"
    return next(found, unknown)


def _split(url: str, setting: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if it is invalid
    except ValueError:
        raise ConfigError(f"{setting}: not the URL of a server; {_EXPECTED}.") from None
    if parts.scheme not in (*_PLAIN, *_TLS, *_UNIX):
        raise ConfigError(f"{setting}: unknown kind of URL; {_EXPECTED}.")
    if "#" in url or not url.isprintable() or " " in url:
        raise ConfigError(f"{setting}: contains a '#', a blank or a control character; {_EXPECTED}.")
    return parts


def _read_query(parts: SplitResult, setting: str) -> dict[str, str]:
    """The parameters after '?': the database, and files for TLS."""
    known = ("db", *(_TLS_FILES if parts.scheme in _TLS else ()))
    query = parse_qsl(parts.query, keep_blank_values=True)
    if len({name for name, _ in query}) < len(query) or any(name not in known for name, _ in query):
        raise ConfigError(f"{setting}: after '?' expected {', '.join(known)}, each at most once, and nothing else.")
    for name, value in query:
        if name in _TLS_FILES and not Path(value).is_file():
            raise ConfigError(f"{setting}: {name} is not a file; expected the path of a PEM file.")
    return dict(query)


def _read_database(words: str, setting: str) -> int:
    if not _DATABASE.fullmatch(words):
        raise ConfigError(f"{setting}: the database is not a number; {_EXPECTED}.")
    return int(words)
