"""Databases that settings name by a URL: which can be, and how one is opened so that nobody else reads its file."""

import json
import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from moderation.errors import ArtifactError, ConfigError, MissingExtraError

_EXPECTED = "expected sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
_SECRETS = ("password", "sslpassword", "passfile")  # in the query part, where SQLAlchemy hides none
_SQLITE = ("sqlite", "sqlite+pysqlite")
_OWN = 0o600


def read_url(url: str) -> URL:
    """Read the URL of a database, and refuse what can never be one.

    Raises:
        ConfigError: not a URL, another kind of database, a port that is none, SQLite without a file.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        raise ConfigError(f"--feedback-url: not the URL of a database; {_EXPECTED}.") from None
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise ConfigError(f"--feedback-url: a database of kind {backend!r}; expected sqlite or postgresql.")
    if backend == "postgresql":
        _check_ports(parsed)
        return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed
    if parsed.drivername not in _SQLITE:
        raise ConfigError("--feedback-url: no such driver; expected sqlite:///FILE.")
    if parsed.database in (None, "", ":memory:") or str(parsed.database).startswith("file:"):
        raise ConfigError("--feedback-url: SQLite without a file would forget at once; expected sqlite:///FILE.")
    if parsed.host or "\0" in str(parsed.database):
        raise ConfigError("--feedback-url: SQLite is a file of this machine; expected sqlite:///FILE, with 3 slashes.")
    return parsed


def show_url(url: URL) -> str:
    """A URL for messages, without what is secret in it."""
    return url.difference_update_query(_SECRETS).render_as_string(hide_password=True)


def file_of(url: URL) -> Path | None:
    """The file of an SQLite database; None for another one."""
    return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None


def open_database(url: URL, wait_s: float) -> Engine:
    """An engine that connects at its first use, and waits for nothing much longer than `wait_s`.

    A file of SQLite is opened anew each time: a connection that is kept would go on writing to one that was removed.

    Raises:
        MissingExtraError: PostgreSQL without psycopg.
        ConfigError: no such driver.
    """
    path = file_of(url)
    limits: dict[str, Any] = (
        {"connect_args": {"timeout": wait_s}, "poolclass": NullPool}
        if path is not None
        else {
            "connect_args": {"connect_timeout": wait_s, "options": f"-c statement_timeout={1000 * wait_s:.0f}"},
            "pool_timeout": wait_s,
            "pool_pre_ping": True,
        }
    )
    try:
        engine = create_engine(
            url, hide_parameters=True, json_serializer=partial(json.dumps, ensure_ascii=False), **limits
        )
    except ImportError:
        raise MissingExtraError(f"Feedback by {url.drivername}", "serve-postgres") from None
    except ArgumentError:
        raise ConfigError("--feedback-url: no such driver; expected postgresql+psycopg://...") from None
    if path is not None:
        event.listen(engine, "do_connect", lambda *_: _make_private(path))
        event.listen(engine, "connect", _read_while_others_write)
    return engine


def make_file(path: Path) -> None:
    """Make the file of an SQLite database where there is none, and let nobody but its owner read it.

    Raises:
        ArtifactError: no such folder, a folder in its place, or it may not be written.
    """
    if path.is_dir():
        raise ArtifactError(f"{path}: a folder; expected a file of SQLite, or one that can be made there.")
    if not path.parent.is_dir():
        raise ArtifactError(f"{path}: there is no folder {path.parent}. Make it first, or name another file.")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, _OWN))
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be written ({error.strerror}). Choose a folder that this user may write to."
        ) from None
    for one in (path, *(path.with_name(path.name + more) for more in ("-wal", "-shm"))):
        with suppress(OSError):  # not there, or somebody else's
            if one.stat().st_mode & 0o777 != _OWN and one.is_file():
                one.chmod(_OWN)


def _make_private(path: Path) -> None:
    """Before SQLite makes the file: with the rights that it should have, which SQLite gives to those beside it too."""
    with suppress(OSError):  # it is there; where it cannot be made, SQLite says so
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _OWN))
        path.chmod(_OWN)


def _check_ports(url: URL) -> None:
    given = url.query.get("port", ())
    ports = [str(url.port)] if url.port is not None else []
    ports += [port for ports in ([given] if isinstance(given, str) else given) for port in ports.split(",") if port]
    wrong = [port for port in ports if not (port.isdecimal() and len(port) < 6 and 1 <= int(port) <= 65535)]
    if wrong:
        raise ConfigError(f"--feedback-url: {', '.join(wrong)[:40]} is no port; expected 1 to 65535.")


def _read_while_others_write(connection: Any, record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
