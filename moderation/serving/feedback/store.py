"""Moderators' decisions that clients send back, kept in a database: SQLite by default, PostgreSQL by its URL.

A database's error message may quote the row that it refused, and so a text. So only the kind of an error is passed on.
"""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import JSON, Column, Integer, MetaData, Select, String, Table, inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateTable

from moderation.errors import ArtifactError
from moderation.locks import claimed
from moderation.serving.feedback.databases import (
    check_place,
    close_to_others,
    file_of,
    make_file,
    open_database,
    read_url,
    show_url,
    tell_cause,
)
from moderation.serving.feedback.decisions import WAIT_S, Decision, OutcomeUnknownError, StoredDecision

CHECK_WITHIN_S = 6.0
"""Seconds that a check of the database may take; the DNS lookup of its host alone could take longer."""

_LOOK_AGAIN_S = 10.0  # after a check or a write that failed

_METADATA = MetaData()
_TABLE = Table(
    "feedback",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("received_at", String(32), nullable=False),  # UTC, ISO 8601
    Column("community_id", String),
    Column("client_token", String),
    Column("text_sha256", String(64), nullable=False),
    Column("text", JSON(none_as_null=True)),  # a JSON string: PostgreSQL's text type cannot hold NUL
    Column("attribute_scores", JSON, nullable=False),
    Column("label_scores", JSON, nullable=False),
    Column("languages", JSON, nullable=False),
    Column("model_version", String, nullable=False),
    Column("model_scores", JSON(none_as_null=True)),
)
_CREATE = CreateTable(_TABLE, if_not_exists=True)
_IDS_AT_ONCE = 500
_ROWS_AT_ONCE = 1000

logger = logging.getLogger(__name__)


