"""Databases that settings name by a URL: which are valid, and how to open one so that nobody else reads its file."""

import errno
import json
import os
import re
import sqlite3
import stat
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from moderation.errors import ArtifactError, ConfigError, MissingExtraError

_EXPECTED = "expected sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
_SQLITE = ("sqlite", "sqlite+pysqlite")
_POSTGRESQL = ("postgresql", "postgresql+psycopg")
_SEVERAL = ("host", "port")  # parameters that may occur more than once
_NO_PORT = "the port is not valid; expected 1 to 65535."
_NOT_TAKEN = "--feedback-url: hosts, ports or parameters after '?' that PostgreSQL's client (libpq) does not accept."
_OWN = 0o600
_LONGEST_S = 30.0  # for all that SQLite does on one connection
_STEPS = 100_000  # of its virtual machine, between two looks at the clock
_LONGEST_VALUE = 1_000_000  # bytes; a decision has a quarter at most, but a computed column may have any size

UNREADABLE = object()
"""Stands for a value of a JSON column that is not JSON."""

_CAUSES = (
    (r"timeout expired", "no answer in time"),
    (r": connection refused", "connection refused: no server listens there"),
    (r": (network is unreachable|no route to host)", "the host cannot be reached"),
    (r"^(failed to resolve host|could not translate host name)", "no such host"),
    (r": (received invalid response|expected authentication|server closed)", "what listens there is not PostgreSQL"),
    (r"fatal: +\S+ authentication failed", "the server does not accept this user or password"),
    (r": fe_sendauth: no password", "the server requires a password"),
    (r"fatal: +no pg_hba.conf entry", "the server does not accept this user from this address"),
    (r'fatal: +role "', "the server does not know this user, or does not let it log in"),
    (r'fatal: +(permission denied for )?database "', "the server has no such database, or this user may not use it"),
    (r"fatal: +(sorry, too many|remaining connection slots)", "the server has too many connections"),
    (r"fatal: +the database system is", "the server is starting up or shutting down"),
    (r": no such file or directory", "no server has its socket there"),
    (r": (ssl|certificate|root certificate|server does not support ssl)", "no agreement on SSL"),
    (r"^connection is bad: invalid", "a parameter of the URL is not valid"),
)
"""Connection error of PostgreSQL's client, in lower case -> our message: the error itself may repeat any part of the
URL."""


