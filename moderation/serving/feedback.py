"""Moderators' decisions that clients send back, kept in a database: SQLite by default, PostgreSQL by its URL.

What a database says about an error may quote the row that it refused, and so a text: of its errors only the kind is
passed on.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, URL, Column, Engine, Integer, MetaData, String, Table, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.schema import CreateTable

from moderation.errors import ArtifactError, ConfigError, MissingExtraError

WAIT_S = 5
"""Seconds that a decision waits for the database: for a connection, for a lock, or for PostgreSQL's answer."""

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


@dataclass(frozen=True)
class Decision:
    """What a moderator decided about a text.

    Args:
        text: The text; its hash is always kept.
        keep_text: Whether the text itself is kept too.
        attribute_scores: Attribute -> score in [0, 1], as the client sent it.
        label_scores: The same by the label of the model that the attribute stands for.
        languages: ISO 639-1 codes that the client named, or the one detected.
        model_version: Of the model that served at that time.
        model_scores: Label -> probability that it gave; None: not known.
        community_id: Where the text stands, as the client calls it.
        client_token: The client's own name for its request.
    """

    text: str
    keep_text: bool
    attribute_scores: dict[str, float]
    label_scores: dict[str, float]
    languages: tuple[str, ...]
    model_version: str
    model_scores: dict[str, float] | None = None
    community_id: str | None = None
    client_token: str | None = None


@dataclass(frozen=True)
class StoredDecision:
    """A decision as it is read back, without its text.

    Args:
        id: Grows from decision to decision.
        text_sha256: Of the text's UTF-8, 64 hex digits.
        has_text: Whether the text was kept.
        label_scores: Label -> score in [0, 1].
    """

    id: int
    text_sha256: str
    has_text: bool
    label_scores: dict[str, float]


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
        self._url = _read_url(url)
        self.name = self._url.render_as_string(hide_password=True)
        self._engine = _make_engine(self._url)
        self._lock = threading.Lock()
        self._has_table = False

    def add(self, decision: Decision) -> None:
        """Keep a decision; it is on disk when this returns.

        Raises:
            ArtifactError: the database cannot be reached, is locked or full.
        """
        row = {
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
        with self._plain_errors("written"):
            self._make_table()
            with self._engine.begin() as connection:
                connection.execute(_TABLE.insert(), row)

    def decisions(self) -> Iterator[StoredDecision]:
        """All decisions without their texts, the oldest first.

        Raises:
            ArtifactError: the database cannot be read, or there is none.
        """
        self._check_there()
        columns = (_TABLE.c.id, _TABLE.c.text_sha256, _TABLE.c.text.is_not(None), _TABLE.c.label_scores)
        query = _TABLE.select().with_only_columns(*columns).order_by(_TABLE.c.id)
        with self._plain_errors("read"), self._engine.connect() as connection:
            for row in connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query):
                yield StoredDecision(row[0], row[1], bool(row[2]), row[3])

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

    def _make_table(self) -> None:
        with self._lock:
            if self._has_table:
                return
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
        if self._url.get_backend_name() == "sqlite" and not Path(self._url.database or "").is_file():
            raise ArtifactError(f"{self.name}: no such file; expected the feedback that `moderation serve` stored.")

    @contextmanager
    def _plain_errors(self, done: str) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            self._has_table = False  # whoever cures the database may have put in an empty one
            raise ArtifactError(
                f"{self.name}: feedback could not be {done} ({_kind(error)}). Check that the database is there, that "
                "it may be used, and that its disk is not full."
            ) from None


def _read_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(
            "--feedback-url: not the URL of a database; expected sqlite:///FILE or "
            "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE."
        ) from None
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise ConfigError(f"--feedback-url: a database of kind {backend!r}; expected sqlite or postgresql.")
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigError("--feedback-url: SQLite without a file would forget at once; expected sqlite:///FILE.")
    return parsed


def _make_engine(url: URL) -> Engine:
    sqlite = url.get_backend_name() == "sqlite"
    limits: dict[str, Any] = (
        {"timeout": WAIT_S}
        if sqlite
        else {"connect_timeout": WAIT_S, "options": f"-c statement_timeout={1000 * WAIT_S:.0f}"}
    )
    try:
        engine = create_engine(
            url,
            hide_parameters=True,
            json_serializer=partial(json.dumps, ensure_ascii=False),
            pool_timeout=WAIT_S,
            pool_pre_ping=not sqlite,
            connect_args=limits,
        )
    except ImportError:
        raise MissingExtraError(f"Feedback by {url.drivername}", "serve-postgres") from None
    except ArgumentError:
        raise ConfigError("--feedback-url: no such driver; expected postgresql+psycopg://...") from None
    if sqlite:
        event.listen(engine, "connect", _read_while_others_write)
    return engine


def _read_while_others_write(connection: Any, record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")


def _kind(error: SQLAlchemyError) -> str:
    """Name of an error, and the database's own code for it."""
    cause = getattr(error, "orig", None)
    code = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None)
    return " ".join(filter(None, [type(error).__name__, code]))