class FeedbackStore:
    """The table `feedback` of a database, created on first use. Threads and processes may share it.

    Args:
        url: As SQLAlchemy writes it: `sqlite:///FILE`, or `postgresql+psycopg://USER@HOST/DATABASE`.

    Raises:
        ConfigError: an invalid URL, or one of another kind of database.
        MissingExtraError: PostgreSQL without psycopg.

    Example:
        store = FeedbackStore("sqlite:///feedback.db")
    """

    def __init__(self, url: str) -> None:
        self._url = read_url(url)
        self.name = show_url(self._url)
        self._engine = open_database(self._url, _TABLE.name, WAIT_S)
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._has_table = False
        self._works = True  # until a check or a write fails
        self._looked_at = 0.0

    def check(self) -> None:
        """Check that a decision could be stored, without storing one; a missing file or table is created.

        Raises:
            ArtifactError: it could not be stored, or there was no answer in time.
        """
        problems: list[Exception] = []

        def look() -> None:
            try:
                self._try_out()
            except Exception as error:
                problems.append(error)

        thread = threading.Thread(target=look, name="feedback", daemon=True)
        thread.start()
        thread.join(CHECK_WITHIN_S)
        self._looked_at = time.monotonic()
        self._works = not (thread.is_alive() or problems)
        if problems:
            raise problems[0]
        if thread.is_alive():
            raise ArtifactError(
                f"{self.name}: no answer within {CHECK_WITHIN_S:g} s. Check that its server runs and can be reached, "
                "and that nobody has locked it."
            )

    def look(self) -> None:
        """Like `check`, but log what is wrong instead of raising it."""
        try:
            self.check()
        except ArtifactError as error:
            logger.error("feedback cannot be stored", extra={"error": str(error)})

    def state(self) -> Literal["ready", "unavailable"]:
        """Whether decisions could be stored at the last check or write; after a failure, checks again now and then."""
        if not self._works and time.monotonic() - self._looked_at > _LOOK_AGAIN_S:
            self._looked_at = time.monotonic()
            threading.Thread(target=self.look, name="feedback again", daemon=True).start()
        return "ready" if self._works else "unavailable"

    def add(self, decision: Decision, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Store a decision; it is on disk when this returns.

        Args:
            decision: The decision.
            is_wanted: Called right before the commit; if it returns False, nothing is stored.

        Raises:
            ArtifactError: nothing is stored: the database cannot be reached, is locked or full.
            OutcomeUnknownError: it may be stored: the connection broke, or the file was moved, meanwhile.
        """
        is_begun = False

        def begin() -> bool:
            nonlocal is_begun
            is_begun = is_wanted()
            return is_begun

        with self._plain_errors("written"):
            try:
                if not self._put(decision, begin):
                    self._put_again(decision)
            except (SQLAlchemyError, ArtifactError, OSError) as error:
                if not is_begun or isinstance(error, OutcomeUnknownError) or _is_undone(error):
                    raise
                raise OutcomeUnknownError(
                    f"{self.name}: failed while a decision was committed ({_kind(error)}), which may be stored. Check "
                    "the connection to its server, or its disk."
                ) from None
        self._works = True

    def distrust(self) -> None:
        """Report that decisions cannot be stored, until one is stored or a check succeeds."""
        self._works, self._looked_at = False, time.monotonic()

    def decisions(self, unreadable: list[int] | None = None) -> Iterator[StoredDecision]:
        """All decisions without their texts, the oldest first.

        Args:
            unreadable: Collects the ids of rows that are not as this server writes them.

        Raises:
            ArtifactError: the database cannot be read, or does not exist.
        """
        names = ("id", "text_sha256", "text", "label_scores", "community_id", "client_token")
        columns = [_TABLE.c[name] for name in names]
        query = _TABLE.select().with_only_columns(*columns).order_by(_TABLE.c.id).limit(_ROWS_AT_ONCE)
        rows: Sequence[Any] = self._read(query)
        while rows:
            for row in rows:
                found = _as_decision(row)
                if found is not None:
                    yield found
                elif unreadable is not None:
                    unreadable.append(row.id)
            rows = self._read(query.where(_TABLE.c.id > rows[-1].id))

    def texts(self, ids: Sequence[int]) -> Iterator[tuple[int, str]]:
        """Texts of the decisions that have one, each with its id, in the order of `ids`.

        Raises:
            ArtifactError: the database cannot be read.
        """
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = ids[start : start + _IDS_AT_ONCE]
            query = _TABLE.select().with_only_columns(_TABLE.c.id, _TABLE.c.text).where(_TABLE.c.id.in_(some))
            found = {row.id: row.text for row in self._read(query)}
            yield from ((id, found[id]) for id in some if isinstance(found.get(id), str))

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        self._engine.dispose()

    def _try_out(self) -> None:
        """Insert a decision and roll it back."""
        with self._plain_errors("stored"):
            path = file_of(self._url)
            if path is None:
                self._make_table()
                self._check_table()
                return
            with self._alone(path):
                make_file(path)
                close_to_others(path)
                self._create()
                self._check_table()

    def _check_table(self) -> None:
        there = {str(column["name"]) for column in inspect(self._engine).get_columns(_TABLE.name)}
        if lacking := {column.name for column in _TABLE.columns} - there:
            raise ArtifactError(
                f"{self.name}: has a table {_TABLE.name} of another program: it lacks {', '.join(sorted(lacking))}. "
                "Name another database with --feedback-url."
            )
        with self._engine.connect() as connection, connection.begin() as transaction:
            connection.execute(_TABLE.insert(), _as_row(Decision("", False, {}, {}, (), "")))
            transaction.rollback()

    def _put(self, decision: Decision, is_wanted: Callable[[], bool]) -> bool:
        """Write a decision; False: its file was moved meanwhile, so the next one would go to another file."""
        path = file_of(self._url)
        if path is None:
            self._make_table()
            with self._engine.connect() as connection:
                connection.execute(_TABLE.insert(), _as_row(decision))
                if is_wanted():
                    connection.commit()
            return True
        with self._alone(path):
            make_file(path)
            before = _identify(path)
            with self._engine.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # waits for other writers once, here
                connection.execute(_CREATE)  # each time: the file may have been replaced
                connection.execute(_TABLE.insert(), _as_row(decision))
                if not is_wanted():
                    return True
                connection.commit()  # the file is still open, so no other one can get its inode
                return before is not None and before == _identify(path)

    def _put_again(self, decision: Decision) -> None:
        """Write a decision again whose file was moved meanwhile: that file may have been kept or removed."""
        try:
            if self._put(decision, lambda: True):
                return
        except (SQLAlchemyError, ArtifactError, OSError):
            pass
        raise OutcomeUnknownError(f"{self.name}: repeatedly moved or replaced while a decision was written.")

    @contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        """Use an SQLite file, from before it is opened, while no other thread or process of ours does.

        SQLite finds the journal of a transaction by the file's name. If the file were moved while one process has the
        old file open and another writes to the new one, the first would take the other's journal for its own, and roll
        back the old file with it.
        """
        check_place(path)  # locking creates folders
        if not self._writing.acquire(timeout=WAIT_S):
            raise ArtifactError(f"{self.name}: too many decisions wait for it.")
        try:
            with claimed(path, "serve or feedback", wait_s=WAIT_S):
                yield
        finally:
            self._writing.release()

    def _make_table(self) -> None:
        """Create the table in PostgreSQL, once."""
        with self._lock:
            if not self._has_table:
                try:
                    self._create()
                except SQLAlchemyError:  # another process created it at the same time
                    self._create()
                self._has_table = True

    def _create(self) -> None:
        with self._engine.begin() as connection:
            connection.execute(_CREATE)

    def _read(self, query: Select[Any]) -> Sequence[Any]:
        """Rows of one query, read while nobody writes: a reader, too, could take another file's journal for its own."""
        path = file_of(self._url)
        with self._plain_errors("read"):
            can_lock = path is not None and os.access(path.parent, os.W_OK)  # else SQLite cannot roll back either
            with self._alone(path) if path is not None and can_lock else nullcontext():
                self._check_there()
                with self._engine.connect() as connection:
                    return connection.execute(query).all()

    def _check_there(self) -> None:
        """Refuse a missing file: reading creates none."""
        path = file_of(self._url)
        if path is not None and not path.is_file():
            raise ArtifactError(f"{self.name}: no such file; expected the feedback that `moderation serve` stored.")

    @contextmanager
    def _plain_errors(self, done: str) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, ArtifactError, OSError) as error:
            self._has_table = False  # whoever repairs the database may replace it with an empty one
            self.distrust()
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(
                f"{self.name}: feedback could not be {done} ({_kind(error)}). Check that the database exists, that "
                "this user may use it, and that its disk is not full."
            ) from None


