"""SQLite and PostgreSQL by one URL, with their own drivers: a connection per use, and errors that quote nothing."""

import importlib
import os
import re
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from moderation.errors import ArtifactError, ConfigError, MissingExtraError

_CONNECTIONS = 15  # of one process at once
_ROWS_AT_ONCE = 1000
_OWN = 0o600
_EXPECTED = "expected sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
_CATEGORIES = (
    "DataError", "IntegrityError", "InternalError", "NotSupportedError", "OperationalError", "ProgrammingError",
)  # fmt: skip


class DatabaseError(Exception):
    """The database refused or was out of reach; the text is the kind of error and the database's code, never a row."""


class Database:
    """A database by its URL. Nothing is opened before it is used; threads and processes may share it.

    Args:
        url: `sqlite:///FILE`, or `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`.
        wait_s: Seconds to wait for a connection, a lock, or PostgreSQL's answer.

    Attributes:
        name: The URL without its password.
        path: Of the SQLite file; None: PostgreSQL.

    Raises:
        ConfigError: a URL that cannot be read, or of another kind of database.
        MissingExtraError: PostgreSQL without psycopg.
    """

    def __init__(self, url: str, wait_s: float) -> None:
        parts = _split(url)
        self.wait_s = wait_s
        self.name = _without_password(url, parts)
        self.path = _sqlite_path(url, parts) if parts.scheme.startswith("sqlite") else None
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        self._driver: Any = sqlite3
        self._address = ""
        if self.path is None:
            self._driver, self._address = _read_postgres(url, parts)

    def write(self, query: str, row: Mapping[str, Any] | None = None) -> None:
        """Run one statement; it is on disk when this returns.

        Args:
            query: With `:name` where a value of the row belongs.
            row: Name -> value.

        Raises:
            DatabaseError: it could not be run.
        """
        with self._connected() as connection:
            connection.execute(*self._worded(query, row or {}))

    def try_out(self, query: str, row: Mapping[str, Any]) -> None:
        """Run a statement and take it back.

        Raises:
            DatabaseError: it could not be run.
        """
        with self._connected() as connection:
            connection.execute("BEGIN")
            connection.execute(*self._worded(query, row))
            connection.execute("ROLLBACK")

    def columns(self, table: str) -> set[str]:
        """Names of a table's columns; none where there is no table.

        Raises:
            DatabaseError: it could not be read.
        """
        if self.path is not None:
            return {str(row[1]) for row in self.read(f"PRAGMA table_info({table})")}
        query = (
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped"
        )
        return {str(row[0]) for row in self.read(query, {"name": table})}

    def read(self, query: str, row: Mapping[str, Any] | None = None) -> Iterator[Sequence[Any]]:
        """Rows of a query, some at a time, so that a table of any size fits the memory.

        Raises:
            DatabaseError: it could not be read.
        """
        with self._connected() as connection:
            if self.path is not None:
                yield from connection.execute(*self._worded(query, row or {}))
                return
            with connection.transaction(), connection.cursor(name="rows") as cursor:
                cursor.itersize = _ROWS_AT_ONCE
                yield from cursor.execute(*self._worded(query, row or {}))

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        if not self._free.acquire(timeout=self.wait_s):
            raise DatabaseError("too many at once")
        try:
            connection = self._connect()
            try:
                yield connection
            finally:
                connection.close()
        except self._driver.Error as error:
            raise DatabaseError(_kind(error)) from None
        finally:
            self._free.release()

    def _connect(self) -> Any:
        if self.path is not None:
            _make_private(self.path)
            connection = sqlite3.connect(self.path, timeout=self.wait_s, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode=WAL")  # to read while others write
            except sqlite3.Error:
                connection.close()
                raise
            return connection
        limits = {
            "connect_timeout": max(1, round(self.wait_s)),
            "options": f"-c statement_timeout={1000 * self.wait_s:.0f}",
        }
        return self._driver.connect(self._address, autocommit=True, **limits)

    def _worded(self, query: str, row: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """The query with the driver's own marks for values; SQLite's are as we write them."""
        return (query if self.path is not None else re.sub(r"(?<!:):(\w+)", r"%(\1)s", query)), row


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


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if not parts.scheme or "://" not in url:
        raise ConfigError(f"--feedback-url: not the URL of a database; {_EXPECTED}.")
    kind, _, driver = parts.scheme.partition("+")
    if kind not in ("sqlite", "postgresql"):
        raise ConfigError(f"--feedback-url: a database of kind {kind!r}; expected sqlite or postgresql.")
    if driver not in {"sqlite": ("", "pysqlite"), "postgresql": ("", "psycopg")}[kind]:
        raise ConfigError("--feedback-url: no such driver; expected postgresql+psycopg://..., or sqlite:///...")
    return parts


def _sqlite_path(url: str, parts: SplitResult) -> Path:
    name = url.partition("://")[2].removeprefix("/")
    if parts.netloc or "\0" in name:
        raise ConfigError("--feedback-url: SQLite is a file of this machine; expected sqlite:///FILE, with 3 slashes.")
    if name in ("", ":memory:") or name.startswith("file:"):
        raise ConfigError("--feedback-url: SQLite without a file would forget at once; expected sqlite:///FILE.")
    if "?" in name:
        raise ConfigError("--feedback-url: SQLite takes a file alone, nothing behind a '?'; expected sqlite:///FILE.")
    return Path(name)


def _read_postgres(url: str, parts: SplitResult) -> tuple[Any, str]:
    try:
        psycopg: Any = importlib.import_module("psycopg")
    except ImportError:
        raise MissingExtraError("Feedback by PostgreSQL", "serve-postgres") from None
    address = f"postgresql{url[len(parts.scheme) :]}"
    try:
        named = psycopg.conninfo.conninfo_to_dict(address)
    except psycopg.Error:  # whose words may hold the password
        raise ConfigError(
            f"--feedback-url: not the URL of a database of PostgreSQL; {_EXPECTED}, with %xx for what is special there."
        ) from None
    ports = [port for port in str(named.get("port", "")).split(",") if port]
    wrong = [port for port in ports if not (port.isdecimal() and len(port) < 6 and 1 <= int(port) <= 65535)]
    if wrong:
        raise ConfigError(f"--feedback-url: {', '.join(wrong)[:40]} is no port; expected 1 to 65535.")
    return psycopg, address


def _without_password(url: str, parts: SplitResult) -> str:
    shown = url
    if "@" in parts.netloc:
        user, _, host = parts.netloc.rpartition("@")
        name, colon, _ = user.partition(":")
        shown = url.replace(parts.netloc, f"{name}:***@{host}" if colon else parts.netloc, 1)
    return re.sub(r"([?&](?:\w*password|passfile)=)[^&]*", r"\1***", shown)


def _kind(error: Exception) -> str:
    """Category of an error as Python's database interface names it, and the database's own code for it."""
    names = [kind.__name__ for kind in type(error).__mro__]
    category = next((name for name in names if name in _CATEGORIES), names[0])
    code = getattr(error, "sqlite_errorname", None) or getattr(error, "sqlstate", None)
    return " ".join(filter(None, [category, code]))