def read_url(url: str) -> URL:
    """Read the URL of a database, and refuse one that can never work.

    Raises:
        ConfigError: not a URL, another kind of database, an invalid port, SQLite without a file.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(f"--feedback-url: not the URL of a database; {_EXPECTED}.") from None
    except ValueError:
        raise ConfigError(f"--feedback-url: {_NO_PORT}") from None
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise ConfigError(f"--feedback-url: a database of kind {backend[:40]!r}; expected sqlite or postgresql.")
    if backend == "postgresql":
        _check_postgresql(parsed)
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in _SQLITE:
        raise ConfigError("--feedback-url: no such driver; expected sqlite:///FILE.")
    if parsed.database in (None, "", ":memory:") or str(parsed.database).startswith("file:"):
        raise ConfigError("--feedback-url: SQLite without a file would lose everything; expected sqlite:///FILE.")
    if parsed.query:
        raise ConfigError("--feedback-url: SQLite takes no parameters here; expected sqlite:///FILE, without a '?'.")
    if parsed.host or "\0" in str(parsed.database):
        raise ConfigError("--feedback-url: SQLite is a file on this machine; expected sqlite:///FILE, with 3 slashes.")
    return parsed


def show_url(url: URL) -> str:
    """A URL for messages, without its password, and without its parameters: some of them are secret too."""
    return url.set(query={}).render_as_string(hide_password=True)


def tell_cause(error: Exception | None) -> str:
    """Why PostgreSQL could not be reached, in our own words; empty if unknown."""
    said = str(error).lower()
    return next((cause for pattern, cause in _CAUSES if re.search(pattern, said)), "")


def file_of(url: URL) -> Path | None:
    """The file of an SQLite database; None for other databases."""
    return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None


def open_database(url: URL, table: str, wait_s: float) -> Engine:
    """An engine that connects on first use, and waits for nothing much longer than `wait_s`.

    An SQLite file is opened again for each use: a kept connection would continue to write to a file that was removed.
    In a file that somebody else made, a view or a trigger may compute forever. So a view in place of the table is
    refused, and each connection has a time limit.

    Raises:
        MissingExtraError: PostgreSQL without psycopg.
        ConfigError: a parameter that PostgreSQL's client does not accept.
    """
    path = file_of(url)
    options = f"{url.query.get('options', '')} -c statement_timeout={1000 * wait_s:.0f}"
    limits: dict[str, Any] = (
        {"connect_args": {"timeout": wait_s}, "poolclass": NullPool}
        if path is not None
        else {
            "connect_args": {"connect_timeout": wait_s, "options": options},
            "pool_timeout": wait_s,
            "pool_pre_ping": True,
        }
    )
    try:
        engine = create_engine(
            url,
            hide_parameters=True,
            json_serializer=partial(json.dumps, ensure_ascii=False),
            json_deserializer=_read_json,
            **limits,
        )
    except ImportError:
        raise MissingExtraError(f"Feedback by {url.drivername}", "serve-postgres") from None
    except ArgumentError:
        raise ConfigError(_NOT_TAKEN) from None
    if path is not None:
        event.listen(engine, "do_connect", lambda *_: _prepare(path))
        event.listen(engine, "connect", _write_into_one_file)
        event.listen(engine, "connect", lambda connection, _: _limit_work(connection, path, table))
    else:
        from moderation.serving.feedback.postgresql import limit_silence

        _check_parameters(engine)
        limit_silence(engine, wait_s)
    return engine


def check_place(path: Path) -> None:
    """Check that this path can be an SQLite file.

    Raises:
        ArtifactError: its folder does not exist, or it is a folder itself.
    """
    if path.is_dir():
        raise ArtifactError(f"{path}: this is a folder; expected an SQLite file, or the path of a new one.")
    folder = Path(os.path.realpath(path)).parent  # of a link's target: SQLite and the lock would make files there
    if not folder.is_dir():
        raise ArtifactError(f"{path}: there is no folder {folder}. Make it first, or name another file.")


def make_file(path: Path) -> None:
    """Create the file of an SQLite database if it is missing, readable only by its owner.

    Raises:
        ArtifactError: it cannot be written.
    """
    try:
        _make_private(path)
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be written ({error.strerror}). Choose a folder that this user may write to."
        ) from None


def close_to_others(path: Path) -> None:
    """Let only its owner read the file of an SQLite database, and what an earlier version left next to it."""
    for one in (path, *(path.with_name(path.name + more) for more in ("-wal", "-shm"))):
        with suppress(OSError):  # missing, or somebody else's
            if one.stat().st_mode & 0o777 != _OWN and one.is_file():
                one.chmod(_OWN)


def _make_private(path: Path) -> None:
    """Create an empty file with the right permissions, which SQLite also gives to the files next to it.

    An existing file is not opened: closing it would release the locks that SQLite holds on it in this process.
    """
    path = Path(os.path.realpath(path))  # a link's target may not exist yet
    with suppress(FileExistsError):
        if sys.platform == "linux":
            os.mknod(path, stat.S_IFREG | _OWN)
        else:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _OWN))
        path.chmod(_OWN)


def _prepare(path: Path) -> None:
    with suppress(OSError):  # if it cannot be made, SQLite reports it
        _make_private(path)


def _check_postgresql(url: URL) -> None:
    if url.drivername not in _POSTGRESQL:
        raise ConfigError("--feedback-url: no such driver; expected postgresql+psycopg://...")
    if "@" in f"{url.host}{url.database}":  # part of the password, which messages would show
        raise ConfigError(
            "--feedback-url: more than one '@'. In a user name or a password write @ as %40, : as %3A, / as %2F and "
            "% as %25."
        )
    given = url.query.get("port", ())
    ports = ",".join([given] if isinstance(given, str) else given).split(",")
    ports = [port for port in ports if port] + ([str(url.port)] if url.port is not None else [])
    if not all(port.isdecimal() and len(port) < 6 and 1 <= int(port) <= 65535 for port in ports):
        raise ConfigError(f"--feedback-url: {_NO_PORT}")
    if any(not isinstance(value, str) for name, value in url.query.items() if name not in _SEVERAL):
        raise ConfigError("--feedback-url: a parameter occurs twice.")


def _check_parameters(engine: Engine) -> None:
    """Check that PostgreSQL's client knows the URL's parameters; it checks their values when it connects."""
    from psycopg.conninfo import make_conninfo

    try:
        _, names = engine.dialect.create_connect_args(engine.url)
        make_conninfo("", **{name: value for name, value in names.items() if name != "context"})  # SQLAlchemy's own
    except Exception:
        raise ConfigError(_NOT_TAKEN) from None


def _read_json(content: Any) -> Any:
    try:
        return json.loads(content)
    except (ValueError, TypeError, RecursionError):
        return UNREADABLE


def _write_into_one_file(connection: sqlite3.Connection, record: object) -> None:
    """Have a decision in the file itself when its transaction ends: a second file could get lost, and it as well."""
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("PRAGMA synchronous=EXTRA")
    connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")


def _limit_work(connection: sqlite3.Connection, path: Path, table: str) -> None:
    end = time.monotonic() + _LONGEST_S
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
    if connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'view' AND lower(name) = ?", [table]).fetchone():
        raise ArtifactError(f"{path}: {table} is a view there; expected a table. Name another database.")