def _identify(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file that has this name now; None: there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _as_row(decision: Decision) -> dict[str, object]:
    return {
        "received_at": datetime.now(UTC).isoformat(),
        "community_id": decision.community_id,
        "client_token": decision.client_token,
        "text_sha256": hashlib.sha256(decision.text.encode()).hexdigest(),
        "text": decision.text if decision.keep_text else None,
        "attribute_scores": decision.attribute_scores,
        "label_scores": decision.label_scores,
        "languages": list(decision.languages),
        "model_version": decision.model_version,
        "model_scores": decision.model_scores,
    }


def _as_decision(row: Any) -> StoredDecision | None:
    """A row as a decision; None: it is not one, because somebody else wrote or changed it."""
    text, scores, names = row.text, row.label_scores, (row.community_id, row.client_token)
    is_sound = (
        (text is None or _hash(text) == row.text_sha256)
        and isinstance(row.text_sha256, str)
        and isinstance(scores, dict)
        and all(label and _hash(label) and label.isprintable() and _is_score(score) for label, score in scores.items())
        and all(name is None or isinstance(name, str) for name in names)
    )
    return StoredDecision(row.id, row.text_sha256, text is not None, scores, *names) if is_sound else None


def _hash(text: object) -> str | None:
    """SHA-256 of a text; None: it is not a text, or cannot be encoded as UTF-8."""
    try:
        return hashlib.sha256(text.encode()).hexdigest() if isinstance(text, str) else None
    except UnicodeEncodeError:
        return None


def _is_score(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1  # type: ignore[operator]


def _is_undone(error: Exception) -> bool:
    """Whether a commit that failed with this error has certainly stored nothing.

    Removing the journal is what commits in SQLite. It reports these errors before that; others may come after it.
    """
    return getattr(getattr(error, "orig", None), "sqlite_errorname", None) in ("SQLITE_BUSY", "SQLITE_FULL")


def _kind(error: Exception) -> str:
    """Name of an error, the database's code for it and, if it could not connect, why."""
    cause = getattr(error, "orig", None)
    code = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None)
    why = tell_cause(cause) if code is None else ""
    return ": ".join(filter(None, [" ".join(filter(None, [type(error).__name__, code])), why]))
