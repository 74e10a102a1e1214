"""Moderators' decisions that clients send back, kept in a database: SQLite by default, PostgreSQL by its URL.

What a database says about an error may quote the row that it refused, and so a text: of its errors only the kind is
passed on.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import JSON, Column, Integer, MetaData, String, Table, inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateTable

from moderation.errors import ArtifactError
from moderation.serving.databases import file_of, make_file, open_database, read_url, show_url
from moderation.serving.decisions import WAIT_S, Decision, StoredDecision

CHECK_WITHIN_S = 15.0
"""Seconds that a look at the database takes at most; a name that cannot be found, say, may take longer by itself."""

_LOOK_AGAIN_S = 10.0  # after a look, or a decision, that failed

_METADATA = MetaData()
_TABLE = Table(
    "feedback",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("received_at", String(32), nullable=False),  # UTC, ISO 8601
    Column("community_id", String),
    Column("client_token", String),
    Column("text_sha256", String(64), nullable=False),
    Column("text", JSON(none_as_null=True)),  # a JSON string: PostgreSQL's own cannot hold the character NUL
    Column("attribute_scores", JSON, nullable=False),
    Column("label_scores", JSON, nullable=False),
    Column("languages", JSON, nullable=False),
    Column("model_version", String, nullable=False),
    Column("model_scores", JSON(none_as_null=True)),
)
_IDS_AT_ONCE = 500
_ROWS_AT_ONCE = 1000

logger = logging.getLogger(__name__)


class FeedbackStore:
    """The table `feedback` of a database, made at the first use. Threads and processes may share it.

    Args:
        url: As SQLAlchemy writes it: `sqlite:///FILE`, or `postgresql+psycopg://USER@HOST/DATABASE`.

    Raises:
        ConfigError: a URL that cannot be read, or of another kind of database.
        MissingExtraError: PostgreSQL without psycopg.

    Example:
        store = FeedbackStore("sqlite:///feedback.db")
    """

    def __init__(self, url: str) -> None:
        self._url = read_url(url)
        self.name = show_url(self._url)
        self._engine = open_database(self._url, WAIT_S)
        self._lock = threading.Lock()
        self._has_table = False
        self._works = True  # until something says otherwise
        self._looked_at = 0.0

    def check(self) -> None:
        """Find out whether a decision could be kept, without keeping one; the file or the table is made where it lacks.

        Raises:
            ArtifactError: it could not be, or there was no answer in time.
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
                f"{self.name}: no answer within {CHECK_WITHIN_S:g} s. Is its server running, and can it be reached?"
            )

    def look(self) -> None:
        """As `check`, for one who only wants to know: what is wrong goes into the log."""
        try:
            self.check()
        except ArtifactError as error:
            logger.error("no feedback can be kept", extra={"error": str(error)})

    def state(self) -> Literal["ready", "unavailable"]:
        """Whether decisions could be kept when it was last known; after a failure it is looked at again by and by."""
        if not self._works and time.monotonic() - self._looked_at > _LOOK_AGAIN_S:
            self._looked_at = time.monotonic()
            threading.Thread(target=self.look, name="feedback again", daemon=True).start()
        return "ready" if self._works else "unavailable"

    def add(self, decision: Decision) -> None:
        """Keep a decision; it is on disk when this returns.

        Raises:
            ArtifactError: the database cannot be reached, is locked or full.
        """
        with self._plain_errors("written"):
            self._make_table()
            with self._engine.begin() as connection:
                connection.execute(_TABLE.insert(), _as_row(decision))
        self._works = True

    def decisions(self) -> Iterator[StoredDecision]:
        """All decisions without their texts, the oldest first.

        Raises:
            ArtifactError: the database cannot be read, or there is none.
        """
        self._check_there()
        names = (_TABLE.c.community_id, _TABLE.c.client_token)
        columns = (_TABLE.c.id, _TABLE.c.text_sha256, _TABLE.c.text.is_not(None), _TABLE.c.label_scores, *names)
        query = _TABLE.select().with_only_columns(*columns).order_by(_TABLE.c.id)
        with self._plain_errors("read"), self._engine.connect() as connection:
            for row in connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query):
                yield StoredDecision(row[0], row[1], bool(row[2]), *row[3:])

    def texts(self, ids: Sequence[int]) -> Iterator[tuple[int, str]]:
        """Texts of decisions that have one, each with its id, in the order of `ids`.

        Raises:
            ArtifactError: the database cannot be read.
        """
        with self._plain_errors("read"), self._engine.connect() as connection:
            for start in range(0, len(ids), _IDS_AT_ONCE):
                some = ids[start : start + _IDS_AT_ONCE]
                query = _TABLE.select().with_only_columns(_TABLE.c.id, _TABLE.c.text).where(_TABLE.c.id.in_(some))
                found = {row.id: row.text for row in connection.execute(query)}
                yield from ((id, found[id]) for id in some if found.get(id) is not None)

    def close(self) -> None:
        """Let go of the connections; the next use opens new ones."""
        self._engine.dispose()

    def _try_out(self) -> None:
        """Put a decision in and take it back."""
        with self._plain_errors("kept"):
            self._make_table()
            there = {str(column["name"]) for column in inspect(self._engine).get_columns(_TABLE.name)}
            if lacking := {column.name for column in _TABLE.columns} - there:
                raise ArtifactError(
                    f"{self.name}: has a table {_TABLE.name} of something else: it lacks {', '.join(sorted(lacking))}. "
                    "Name another database with --feedback-url."
                )
            with self._engine.connect() as connection, connection.begin() as transaction:
                connection.execute(_TABLE.insert(), _as_row(Decision("", False, {}, {}, (), "")))
                transaction.rollback()

    def _make_table(self) -> None:
        with self._lock:
            if self._has_table:
                return
            if (path := file_of(self._url)) is not None:
                make_file(path)
            try:
                self._create()
            except SQLAlchemyError:  # PostgreSQL: another process made it at the very same time
                self._create()
            self._has_table = True

    def _create(self) -> None:
        with self._engine.begin() as connection:
            connection.execute(CreateTable(_TABLE, if_not_exists=True))

    def _check_there(self) -> None:
        """Reading makes no file."""
        path = file_of(self._url)
        if path is not None and not path.is_file():
            raise ArtifactError(f"{self.name}: no such file; expected the feedback that `moderation serve` stored.")

    @contextmanager
    def _plain_errors(self, done: str) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, ArtifactError) as error:
            self._has_table = False  # whoever cures the database may have put in an empty one
            self._works, self._looked_at = False, time.monotonic()
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(
                f"{self.name}: feedback could not be {done} ({_kind(error)}). Check that the database is there, that "
                "it may be used, and that its disk is not full."
            ) from None


def _as_row(decision: Decision) -> dict[str, Any]:
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


def _kind(error: SQLAlchemyError) -> str:
    """Name of an error, and the database's own code for it."""
    cause = getattr(error, "orig", None)
    code = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None)
    return " ".join(filter(None, [type(error).__name__, code]))
