"""Moderators' decisions that clients send back, kept in a database: SQLite by default, PostgreSQL by its URL.

What a database says about an error may quote the row that it refused, and so a text: of its errors only the kind is
passed on.
"""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from moderation.errors import ArtifactError
from moderation.serving.databases import Database, DatabaseError, make_file

WAIT_S = 5
"""Seconds that a decision waits for the database: for a connection, for a lock, or for PostgreSQL's answer."""

CHECK_WITHIN_S = 15.0
"""Seconds that a look at the database takes at most; a name that cannot be found, say, may take longer by itself."""

_LOOK_AGAIN_S = 10.0  # after a look, or a decision, that failed

_TABLE = """
CREATE TABLE IF NOT EXISTS feedback (
    id {number},
    received_at VARCHAR(32) NOT NULL,  -- UTC, ISO 8601
    community_id VARCHAR,
    client_token VARCHAR,
    text_sha256 VARCHAR(64) NOT NULL,
    text JSON,  -- a JSON string: PostgreSQL's own cannot hold the character NUL
    attribute_scores JSON NOT NULL,
    label_scores JSON NOT NULL,
    languages JSON NOT NULL,
    model_version VARCHAR NOT NULL,
    model_scores JSON
)"""
_COLUMNS = (
    "received_at", "community_id", "client_token", "text_sha256", "text", "attribute_scores", "label_scores",
    "languages", "model_version", "model_scores",
)  # fmt: skip
_INSERT = f"INSERT INTO feedback ({', '.join(_COLUMNS)}) VALUES ({', '.join(f':{name}' for name in _COLUMNS)})"
_IDS_AT_ONCE = 500

logger = logging.getLogger(__name__)


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
        community_id: Where the text stands, as the client calls it.
        client_token: The client's own name for its request.
    """

    id: int
    text_sha256: str
    has_text: bool
    label_scores: dict[str, float]
    community_id: str | None = None
    client_token: str | None = None


class FeedbackStore:
    """The table `feedback` of a database, made at the first use. Threads and processes may share it.

    Args:
        url: `sqlite:///FILE`, or `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`.

    Raises:
        ConfigError: a URL that cannot be read, or of another kind of database.
        MissingExtraError: PostgreSQL without psycopg.

    Example:
        store = FeedbackStore("sqlite:///feedback.db")
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url, WAIT_S)
        self.name = self._database.name
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
            self._database.write(_INSERT, _as_row(decision))
        self._works = True

    def decisions(self) -> Iterator[StoredDecision]:
        """All decisions without their texts, the oldest first.

        Raises:
            ArtifactError: the database cannot be read, or there is none.
        """
        self._check_there()
        query = (
            "SELECT id, text_sha256, text IS NOT NULL, CAST(label_scores AS VARCHAR), community_id, client_token "
            "FROM feedback ORDER BY id"
        )
        with self._plain_errors("read"):
            for id, text_sha256, has_text, label_scores, *names in self._database.read(query):
                yield StoredDecision(id, text_sha256, bool(has_text), json.loads(label_scores), *names)

    def texts(self, ids: Sequence[int]) -> Iterator[tuple[int, str]]:
        """Texts of decisions that have one, each with its id, in the order of `ids`.

        Raises:
            ArtifactError: the database cannot be read.
        """
        with self._plain_errors("read"):
            for start in range(0, len(ids), _IDS_AT_ONCE):
                some = {f"id{place}": id for place, id in enumerate(ids[start : start + _IDS_AT_ONCE])}
                marks = ", ".join(f":{name}" for name in some)
                query = f"SELECT id, CAST(text AS VARCHAR) FROM feedback WHERE text IS NOT NULL AND id IN ({marks})"
                found = {id: json.loads(text) for id, text in self._database.read(query, some)}
                yield from ((id, found[id]) for id in some.values() if id in found)

    def close(self) -> None:
        """Nothing to let go of: each use opens a connection and closes it."""

    def _try_out(self) -> None:
        """Put a decision in and take it back."""
        with self._plain_errors("kept"):
            self._make_table()
            if lacking := {"id", *_COLUMNS} - self._database.columns("feedback"):
                raise ArtifactError(
                    f"{self.name}: has a table feedback of something else: it lacks {', '.join(sorted(lacking))}. "
                    "Name another database with --feedback-url."
                )
            self._database.try_out(_INSERT, _as_row(Decision("", False, {}, {}, (), "")))

    def _make_table(self) -> None:
        with self._lock:
            if self._has_table:
                return
            if (path := self._database.path) is not None:
                make_file(path)
            query = _TABLE.format(number="SERIAL PRIMARY KEY" if path is None else "INTEGER NOT NULL PRIMARY KEY")
            try:
                self._database.write(query)
            except DatabaseError:  # PostgreSQL: another process made it at the very same time
                self._database.write(query)
            self._has_table = True

    def _check_there(self) -> None:
        """Reading makes no file."""
        path = self._database.path
        if path is not None and not path.is_file():
            raise ArtifactError(f"{self.name}: no such file; expected the feedback that `moderation serve` stored.")

    @contextmanager
    def _plain_errors(self, done: str) -> Iterator[None]:
        try:
            yield
        except (DatabaseError, ArtifactError) as error:
            self._has_table = False  # whoever cures the database may have put in an empty one
            self._works, self._looked_at = False, time.monotonic()
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(
                f"{self.name}: feedback could not be {done} ({error}). Check that the database is there, that "
                "it may be used, and that its disk is not full."
            ) from None


def _as_row(decision: Decision) -> dict[str, Any]:
    return {
        "received_at": datetime.now(UTC).isoformat(),
        "community_id": decision.community_id,
        "client_token": decision.client_token,
        "text_sha256": hashlib.sha256(decision.text.encode()).hexdigest(),
        "text": _as_json(decision.text if decision.keep_text else None),
        "attribute_scores": _as_json(decision.attribute_scores),
        "label_scores": _as_json(decision.label_scores),
        "languages": _as_json(list(decision.languages)),
        "model_version": decision.model_version,
        "model_scores": _as_json(decision.model_scores),
    }


def _as_json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)
